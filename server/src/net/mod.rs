//! Sockets, connections and threads.

mod budget;
mod files;
mod handler;
mod patience;
mod scrape;
mod server;
mod tls;

pub use server::{Running, Server};
