//! The files that the process may have open: each connection is one.
#![cfg_attr(not(unix), allow(dead_code, reason = "there is no limit"))]

/// Files open for other things than connections: standard streams, signals, certificates, and what else the process does.
const OTHERS: usize = 64;
/// The same for each serving thread: its listener and its runtime.
const OTHERS_PER_THREAD: usize = 8;

/// How many of so many `configured` connections there can be. The process's limit is raised for them as far as the system lets it.
#[cfg(unix)]
pub(super) fn connections(configured: usize, turned_away: usize, threads: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let others = OTHERS
        .saturating_add(OTHERS_PER_THREAD.saturating_mul(threads))
        .saturating_add(turned_away);
    let needed = u64::try_from(configured.saturating_add(others)).unwrap_or(u64::MAX);
    let limit = getrlimit(Resource::Nofile);
    let mut files = limit.current;
    if files.is_some_and(|files| files < needed) {
        let raised = Rlimit {
            current: Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed))),
            ..limit
        };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => files = raised.current,
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    let connections = room(configured, files, others);
    if connections < configured {
        tracing::warn!(
            configured,
            files,
            connections,
            "limits.connections is more than the limit of open files leaves room for: there can be fewer"
        );
    }
    connections
}

/// Elsewhere there is no such limit.
#[cfg(not(unix))]
pub(super) fn connections(configured: usize, _turned_away: usize, _threads: usize) -> usize {
    configured
}

/// How many connections there is room for beside `others` in so many files, one at least.
fn room(configured: usize, files: Option<u64>, others: usize) -> usize {
    let Some(files) = files else { return configured };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    // Where there are hardly any, half of them.
    let left = files - others.min(files / 2);
    configured.min(left).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_beside_what_else_is_open() {
        assert_eq!(room(20_000, None, 300), 20_000);
        assert_eq!(room(20_000, Some(1 << 20), 300), 20_000);
        assert_eq!(room(20_000, Some(1_024), 300), 724);
        assert_eq!(room(20_000, Some(100), 300), 50);
        assert_eq!(room(20_000, Some(0), 300), 1);
        assert_eq!(room(3, Some(1_024), 300), 3);
    }
}
