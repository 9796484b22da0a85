//! Which step of the ledger is done wrong. This file is no part of the ledger: `cargo xtask explore-faults` puts it into a copy, to
//! which the patches beside it have been applied.

use std::{env, sync::OnceLock};

/// Whether the step of this name is the one that `EPOQ_FAULT` asks for.
pub(crate) fn is(name: &str) -> bool {
    static IN_FORCE: OnceLock<Option<String>> = OnceLock::new();
    IN_FORCE.get_or_init(|| env::var("EPOQ_FAULT").ok()).as_deref() == Some(name)
}
