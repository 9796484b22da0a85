//! The stage of a FIFO queue: a partition with links, message groups made by hand, and what `Queue` does around the ledger's steps
//! (`core/src/queue/fifo/`), as thin as it can be.

use std::ops::Deref;

use epoq::{
    clock::Millis,
    ledger::{
        group::{
            CLOSED, Closed, Group, Heard,
            baton::{After, Baton, Run, Serving},
            laid::Laid,
            lease::Ended,
            mark_of,
        },
        lease::Graves,
        partition::{Draft, Entrance, Reserved},
        reclaim::Pin,
        segment::Segment,
        state::Refusal,
    },
};

use super::{Hand, Held, LATER, Lease, NOW, SENT, Stage, VISIBILITY_MS};

/// When a reminder to close a group is due: later than any model.
pub const LINGERS: Millis = Millis::new(LATER.as_millis() + 1_000);

/// A stage with message groups.
pub struct Fifo {
    pub stage: Stage,
    groups: Vec<HeldGroup>,
}

/// A message group of the stage, which lives until the model is over.
#[derive(Clone, Copy)]
pub struct HeldGroup(*const Group);

// SAFETY: a group is shared between threads anyway; see `deref` for its life.
unsafe impl Send for HeldGroup {}
// SAFETY: as above.
unsafe impl Sync for HeldGroup {}

impl Deref for HeldGroup {
    type Target = Group;
    fn deref(&self) -> &Group {
        // SAFETY: freed by the stage, which is dropped after all hands.
        unsafe { &*self.0 }
    }
}

/// A message written in a slot that is reserved for it: it is about to be pushed, and nobody can see it yet.
#[derive(Clone, Copy)]
pub struct Written {
    pub segment: Held,
    pub slot: usize,
}

impl Written {
    pub fn reserved(&self) -> Reserved<'_> {
        Reserved {
            segment: &self.segment,
            slot: self.slot,
        }
    }
}

/// Closes a group if it is empty.
pub type Close = for<'p> fn(&'p Group, &'p Pin<'_>) -> Result<(), After<'p>>;

/// How a delivery ends.
pub type HandBack = for<'p> fn(&Hand, Serving<'p>, &'p Pin<'_>) -> (After<'p>, Run<'p>);

/// As the ledger does it.
pub const HAND_BACK: HandBack = |_, serving, pin| serving.hand_back(true, pin);

impl Deref for Fifo {
    type Target = Stage;
    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        for group in &self.groups {
            // SAFETY: made by `Box::into_raw`; all hands are gone.
            drop(unsafe { Box::from_raw(group.0.cast_mut()) });
        }
    }
}

impl Fifo {
    /// A partition with one empty segment, and no groups.
    pub fn new() -> Self {
        Self {
            stage: Stage::of(true),
            groups: Vec::new(),
        }
    }

    /// One more group, whose first message has a sequence number greater than `sequence`.
    pub fn group(&mut self, sequence: u64) -> HeldGroup {
        let group = HeldGroup(Box::into_raw(Box::new(Group::new("group", sequence))));
        self.groups.push(group);
        group
    }

    /// How many batons lie where a receiver finds them, or will once a sweep has come by.
    pub fn batons(&self) -> usize {
        let hand = self.hand();
        let pin = hand.pin();
        let mut batons = 0;
        for number in 0..hand.partition.index.numbers() {
            let Some(segment) = hand.partition.index.find(number, &pin) else {
                continue;
            };
            for at in 0..segment.slots.len() as u32 {
                if segment.tokens(at as usize) != 0 {
                    batons += 1;
                }
            }
        }
        batons
    }

    /// Demands that these groups' batons lie there, of each one or none, as their words say; and that none is missing.
    pub fn assert_batons(&self, groups: &[HeldGroup]) {
        let mut out = 0;
        for group in groups {
            let word = group.word();
            assert!(
                word.is_out() || !word.is_deliverable(),
                "stranded: a group that can be received from, and nobody has its baton"
            );
            if mark_of(group.inbox.load(epoq::sync::Ordering::Acquire)) != CLOSED {
                out += usize::from(word.is_out());
            }
        }
        assert_eq!(
            self.batons(),
            out,
            "batons that lie somewhere, and batons that are out"
        );
    }

    /// Receives and deletes what there is, group by group; the bodies, in the order of receiving.
    pub fn drain_at(&self, now: Millis) -> Vec<u8> {
        let hand = self.hand_at(now);
        let mut bodies = Vec::new();
        loop {
            let leases = hand.receive_fifo(10);
            if leases.is_empty() {
                return bodies;
            }
            for lease in &leases {
                bodies.push(lease.body);
                hand.delete_fifo(lease).expect("just received");
            }
        }
    }

    /// Demands that exactly these messages are there, in this order, and that the groups are empty and at rest afterwards.
    pub fn assert_left(&self, groups: &[HeldGroup], now: Millis, expected: &[u8]) {
        self.assert_batons(groups);
        let bodies = self.drain_at(now);
        for body in expected {
            assert!(bodies.contains(body), "message {body} was lost");
        }
        assert_eq!(bodies, expected, "not once and in order");
        self.assert_batons(groups);
        for group in groups {
            if mark_of(group.inbox.load(epoq::sync::Ordering::Acquire)) != CLOSED {
                assert!(group.word().is_empty() && !group.word().is_out(), "at rest");
            }
        }
    }
}

impl Hand {
    pub fn now(&self) -> Millis {
        self.reading().now()
    }

    /// The first part of a send: reserves a slot and writes the message, which is of no group yet.
    pub fn write(&self, body: u8) -> Written {
        let entrance = Entrance {
            sent: SENT,
            delayed_until: None,
            receives: 0,
            first_received: None,
            is_grouped: false,
        };
        let pin = self.begin();
        let Ok(Reserved { segment, slot }) =
            self.partition
                .reserve_one(Draft::Inline(&[body]), &entrance, NOW, &pin)
        else {
            panic!("there is room");
        };
        Written {
            segment: Held::of(std::ptr::from_ref::<Segment>(segment).cast_mut()),
            slot,
        }
    }

    /// The second part: `Queue::join` without a second group. Says which number the message has got.
    pub fn join(&self, group: HeldGroup, written: Written) -> Result<u64, Closed> {
        let pin = self.begin();
        self.join_in(group, written, &pin)
    }

    /// The same, as a part of something else. A thread that pins twice is explored less in its second operation: loom counts the
    /// end of a pin as one that depends on the ends of others.
    pub fn join_in(&self, group: HeldGroup, written: Written, pin: &Pin<'_>) -> Result<u64, Closed> {
        let sequence = group.push(&written.reserved(), 0, || group.last_taken(), pin)?;
        self.follow(group.arrive(pin), pin);
        Ok(sequence)
    }

    /// Sends a message to a group.
    pub fn send_to(&self, group: HeldGroup, body: u8) -> Written {
        let written = self.write(body);
        self.join(group, written).expect("open");
        written
    }

    /// `Queue::follow`.
    pub fn follow<'p>(&self, after: After<'p>, pin: &'p Pin<'_>) {
        self.follow_by(after, pin, |group| {
            self.partition
                .lay(group, Laid::Closing, Some(LINGERS), self.now(), pin)
                .expect("room");
        });
    }

    /// The same, with what is to be done with a group that has become empty.
    pub fn follow_by<'p>(&self, after: After<'p>, pin: &'p Pin<'_>, closing: impl Fn(&'p Group)) {
        let mut after = Some(after);
        while let Some(now) = after.take() {
            match now {
                After::Nothing => {}
                After::Baton(baton) => after = self.offer(baton, pin),
                After::Closing(group) => closing(group),
            }
        }
    }

    /// `Queue::offer`.
    pub fn offer<'p>(&self, baton: Baton<'p>, pin: &'p Pin<'_>) -> Option<After<'p>> {
        let home = &*self.partition;
        baton.offer(Some(home), |_| Some(home), self.now(), pin)
    }

    /// `Queue::close`. Whether the group is closed.
    pub fn close(&self, group: HeldGroup) -> bool {
        let pin = self.begin();
        match group.close(&pin) {
            Ok(()) => true,
            Err(after) => {
                self.follow(after, &pin);
                false
            }
        }
    }

    /// `FifoReceive`: receives up to `max` messages.
    pub fn receive_fifo(&self, max: usize) -> Vec<Lease> {
        self.receive_fifo_by(max, HAND_BACK)
    }

    pub fn receive_fifo_by(&self, max: usize, hand_back: HandBack) -> Vec<Lease> {
        let pin = self.begin();
        let mut runs = Run::new();
        while runs.len() < max
            && let Some((segment, at)) = self.partition.take_token(false, &pin)
        {
            self.serve_token(segment, at, max - runs.len(), hand_back, &pin, &mut runs);
        }
        self.lease_all(runs)
    }

    /// `FifoReceive::serve` and `deliver`, with one token.
    pub fn serve_token<'p>(
        &self,
        segment: &'p Segment,
        at: u32,
        room: usize,
        hand_back: HandBack,
        pin: &'p Pin<'_>,
        runs: &mut Run<'p>,
    ) {
        let Some(baton) = self.partition.find_out(segment, at, pin) else {
            return;
        };
        let mut serving = baton.serve();
        while serving.run().len() < room
            && let Some(next) = serving.next()
        {
            serving.take(next);
        }
        if serving.run().is_empty() {
            return self.follow(After::Baton(serving.keep()), pin);
        }
        let (after, run) = hand_back(self, serving, pin);
        runs.extend(run);
        self.follow(after, pin);
    }

    /// `FifoReceive::lease`.
    pub fn lease_all(&self, runs: Run<'_>) -> Vec<Lease> {
        let now = self.now();
        let due = Millis::new(now.as_millis() + VISIBILITY_MS + 1);
        let mut leases = Vec::new();
        let mut last: Option<&Segment> = None;
        for member in runs {
            let claim = self.partition.lease_member(member, Some(due), now);
            leases.extend(claim.as_ref().map(Lease::of));
            if let Some(last) = last
                && !std::ptr::eq(last, member.segment)
            {
                self.partition.set_alarm(last, due);
            }
            last = Some(member.segment);
        }
        if let Some(last) = last {
            self.partition.set_alarm(last, due);
        }
        leases
    }

    /// `Queue::delete_fifo`, of one message.
    pub fn delete_fifo(&self, lease: &Lease) -> Result<(), Refusal> {
        let pin = self.begin();
        let mut graves = Graves::new();
        let ended =
            self.partition
                .delete_leased(lease.place, lease.receives, self.now(), &pin, &mut graves)?;
        let ended = ended.expect("a segment with links");
        self.follow(ended.group.go(ended.places, &pin), &pin);
        graves.fill(&pin);
        Ok(())
    }

    /// `Queue::hand_in_fifo`.
    pub fn hand_in(&self, lease: &Lease) -> Result<(), Refusal> {
        let pin = self.begin();
        let ended = self
            .partition
            .hand_in(lease.place, lease.receives, self.now(), &pin)?;
        let ended = ended.expect("a segment with links");
        self.follow(ended.group.come_back(ended.places, &pin), &pin);
        Ok(())
    }

    /// A sweep of one segment when the time is `now`, and `Queue::hear`. How many leases it has ended.
    pub fn sweep_fifo(&self, segment: Held, now: Millis) -> u32 {
        self.sweep_fifo_by(segment, now, |group, pin| group.close(pin))
    }

    /// The same, with how a group is closed.
    pub fn sweep_fifo_by(&self, segment: Held, now: Millis, close: Close) -> u32 {
        let pin = self.begin();
        let mut swept = epoq::ledger::expiry::Swept::default();
        let mut all: Option<Ended<'_>> = None;
        self.partition.sweep_segment(
            segment.number(),
            now,
            &mut swept,
            &pin,
            &mut |heard| match heard {
                Heard::CameBack(ended) => {
                    all = Some(match all {
                        Some(before) => before.with(ended).expect("one group"),
                        None => ended,
                    });
                }
                Heard::Closing(group) => {
                    if let Err(after) = close(group, &pin) {
                        self.follow(after, &pin);
                    }
                }
                heard => panic!("{heard:?} by a sweep"),
            },
        );
        if let Some(ended) = all {
            self.follow(ended.group.come_back(ended.places, &pin), &pin);
        }
        swept.expired
    }
}
