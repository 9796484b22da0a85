//! The lock-free ledger: who owns which message, and nothing of what makes it a queue. All unsafe code but two
//! accessors in `delivery.rs`.
//!
//! ```text
//! Partition   tail, head, returned, index, pool
//! └─ Segment  ready words, live count, arena
//!    └─ Slot  one state word; one entry; in FIFO queues a link to its message group
//! ```
//!
//! Modules use only modules above them in this list: `state`, `slot`, `hint`, `segment`, `chunks`, `traffic`, `reclaim`,
//! `published`, `index`, `pool`, `returned`, `partition`, `lease`, `group`, `look`, `expiry`, `tend`, `pile`, `graveyard`.
#![cfg_attr(
    not(loom),
    allow(unreachable_pub, reason = "public to the models only, see lib.rs")
)]

pub mod chunks;
pub mod expiry;
pub mod graveyard;
pub mod group;
pub mod hint;
pub mod index;
pub mod lease;
pub mod look;
pub mod partition;
pub mod pile;
pub mod pool;
pub mod published;
pub mod reclaim;
pub mod returned;
pub mod segment;
pub mod slot;
pub mod state;
pub mod tenants;
pub mod tend;
pub mod traffic;
