//! `rapidfire`: hand-over only, no lease.
//!
//! Blocks of 63 messages. Only what does not wait is called here, so no executor is needed. With one receiver it is the
//! channel that is made for that, `rapidfire::mpsc`, whose receives may be batches; with several it is the general one, which has no
//! batches, so a batch is as many calls.

use std::{
    fmt,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use ::rapidfire::{Receiver, Sender, mpsc, unbounded};

use super::hand_over::{Body, Ends, HandOverSession};
use crate::target::{BATCH_MAX, Counts, Refusal, Target, TargetConfig};

/// Both ends.
pub struct Rapidfire {
    sender: Sender<Body>,
    receivers: Receivers,
}

enum Receivers {
    Many(Receiver<Body>),
    /// Whoever receives first takes it, until its session is over.
    One(Mutex<Option<mpsc::Receiver<Body>>>),
}

/// Both ends, borrowed.
pub struct RapidfireEnds<'t> {
    queue: &'t Rapidfire,
    /// The only receiver, if this thread has it.
    receiver: Option<mpsc::Receiver<Body>>,
    /// What a batch is received into.
    batch: Vec<Body>,
}

impl fmt::Debug for Rapidfire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rapidfire").finish_non_exhaustive()
    }
}

impl fmt::Debug for RapidfireEnds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RapidfireEnds").finish_non_exhaustive()
    }
}

fn lock(receiver: &Mutex<Option<mpsc::Receiver<Body>>>) -> MutexGuard<'_, Option<mpsc::Receiver<Body>>> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Target for Rapidfire {
    const NAME: &'static str = "rapidfire";
    const LEASES: bool = false;
    type Session<'t> = HandOverSession<RapidfireEnds<'t>>;

    fn build(config: &TargetConfig) -> anyhow::Result<Self> {
        Ok(if config.receivers == 1 {
            let (sender, receiver) = mpsc::unbounded();
            Self {
                sender,
                receivers: Receivers::One(Mutex::new(Some(receiver))),
            }
        } else {
            let (sender, receiver) = unbounded();
            Self {
                sender,
                receivers: Receivers::Many(receiver),
            }
        })
    }

    fn session(&self, _: usize) -> anyhow::Result<HandOverSession<RapidfireEnds<'_>>> {
        Ok(HandOverSession(RapidfireEnds {
            queue: self,
            receiver: None,
            batch: Vec::with_capacity(BATCH_MAX),
        }))
    }

    fn counts(&self) -> Counts {
        Counts {
            visible: self.sender.len() as u64,
            in_flight: 0,
        }
    }
}

impl RapidfireEnds<'_> {
    /// Up to `max` messages into `batch` from the only receiver; none if another thread has it.
    #[inline(always)]
    fn fetch_alone(&mut self, one: &Mutex<Option<mpsc::Receiver<Body>>>, max: usize) {
        if self.receiver.is_none() {
            self.receiver = lock(one).take();
        }
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        if max == 1 {
            self.batch.extend(receiver.try_recv());
        } else if !receiver.is_empty() {
            // Asked once: what is ready is answered at once, and where nothing is, nothing is lost by dropping the question.
            let many = pin!(receiver.recv_many(&mut self.batch, max));
            let _: Poll<_> = many.poll(&mut Context::from_waker(Waker::noop()));
        }
        // Taken from the end.
        self.batch.reverse();
    }
}

impl Ends for RapidfireEnds<'_> {
    #[inline(always)]
    fn push(&mut self, body: Body) -> Result<(), Refusal> {
        self.queue
            .sender
            .try_send(body)
            .map_err(|_| Refusal("disconnected"))
    }

    #[inline(always)]
    fn fetch(&mut self, max: usize) {
        if let Receivers::One(one) = &self.queue.receivers {
            self.fetch_alone(one, max);
        }
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<Body> {
        match &self.queue.receivers {
            Receivers::Many(receiver) => receiver.try_recv().ok(),
            Receivers::One(_) => self.batch.pop(),
        }
    }
}

impl Drop for RapidfireEnds<'_> {
    fn drop(&mut self) {
        if let (Receivers::One(one), Some(receiver)) = (&self.queue.receivers, self.receiver.take()) {
            *lock(one) = Some(receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::target::{Bodies, Calls, Handles};

    /// Of each body the first byte.
    fn receive(session: &mut HandOverSession<RapidfireEnds<'_>>, max: usize) -> Vec<u8> {
        let (mut bodies, mut handles) = (Bodies::default(), Handles::new());
        let received = session.receive(max, Duration::ZERO, &mut handles, &mut bodies);
        assert_eq!(received, Ok(bodies.0.len()));
        session.delete_batch(&mut handles);
        bodies.0.iter().map(|body| body[0]).collect()
    }

    #[test]
    fn batches_come_in_order_from_either_kind() {
        for receivers in [1, 2] {
            let config = TargetConfig {
                receivers,
                ..TargetConfig::for_test()
            };
            let queue = Rapidfire::build(&config).unwrap();
            assert_eq!(matches!(queue.receivers, Receivers::One(_)), receivers == 1);
            let (mut sender, mut receiver) = (queue.session(0).unwrap(), queue.session(1).unwrap());
            assert_eq!(receive(&mut receiver, 10), [0; 0]);
            for n in 0..13 {
                sender.send(&[n]).unwrap();
            }
            assert_eq!(queue.counts().visible, 13);
            assert_eq!(receive(&mut receiver, 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
            assert_eq!(receive(&mut receiver, 1), [10]);
            assert_eq!(receive(&mut receiver, 10), [11, 12]);
            assert_eq!(receive(&mut receiver, 10), [0; 0]);
            // Who comes after finds what is left.
            sender.send(&[13]).unwrap();
            drop(receiver);
            assert_eq!(receive(&mut sender, 10), [13]);
            assert_eq!(queue.counts(), Counts::default());
        }
    }
}
