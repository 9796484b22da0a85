//! Which mutant is in force. This file is not part of the ledger: `ordering-mutants` puts it into a copy of it, in which
//! every ordering is asked for here.

#![allow(missing_docs, missing_debug_implementations, clippy::disallowed_types, clippy::disallowed_methods)]

use std::{
    env,
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{
        Mutex, OnceLock,
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

/// The ordering of a load or store.
pub fn ordering(site: usize, written: Ordering) -> Ordering {
    match change_at(site) {
        Some(Change::To(weaker)) => weaker,
        _ => written,
    }
}

/// The ordering of a read-modify-write.
///
/// loom takes SeqCst for AcqRel; [`super::after_rmw`] is what makes it more, so it goes when the last SeqCst read-modify-write
/// before it is weakened.
pub fn rmw(site: usize, written: Ordering) -> Ordering {
    let change = change_at(site);
    if written == Ordering::SeqCst && !orders().changes.is_empty() {
        last_rmw(Some(if change.is_some() { LastRmw::Weakened } else { LastRmw::AsWritten }));
    }
    match change {
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

/// [`super::after_rmw`].
pub fn after_rmw(site: usize) {
    let is_gone = change_at(site).is_some();
    let last = if orders().changes.is_empty() { None } else { last_rmw(None) };
    if !is_gone && last != Some(LastRmw::Weakened) {
        super::after_rmw();
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

#[derive(Clone, Copy, PartialEq)]
enum LastRmw {
    AsWritten,
    Weakened,
}

/// Takes note of a SeqCst read-modify-write, or of a fence behind it: what there was before, by thread of the model.
fn last_rmw(next: Option<LastRmw>) -> Option<LastRmw> {
    // More than a model has threads: what finished executions have left behind is forgotten by and by.
    const MOST: usize = 16;
    static LAST: Mutex<Vec<(loom::thread::ThreadId, LastRmw)>> = Mutex::new(Vec::new());

    let me = loom::thread::current().id();
    let mut all = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let at = all.iter().position(|(thread, _)| *thread == me);
    let before = at.map(|at| all.remove(at).1);
    if let Some(next) = next {
        if all.len() == MOST {
            all.remove(0);
        }
        all.push((me, next));
    }
    before
}
