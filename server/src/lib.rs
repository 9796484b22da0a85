//! An SQS server in one process: the [`epoq`] ledger behind Amazon SQS's wire protocols.
//!
//! ```text
//! net        sockets, threads (one per core), connections, TLS
//!  └─ handler   a request's head, limits, signature, log, counters
//!      ├─ protocol   bytes -> Input, Answer -> bytes; no I/O
//!      └─ service    the 23 operations: SQS's rules and texts around the ledger
//!          └─ epoq   the ledger
//! ```
//!
//! ```no_run
//! use epoq_server::{Config, Server};
//! let running = Server::new(Config::default()).start()?;
//! println!("http://{}", running.address());
//! running.shutdown();
//! # Ok::<(), anyhow::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod config;
pub mod error;
mod metrics;
mod net;
pub mod protocol;
mod service;
mod signature;

pub use config::Config;
pub use net::{Running, Server};
