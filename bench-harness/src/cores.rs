//! Which core a thread is pinned to: by the machine's topology, as Linux tells it.
//!
//! One thread to a physical core while there are any, those that share a last-level cache first, then those of the same NUMA node;
//! second hardware threads of a core only when all cores have one. Where the system tells nothing, in the order of numbers.

use std::{collections::BTreeSet, fs, path::Path, sync::OnceLock, thread};

use core_affinity::CoreId;

/// A hardware thread and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    cpu: usize,
    node: usize,
    /// The first hardware thread that shares the last-level cache: names the cache.
    cache: usize,
    /// Which of its core's hardware threads it is, from 0.
    sibling: usize,
}

/// The cores this process may use, in the order in which threads get them.
#[derive(Clone, Debug)]
pub struct Cores(Vec<Place>);

impl Cores {
    /// Asked once: a thread that is pinned, and those it begins, would be told of one core only.
    pub fn of_process() -> &'static Self {
        static CORES: OnceLock<Cores> = OnceLock::new();
        CORES.get_or_init(|| {
            let allowed = core_affinity::get_core_ids().unwrap_or_default();
            Self::in_order(allowed.iter().map(|core| place(core.id)).collect())
        })
    }

    fn in_order(mut places: Vec<Place>) -> Self {
        places.sort_by_key(|place| (place.sibling, place.node, place.cache, place.cpu));
        Self(places)
    }

    /// Whether the system pins threads here, and does not only tell what cores there are. Tried once, on a thread made for it.
    pub fn pins(&self) -> bool {
        static PINS: OnceLock<bool> = OnceLock::new();
        *PINS.get_or_init(|| {
            thread::scope(|scope| {
                let tried = scope.spawn(|| self.all_pin(core_affinity::set_for_current));
                tried.join().unwrap_or(false)
            })
        })
    }

    fn all_pin(&self, set: impl Fn(CoreId) -> bool) -> bool {
        !self.0.is_empty() && self.0.iter().all(|place| set(CoreId { id: place.cpu }))
    }

    /// Pins the calling thread to the core for thread `index`; around again when there are more threads than cores.
    pub fn pin(&self, index: usize) {
        if !self.0.is_empty() {
            core_affinity::set_for_current(CoreId {
                id: self.0[index % self.0.len()].cpu,
            });
        }
    }

    /// Whether the threads of these indices are pinned to different cores.
    pub fn are_apart(&self, first: usize, second: usize) -> bool {
        self.pins() && first % self.0.len() != second % self.0.len()
    }

    /// What there is, in a few words.
    pub fn describe(&self) -> String {
        let count = |key: fn(&Place) -> usize| self.0.iter().map(key).collect::<BTreeSet<_>>().len();
        let physical = self.0.iter().filter(|place| place.sibling == 0).count();
        let order: Vec<_> = self.0.iter().take(8).map(|place| place.cpu.to_string()).collect();
        let more = if self.0.len() > 8 { ", …" } else { "" };
        let pinned = if self.pins() {
            format!("threads are pinned to {}{more} in this order", order.join(", "))
        } else {
            "threads cannot be pinned here".to_owned()
        };
        format!(
            "{physical} physical cores, {} hardware threads, {} last-level caches, {} NUMA nodes; {pinned}",
            self.0.len(),
            count(|place| place.cache),
            count(|place| place.node),
        )
    }
}

fn place(cpu: usize) -> Place {
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
    let folder = Path::new(&folder);
    let list = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        parse_list(&text)
    };
    let node = fs::read_dir(folder).ok().and_then(|entries| {
        entries
            .flatten()
            .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
    });
    // The highest index there is: the last level.
    let cache = (0..8).rev().find_map(|index| {
        list(&format!("cache/index{index}/shared_cpu_list"))
            .first()
            .copied()
    });
    let siblings = list("topology/thread_siblings_list");
    Place {
        cpu,
        node: node.unwrap_or(0),
        cache: cache.unwrap_or(0),
        sibling: siblings.iter().position(|&sibling| sibling == cpu).unwrap_or(0),
    }
}

/// `0-3,8` as its numbers.
fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores() {
        assert_eq!(parse_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_list("5"), [5]);
        assert_eq!(parse_list(""), [0; 0]);
    }

    #[test]
    fn a_refused_pin_is_no_pin() {
        let place = |cpu| Place {
            cpu,
            node: 0,
            cache: 0,
            sibling: 0,
        };
        let cores = Cores::in_order(vec![place(0), place(1)]);
        assert!(cores.all_pin(|_| true));
        assert!(!cores.all_pin(|_| false) && !cores.all_pin(|core| core.id == 0));
        assert!(!Cores::in_order(Vec::new()).all_pin(|_| true));
        let before = thread::available_parallelism().unwrap();
        let _ = cores.pins();
        assert_eq!(
            thread::available_parallelism().unwrap(),
            before,
            "who asks is not pinned"
        );
    }

    #[test]
    fn cores_before_their_siblings_and_near_before_far() {
        // Two nodes of two caches with one core of two threads each, numbered as is usual: second threads last.
        let place = |cpu: usize| Place {
            cpu,
            node: cpu % 2,
            cache: cpu % 4,
            sibling: cpu / 4,
        };
        let cores = Cores::in_order((0..8).map(place).collect());
        let order: Vec<_> = cores.0.iter().map(|place| place.cpu).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert!(
            cores
                .describe()
                .starts_with("4 physical cores, 8 hardware threads, 4 last-level caches, 2 NUMA nodes")
        );
    }
}
