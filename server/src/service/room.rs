//! What queues may hold beside messages: tags, policies, keys' names. Bounded over all queues together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::error::{Kind, ServiceError};

/// How many bytes are held, and how many may be.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicUsize,
    limit: usize,
}

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

// Relaxed throughout: a count that nothing else rests on.
impl Room {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    /// So many bytes.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Held, ServiceError> {
        self.take(bytes, 0)
    }

    /// So many bytes, of which some are in the place of others that are about to be given back.
    fn take(self: &Arc<Self>, bytes: usize, instead_of: usize) -> Result<Held, ServiceError> {
        let used = self
            .used
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        let held = Held {
            room: Arc::clone(self),
            bytes,
        };
        // Whoever wants less than there was is not refused it, however full it is.
        if bytes <= instead_of || used.saturating_sub(instead_of) <= self.limit {
            return Ok(held);
        }
        Err(ServiceError::new(
            Kind::OverLimit,
            "The tags and attributes of all queues together take up all that the server has room for.",
        ))
    }
}

impl Held {
    /// So many bytes, to be put in this one's place.
    pub(crate) fn instead(&self, bytes: usize) -> Result<Self, ServiceError> {
        self.room.take(bytes, self.bytes)
    }

    pub(crate) fn give_back(&mut self) {
        self.room.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_anothers_place_counts_once() {
        let room = Room::new(10);
        let (mut one, other) = (room.hold(4).unwrap(), room.hold(4).unwrap());
        assert_eq!(room.hold(3).unwrap_err().kind, Kind::OverLimit);
        one = one.instead(6).unwrap();
        assert!(one.instead(7).is_err() && room.hold(1).is_err());
        one = one.instead(5).unwrap();
        drop(other);
        one = one.instead(10).unwrap();
        drop(one);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }
}
