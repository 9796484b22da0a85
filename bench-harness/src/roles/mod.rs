//! What a thread does between the barriers, by [`Role`](crate::topology::Role).

pub(crate) mod consumer;
pub(crate) mod cycler;
pub(crate) mod producer;
