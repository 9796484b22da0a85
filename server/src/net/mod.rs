//! Sockets, connections and threads.

mod budget;
mod files;
mod handler;
mod page;
mod patience;
mod peer;
mod scrape;
mod server;
mod tls;

pub use server::{Running, Server};
