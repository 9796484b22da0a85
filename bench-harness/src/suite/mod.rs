//! The suite: sweeps of one setting at a time, each point of each curve a run that proves that nothing was lost.
//!
//! ```text
//! sweep (TOML) ──▶ curves ──▶ points ──▶ experiments, passes of all targets in turn ──▶ results.json ──▶ page, summary
//! quick.toml       vary: batch  1 2 5 10                                                results.rs       crate::page
//! ```
//!
//! A [`Sweep`](sweep::Sweep) says which curves; [`Measurer`](measure::Measurer) makes [`Results`](results::Results) of it, which
//! are all that a report knows. A law of scaling is fitted in [`usl`]; two runs are laid side by side in [`regression`].

pub mod axis;
pub mod command;
pub mod measure;
pub mod regression;
pub mod results;
pub mod stop;
pub mod sweep;
pub mod usage;
pub mod usl;
