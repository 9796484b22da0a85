//! The harness of epoq: drives a message queue at full speed, and proves in the same run that nothing was lost.
//!
//! ```text
//!                    coordinator: phases, memory, progress              ┌──────────────┐
//!          ┌──────────────┬──────┴───────┬─────────────┐                │ settlement   │
//!          ▼              ▼              ▼             ▼                │  conservation│
//!   ┌─────────────┐┌─────────────┐┌─────────────┐                       │  no double   │
//!   │ thread 0    ││ thread 1    ││ thread 2 …  │ one per core, pinned  │   lease      │
//!   │  bodies     ││  bodies     ││  bodies     │ prepared before clock │  integrity   │
//!   │  books ─────┼┼─ books ─────┼┼─ books ─────┼──── after the drain ─▶│  nothing left│
//!   │  samples    ││  samples    ││  samples    │                       └──────────────┘
//!   │  session    ││  session    ││  session    │
//!   └──┬──▲───────┘└──┬──▲───────┘└──┬──▲───────┘
//! send ▼  │ receive,  ▼  │           ▼  │
//!      │  │ delete    │  │           │  │
//!   ┌──▼──┴───────────▼──┴───────────▼──┴──────┐
//!   │ target: epoq │ locked │ channel │ queue  │ statically dispatched
//!   └──────────────────────────────────────────┘
//! ```
//!
//! A run is one [`Plan`](plan::Plan) on one [`Target`](target::Target): threads are made, pinned and registered, the queue is
//! filled, and only then does the clock start ([`run`]). Each thread checks every message it receives and writes down its id in a
//! private bitmap; after the run everything is drained and the books are laid side by side ([`check`]). A fast wrong answer is a
//! failure: it is reported as one, and the process exits with an error.
//!
//! What the harness itself costs is measured over a target that does next to nothing ([`overhead`]), and stands in every report.
//! A [`suite`] sweeps one setting at a time and makes a [`page`] of plots.
//! Comparisons interleave the passes of their targets and report ratios pass by pass ([`compare`]).
//!
//! To put another queue under test: implement [`Target`](target::Target), and give it a name in [`targets`].

pub mod aim;
pub mod check;
pub mod cli;
pub mod command;
pub mod compare;
pub mod cores;
pub mod counters;
pub mod distance;
pub mod environment;
pub mod fifo;
pub mod id_set;
pub mod latency;
#[cfg(lines)]
pub mod lines;
pub mod memory;
pub mod noise;
pub mod overhead;
pub mod page;
pub mod placement;
pub mod plan;
pub mod progress;
pub mod ratio;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scenarios;
pub mod shared;
pub mod standard;
pub mod suite;
pub mod target;
pub mod targets;
pub mod topology;
pub mod wire;
pub mod workload;

mod hand;
mod roles;
mod schedule;
