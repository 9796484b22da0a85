//! Sockets, connections and threads.

mod budget;
mod handler;
mod patience;
mod server;
mod tls;

pub use server::{Running, Server};
