//! Reports of suites: one self-contained HTML page with plots as SVG, no script, and a summary in Markdown.
//!
//! Everything is made from [`Results`](crate::suite::results::Results) alone, so that a page can be made anew from a file.

pub mod axes;
pub mod comparison;
pub mod curves;
pub mod headlines;
pub mod html;
pub mod markdown;
pub mod method;
pub mod plot;
pub mod scaling;
pub mod words;
