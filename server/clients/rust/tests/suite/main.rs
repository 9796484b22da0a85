//! aws-sdk-sqs, as AWS publishes it, against the server whose program `EPOQ_SERVER` names: the semantics that people rely on, as the SDK
//! shows them. It checks no digests, so that [`queue::Queue`] does.

mod batch;
mod dead_letters;
mod digest;
mod fifo;
mod limits;
mod queue;
mod queues;
mod refusal;
mod server;
mod standard;
