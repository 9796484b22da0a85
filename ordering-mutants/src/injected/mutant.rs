//! Which mutant is in force. This file is not part of the ledger: `ordering-mutants` puts it into a copy of it, in which
//! every ordering is asked for here.

#![allow(missing_docs, missing_debug_implementations, clippy::disallowed_types, clippy::disallowed_methods)]

use std::{
    env,
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering as Real},
    },
};

use super::Ordering;

/// How many sites there are; written by the tool.
const SITES: usize = 0;

static REACHED: [AtomicBool; SITES] = [const { AtomicBool::new(false) }; SITES];
static ORDERS: OnceLock<Orders> = OnceLock::new();

/// What the environment asks for.
#[derive(Default)]
struct Orders {
    /// `EPOQ_MUTANT`, such as `17=Relaxed,4=gone`.
    changes: Vec<(usize, Change)>,
    /// `EPOQ_REACHED`: where to write which sites were reached.
    reached: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Change {
    To(Ordering),
    Gone,
}

fn orders() -> &'static Orders {
    ORDERS.get_or_init(|| Orders {
        changes: env::var("EPOQ_MUTANT").map_or_else(|_| Vec::new(), |text| {
            let change = |part: &str| {
                let (site, to) = part.split_once('=').expect("SITE=CHANGE");
                let to = match to {
                    "gone" => Change::Gone,
                    "Relaxed" => Change::To(Ordering::Relaxed),
                    "Acquire" => Change::To(Ordering::Acquire),
                    "Release" => Change::To(Ordering::Release),
                    "AcqRel" => Change::To(Ordering::AcqRel),
                    other => panic!("no change {other}"),
                };
                (site.parse().expect("a number"), to)
            };
            text.split(',').filter(|part| !part.is_empty()).map(change).collect()
        }),
        reached: env::var_os("EPOQ_REACHED").map(PathBuf::from),
    })
}

fn change_at(site: usize) -> Option<Change> {
    let orders = orders();
    if let Some(path) = &orders.reached {
        if !REACHED[site].swap(true, Real::Relaxed) {
            let file = OpenOptions::new().append(true).create(true).open(path);
            writeln!(file.expect("the file of reached sites"), "{site}").expect("room for a number");
        }
    }
    orders.changes.iter().find(|(at, _)| *at == site).map(|(_, change)| *change)
}

/// The ordering of an access.
pub fn ordering(site: usize, written: Ordering) -> Ordering {
    match change_at(site) {
        Some(Change::To(weaker)) => weaker,
        _ => written,
    }
}

/// [`super::fence`].
pub fn fence(site: usize, written: Ordering) {
    match change_at(site) {
        None => super::fence(written),
        Some(Change::To(weaker)) => super::fence(weaker),
        Some(Change::Gone) => {}
    }
}

/// [`super::fence_behind_rmw`].
pub fn fence_behind_rmw(site: usize) {
    if change_at(site).is_none() {
        super::fence_behind_rmw();
    }
}

/// Whether the two halves of a hand-over change places.
pub fn is_swapped(site: usize) -> bool {
    change_at(site).is_some()
}
