//! The threads: more of them than cores, each of which lives for some seconds and is replaced by another one of its role.

use std::{sync::atomic::Ordering::Relaxed, thread, time::Duration};

use crate::{
    receivers::{self, Receiver},
    senders,
    stage::{Random, Stage},
};

/// More messages of one sender than there can be at a time.
const MESSAGES_MAX: usize = 800_000;

/// What a thread does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    SendStandard,
    SendFifo,
    SendSide,
    Receive(usize),
    ReceiveFifo(usize),
    ReceiveDead,
    ReceiveDeadFifo,
    ReceiveSide,
}

/// All roles, for so many threads per core.
pub(crate) fn roles(stage: &Stage, threads: usize) -> Vec<Role> {
    use Role::*;
    let mut roles = vec![
        SendFifo,
        SendFifo,
        SendSide,
        ReceiveDead,
        ReceiveDeadFifo,
        ReceiveSide,
    ];
    roles.extend((0..stage.fifo.len()).flat_map(|queue| [ReceiveFifo(queue); 2]));
    // The rest, two who receive for each who sends.
    let rest = threads.saturating_sub(roles.len()).max(3 * stage.standard.len());
    let mut queue = 0;
    for at in 0..rest {
        if at % 3 == 0 {
            roles.push(SendStandard);
        } else {
            roles.push(Receive(queue % stage.standard.len()));
            queue += 1;
        }
    }
    roles
}

impl Role {
    fn sends(self) -> bool {
        matches!(self, Self::SendStandard | Self::SendFifo | Self::SendSide)
    }

    /// One life.
    fn live(self, stage: &Stage, place: usize, random: &mut Random) {
        let end = stage.now() + 500 + random.below(8_000);
        let (queue, groups) = match self {
            Self::SendStandard => return senders::standard(stage, place, random, end),
            Self::SendFifo => return senders::fifo(stage, place, random, end),
            Self::SendSide => return senders::side(stage, random, end),
            Self::ReceiveSide => return receivers::side(stage, random, end),
            Self::Receive(at) => (&stage.standard[at], None),
            Self::ReceiveFifo(at) => (&stage.fifo[at].queue, Some(&stage.fifo[at].groups)),
            Self::ReceiveDead => (&stage.dead, None),
            Self::ReceiveDeadFifo => (&stage.dead_fifo, None),
        };
        Receiver::new(stage, queue, groups).run(random, end);
    }

    /// Whether its work is done.
    fn is_over(self, stage: &Stage) -> bool {
        if self.sends() {
            stage.is_closing()
        } else {
            stage.is_over()
        }
    }
}

/// Runs all threads, until all is over: one that comes to the end of its life is joined and another one takes its place.
pub(crate) fn run(stage: &Stage, roles: &[Role], seed: u64) {
    thread::scope(|scope| {
        for (place, &role) in roles.iter().enumerate() {
            if matches!(role, Role::SendStandard) {
                stage.books.make_room(place, MESSAGES_MAX);
            }
            scope.spawn(move || {
                let mut life = 0_u64;
                while !role.is_over(stage) {
                    let mut random = Random(seed ^ (place as u64) << 48 ^ life << 16);
                    // A thread of its own, so that its registration with the broker ends with it.
                    thread::scope(|scope| {
                        scope.spawn(|| role.live(stage, place, &mut random));
                    });
                    stage.events.died.fetch_add(1, Relaxed);
                    life += 1;
                }
            });
        }
        let mut random = Random(seed);
        while !stage.is_closing() {
            // Flood, and now and then ebb.
            rest(stage, random.millis(8_000, 16_000));
            stage.is_ebb.store(true, Relaxed);
            rest(stage, random.millis(1_000, 3_000));
            stage.is_ebb.store(false, Relaxed);
        }
    });
}

fn rest(stage: &Stage, time: Duration) {
    let until = stage.elapsed() + time;
    while stage.elapsed() < until && !stage.is_closing() {
        thread::sleep(Duration::from_millis(50));
    }
}
