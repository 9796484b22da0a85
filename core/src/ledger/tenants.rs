//! The tenants of one era of a queue: whose messages are in flight, and lines for those who have more than their share.
//!
//! A message group on a standard queue names a tenant (SQS's fair queues). Each has a place in a table, by a keyed hash of its
//! name. Where the table has no place left, a message is of no tenant: its own, always quiet.
//!
//! A message that is not to be received yet, because others have precedence, leaves the ready words for its tenant's *line*: its
//! state is `InLine`, and a node of the line names it. Who serves the line takes it out of that state by compare-and-swap and
//! then has it in hand as if it had taken its token. A node whose message went another way (deleted by an old handle, lapsed)
//! is stale and taken off by whoever meets it.
//!
//! Nothing here is touched by messages without a group.

use crossbeam_utils::CachePadded;
use siphasher::sip::SipHasher13;

use crate::{
    budget::Budget,
    clock::{Clock, Millis},
    config::{BITS, TENANT_IDLE_MS, TENANT_PROBES, TENANTS_MAX},
    ledger::{
        published::Published,
        reclaim::{Domain, Pin},
        returned::Returned,
        segment::Segment,
        state::{Phase, Transition},
    },
    sync::{Arc, AtomicU32, AtomicU64, Event, Ordering, fence},
};

/// In a tenant's count of messages: its place is being given to another one.
const CLOSED: u64 = 1 << 63;
/// Words of the map of lines.
const LINE_WORDS: usize = TENANTS_MAX.div_ceil(64);
/// Tries to enter, should others take the same place or give it away each time.
const ENTER_TRIES: usize = 8;
/// A tenant with fewer messages in flight is never noisy for having many.
const NOISY_IN_FLIGHT: u64 = 30;
/// One part in so many is the share from which on a tenant is noisy.
const NOISY_SHARE: u64 = 10;

/// The tenants of an era.
#[derive(Debug)]
pub struct Tenants {
    /// Tenants have numbers from 1 on: the first place's is 1.
    pub places: Box<[Place]>,
    /// A bit per place: its line may have something in it. Set after a node was pushed; see [`Tenants::call_up`].
    lines: [AtomicU64; LINE_WORDS],
    usage: CachePadded<Usage>,
    key: [u64; 2],
    clock: Clock,
    /// Wakes those who wait for messages.
    event: Arc<Event>,
    budget: Arc<Budget>,
}

/// What leases come to, of all tenants together.
#[derive(Debug)]
struct Usage {
    /// Milliseconds that leases of messages with a group lasted which have ended lately.
    busy: Window,
    /// How many those were.
    ends: Window,
    /// Leases of messages without a group begun lately.
    plain: Window,
    /// Leases of messages with a group begun so far.
    grouped: AtomicU64,
    /// Leases of messages without a group that `plain` has been told of.
    seen: AtomicU64,
}

/// A place of the table.
#[derive(Debug)]
pub struct Place {
    /// The hash of the tenant's name; 0 while nobody has ever had the place.
    pub key: AtomicU64,
    /// Whoever has it.
    pub tenant: Published<Tenant>,
}

/// One tenant.
#[derive(Debug)]
pub struct Tenant {
    /// Its messages, in whatever state; `CLOSED` while its place changes hands.
    pub messages: AtomicU64,
    in_flight: AtomicU64,
    last_sent: AtomicU64,
    /// Milliseconds that its leases lasted which have ended lately.
    busy: Window,
    /// How many parts of the share it may take before it is noisy.
    weight: AtomicU32,
    in_flight_max: AtomicU64,
    /// Its messages that are not to be received through the ready words; one node each.
    pub line: Returned,
    name: Published<Box<str>>,
}

/// A sum over the last 30 to 60 seconds: two buckets of `period:24 | value:40`, each begun anew when its turn comes.
#[derive(Debug, Default)]
struct Window([Bucket; 2]);

#[derive(Debug)]
struct Bucket(AtomicU64);

impl Default for Bucket {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Window {
    const PERIOD_MS: u64 = 30_000;
    const VALUE_BITS: u32 = 40;
    const VALUE: u64 = (1 << Self::VALUE_BITS) - 1;

    fn period(now: Millis) -> u64 {
        // From 1 on, so that an untouched bucket is of no period.
        (now.0 / Self::PERIOD_MS + 1) & (u64::MAX >> Self::VALUE_BITS)
    }

    fn add(&self, amount: u64, now: Millis) {
        let period = Self::period(now);
        let Some(Bucket(bucket)) = self.0.get(period as usize % 2) else {
            return;
        };
        // Relaxed, throughout: a sum that only steers who is served first. The closure never refuses.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |present| {
            let before = if present >> Self::VALUE_BITS == period {
                present & Self::VALUE
            } else {
                0
            };
            Some(period << Self::VALUE_BITS | before.saturating_add(amount).min(Self::VALUE))
        });
    }

    fn sum(&self, now: Millis) -> u64 {
        let period = Self::period(now);
        let recent = |Bucket(bucket): &Bucket| {
            // Relaxed: as in `add`.
            let present = bucket.load(Ordering::Relaxed);
            let of = present >> Self::VALUE_BITS;
            if of == period || of + 1 == period {
                present & Self::VALUE
            } else {
                0
            }
        };
        self.0.iter().map(recent).sum()
    }

    fn clear(&self) {
        // Relaxed: as in `add`.
        self.0
            .iter()
            .for_each(|Bucket(bucket)| bucket.store(0, Ordering::Relaxed));
    }
}

impl Tenant {
    fn new(budget: &Arc<Budget>) -> Self {
        budget.force(size_of::<Self>());
        Self {
            messages: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            last_sent: AtomicU64::new(0),
            busy: Window::default(),
            weight: AtomicU32::new(1),
            in_flight_max: AtomicU64::new(u64::MAX),
            line: Returned::new(Domain::SHARED, Arc::clone(budget)),
            name: Published::empty(),
        }
    }

    /// Its name; `None` at the very beginning.
    pub fn name<'p>(&'p self, pin: &'p Pin<'_>) -> Option<&'p str> {
        self.name.get(pin).map(|name| &**name)
    }

    /// Its messages, in whatever state.
    pub fn messages(&self) -> u64 {
        // Relaxed: shown to somebody.
        match self.messages.load(Ordering::Relaxed) {
            closed if closed & CLOSED != 0 => 0,
            messages => messages,
        }
    }

    /// Its messages in flight.
    pub fn in_flight(&self) -> u64 {
        // Relaxed: compared with others, or shown to somebody.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The parts of the share it may take before it is noisy, and the most messages it may have in flight.
    pub fn limits(&self) -> (u32, u64) {
        // Relaxed, both: numbers on their own.
        (
            self.weight.load(Ordering::Relaxed),
            self.in_flight_max.load(Ordering::Relaxed),
        )
    }

    /// Sets its limits.
    pub fn set_limits(&self, weight: u32, in_flight_max: u64) {
        // Relaxed, both: as in `limits`.
        self.weight.store(weight, Ordering::Relaxed);
        self.in_flight_max.store(in_flight_max, Ordering::Relaxed);
    }

    /// Messages in its line, counted up to `most`. O(messages counted).
    pub fn in_line(&self, most: usize, pin: &Pin<'_>) -> usize {
        self.line.count(most, pin)
    }

    /// Takes one of its messages in flight; `false` if it has as many as it may.
    fn begin(&self) -> bool {
        let max = self.limits().1;
        // Relaxed, both: a count. Whoever finds no room here has listened before; see `make_room`.
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |present| {
                (present < max).then_some(present + 1)
            })
            .is_ok()
    }
}

impl Tenants {
    /// A table without anybody in it, for a queue in which `leased` leases have begun so far. `event` is notified when a
    /// tenant that had as many messages in flight as it may has room again.
    pub fn new(key: [u64; 2], leased: u64, clock: Clock, event: Arc<Event>, budget: Arc<Budget>) -> Self {
        budget.force(Self::bytes());
        Self {
            places: (0..TENANTS_MAX)
                .map(|_| Place {
                    key: AtomicU64::new(0),
                    tenant: Published::empty(),
                })
                .collect(),
            lines: std::array::from_fn(|_| AtomicU64::new(0)),
            usage: CachePadded::new(Usage {
                busy: Window::default(),
                ends: Window::default(),
                plain: Window::default(),
                grouped: AtomicU64::new(0),
                seen: AtomicU64::new(leased),
            }),
            key,
            clock,
            event,
            budget,
        }
    }

    const fn bytes() -> usize {
        size_of::<Self>() + TENANTS_MAX * size_of::<Place>()
    }

    /// The hash of a name; never 0.
    pub fn hash(&self, name: &str) -> u64 {
        SipHasher13::new_with_keys(self.key[0], self.key[1])
            .hash(name.as_bytes())
            .max(1)
    }

    /// Where a tenant of this hash may be.
    fn probes(&self, hash: u64) -> impl Iterator<Item = (u32, &Place)> {
        (0..TENANT_PROBES.min(TENANTS_MAX)).filter_map(move |step| {
            let at = (hash as usize).wrapping_add(step) % TENANTS_MAX;
            self.places.get(at).map(|place| (at as u32 + 1, place))
        })
    }

    /// The tenant of a number, which is not 0.
    pub fn get<'p>(&'p self, number: u32, pin: &'p Pin<'_>) -> Option<&'p Tenant> {
        self.places.get(number.checked_sub(1)? as usize)?.tenant.get(pin)
    }

    /// The tenant of a name.
    pub fn find<'p>(&'p self, name: &str, pin: &'p Pin<'_>) -> Option<&'p Tenant> {
        let hash = self.hash(name);
        // Relaxed: `get` acquires the tenant.
        let (_, place) = self
            .probes(hash)
            .find(|(_, place)| place.key.load(Ordering::Relaxed) == hash)?;
        place.tenant.get(pin)
    }

    /// All tenants there are, or were. O(places).
    pub fn all<'p>(&'p self, pin: &'p Pin<'_>) -> impl Iterator<Item = (u32, &'p Tenant)> {
        (1..=TENANTS_MAX as u32).filter_map(move |number| Some((number, self.get(number, pin)?)))
    }

    /// A message of the tenant `name` is about to be sent. Returns the tenant's number; `None` if there is no place for it.
    /// A tenant that gets a place is shown to `settle`, which sets its limits.
    ///
    /// Should two senders bring a tenant of the same name at the same instant, and one of them take the place of somebody
    /// gone, it may get two places. It is then counted as two tenants, each with the limits of one; what is set later for the tenant reaches the first.
    pub fn enter(&self, name: &str, now: Millis, pin: &Pin<'_>, settle: impl Fn(&Tenant)) -> Option<u32> {
        let hash = self.hash(name);
        for _ in 0..ENTER_TRIES {
            let mut free = None;
            let mut found = None;
            for (number, place) in self.probes(hash) {
                // Relaxed: the tenant is acquired by itself, and whose it is by its count.
                match place.key.load(Ordering::Relaxed) {
                    key if key == hash => {
                        found = Some((number, place));
                        break;
                    }
                    0 => {
                        // Places are never left empty again: behind the first empty one nobody has ever looked for one.
                        free = Some((number, place));
                        break;
                    }
                    _ => {}
                }
            }
            if let Some((number, place)) = free {
                // Relaxed: as in the look above; a failure means that somebody else has it now.
                let took = place
                    .key
                    .compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
                if !took {
                    continue;
                }
                found = Some((number, place));
            }
            let Some((number, place)) = found else {
                return self.replace(hash, name, now, pin, &settle);
            };
            let make = || Ok::<_, std::convert::Infallible>(Arc::new(Tenant::new(&self.budget)));
            let Ok(tenant) = place.tenant.get_or_try(pin, make);
            // Acquire: see who has the place if it has changed hands; pairs with the Release swap of `replace`.
            if tenant.messages.fetch_add(1, Ordering::Acquire) & CLOSED != 0 {
                // It is being given away; the count is begun anew there.
                continue;
            }
            // Relaxed: ordered by the RMW before.
            if place.key.load(Ordering::Relaxed) != hash {
                Self::leave_place(tenant);
                continue;
            }
            // Relaxed: a moment on its own; written once a millisecond at most.
            if tenant.last_sent.load(Ordering::Relaxed) != now.0 {
                tenant.last_sent.store(now.0, Ordering::Relaxed);
            }
            if tenant.name.get(pin).is_none() {
                // By all who come before there is one: they write the same.
                settle(tenant);
                tenant.name.replace(Some(Arc::new(name.into())), pin, drop);
            }
            return Some(number);
        }
        None
    }

    /// Gives the place of a tenant without messages, to whom nothing has been sent for a while, to another one.
    #[cold]
    fn replace(
        &self,
        hash: u64,
        name: &str,
        now: Millis,
        pin: &Pin<'_>,
        settle: &impl Fn(&Tenant),
    ) -> Option<u32> {
        for (number, place) in self.probes(hash) {
            let Some(tenant) = place.tenant.get(pin) else {
                continue;
            };
            if !tenant.is_idle(now)
                // Acquire: what was done with its messages came before. Relaxed: a failure means that it has some.
                || tenant
                    .messages
                    .compare_exchange(0, CLOSED, Ordering::Acquire, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            // The place is ours alone until the count is opened again. In flight it has nothing, and its line has stale nodes
            // at most, which whoever serves it takes off.
            debug_assert_eq!(
                tenant.in_flight(),
                0,
                "a place is given away with messages in flight"
            );
            tenant.busy.clear();
            // Relaxed, both: published by the store below.
            tenant.last_sent.store(now.0, Ordering::Relaxed);
            place.key.store(hash, Ordering::Relaxed);
            settle(tenant);
            tenant.name.replace(Some(Arc::new(name.into())), pin, drop);
            // Release: whoever enters, or fails to, sees the new key. What was added meanwhile is wiped out: those who added
            // saw that the place was closed. A swap where a store would do: loom lets a store come between the halves of an
            // addition.
            tenant.messages.swap(1, Ordering::Release);
            return Some(number);
        }
        None
    }

    /// A message of the tenant is dead, or was not sent after all. If it was in flight, [`Tenants::end`] comes first.
    pub fn leave(&self, number: u32, pin: &Pin<'_>) {
        if let Some(tenant) = self.get(number, pin) {
            Self::leave_place(tenant);
        }
    }

    fn leave_place(tenant: &Tenant) {
        // Release: what was done with the message comes before the place changes hands.
        let before = tenant.messages.fetch_sub(1, Ordering::Release);
        debug_assert!(before & !CLOSED != 0, "a message of a tenant died twice");
    }

    /// Takes a message of the tenant in flight; `false` if it has as many as it may.
    pub fn begin(&self, number: u32, pin: &Pin<'_>) -> bool {
        match self.get(number, pin) {
            Some(tenant) if tenant.begin() => {
                // Relaxed: a sum that only steers.
                self.usage.grouped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// A lease of a message of the tenant is over that began at `began`.
    pub fn end(&self, number: u32, began: impl FnOnce(Millis) -> Millis, pin: &Pin<'_>) {
        let Some(tenant) = self.get(number, pin) else {
            return;
        };
        let now = self.clock.now();
        let took = now.0.saturating_sub(began(now).0);
        tenant.busy.add(took, now);
        self.usage.busy.add(took, now);
        self.usage.ends.add(1, now);
        self.make_room(tenant);
    }

    /// What [`Tenants::begin`] took was not used.
    pub fn undo(&self, number: u32, pin: &Pin<'_>) {
        if let Some(tenant) = self.get(number, pin) {
            // Relaxed: as in `begin`.
            self.usage.grouped.fetch_sub(1, Ordering::Relaxed);
            self.make_room(tenant);
        }
    }

    fn make_room(&self, tenant: &Tenant) {
        // Relaxed: a count. `Waiting::listen` ends, and notifying begins, with a SeqCst fence: who found no room in `begin` has
        // either listened before, and is notified, or looks after that, and finds it.
        let before = tenant.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a lease of a tenant ended twice");
        if before >= tenant.limits().1 {
            self.event.notify_additional(1);
        }
    }

    /// `leased` leases have begun so far, with and without group.
    pub fn note_leases(&self, leased: u64, now: Millis) {
        // Relaxed, both: sums that only steer.
        let plain = leased.saturating_sub(self.usage.grouped.load(Ordering::Relaxed));
        let before = self.usage.seen.fetch_max(plain, Ordering::Relaxed);
        if plain > before {
            self.usage.plain.add(plain - before, now);
        }
    }

    /// Milliseconds that all leases took which have ended lately. Those of messages without a group are not measured: they are
    /// taken to last as long as the others do.
    fn all_busy(&self, now: Millis) -> u64 {
        let (busy, ends, plain) = (
            self.usage.busy.sum(now),
            self.usage.ends.sum(now),
            self.usage.plain.sum(now),
        );
        let unmeasured = u128::from(busy) * u128::from(plain) / u128::from(ends.max(1));
        busy.saturating_add(u64::try_from(unmeasured).unwrap_or(u64::MAX))
    }

    /// Whether a tenant takes more than its share, `total` messages being in flight in all: more than a tenth of them and 30 at
    /// least, or more than a tenth of the time that leases took lately; times its weight. Not if nothing was sent for it in five
    /// minutes. (SQS)
    pub fn is_noisy(&self, tenant: &Tenant, total: u64, now: Millis) -> bool {
        if tenant.is_idle(now) {
            return false;
        }
        let weight = u64::from(tenant.limits().0);
        let in_flight = tenant.in_flight();
        if in_flight >= NOISY_IN_FLIGHT.saturating_mul(weight)
            && in_flight.saturating_mul(NOISY_SHARE) > total.saturating_mul(weight)
        {
            return true;
        }
        let busy = tenant.busy.sum(now);
        busy > 0 && busy.saturating_mul(NOISY_SHARE) > self.all_busy(now).saturating_mul(weight)
    }

    /// Puts a message of the tenant whose token is in hand at the end of its line. `false` if it could not: the token is in
    /// hand still.
    pub fn line_up(&self, number: u32, segment: &Segment, at: u32, pin: &Pin<'_>) -> bool {
        let Some(tenant) = self.get(number, pin) else {
            return false;
        };
        let slot = segment.slot(at);
        let Ok(Transition { next, .. }) = slot.state_in_hand().line_up() else {
            debug_assert!(false, "a token on a slot that is not visible");
            return false;
        };
        // First the hold: once the message is in line an old handle may delete it, and the segment with it.
        if !segment.hold() {
            debug_assert!(false, "a segment without life has a token");
            return false;
        }
        slot.store(next);
        let at = at as usize;
        tenant.line.push(segment, at / BITS, 1 << (at % BITS), pin);
        self.mark(number, true);
        true
    }

    /// Notes whether there may be something in a tenant's line.
    pub fn mark(&self, number: u32, has_some: bool) {
        let at = number.saturating_sub(1) as usize;
        let Some(word) = self.lines.get(at / 64) else {
            return;
        };
        let bit = 1 << (at % 64);
        if has_some {
            // Release: the node was pushed before; pairs with the Acquire below.
            word.fetch_or(bit, Ordering::Release);
        } else {
            // Acquire: the nodes whose mark is cleared; see `call_up`.
            word.fetch_and(!bit, Ordering::Acquire);
        }
    }

    /// The numbers of tenants that may have messages in line.
    pub fn lined(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().enumerate().flat_map(|(word, bits)| {
            // Relaxed: who sees a mark and not yet its node finds the line empty, clears the mark, which acquires whoever set it, and
            // looks once more; see `call_up`. A waiter's look comes after its fence, see `wait.rs`.
            let mut bits = bits.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let at = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(word as u32 * 64 + at + 1)
            })
        })
    }

    /// Takes the first message of a tenant's line in hand, as if its token had been taken. `freed` is told of segments that a
    /// node has gone from: it drops the hold.
    pub fn call_up<'p>(
        &'p self,
        number: u32,
        pin: &'p Pin<'_>,
        mut freed: impl FnMut(&'p Segment),
    ) -> Option<(&'p Segment, u32)> {
        let tenant = self.get(number, pin)?;
        // Progress: each turn takes a node off, or finds that somebody else has.
        loop {
            let Some(node) = tenant.line.peek(pin) else {
                self.mark(number, false);
                // Pushed and marked before we cleared the mark: then it is seen here. Marked afterwards, it is marked.
                if tenant.line.is_empty(pin) {
                    return None;
                }
                self.mark(number, true);
                continue;
            };
            let segment = node.segment(pin);
            // Relaxed: a node's name for one message never changes here.
            let token = node.tokens.load(Ordering::Relaxed);
            let at = node.word * BITS + token.trailing_zeros() as usize;
            let mut won = false;
            if let Some(slot) = segment.slots.get(at) {
                let state = slot.state();
                // A failure means that somebody else has called it up, or that it is dead.
                won = state.is(Phase::InLine)
                    && state
                        .call_up()
                        .is_ok_and(|Transition { next, .. }| slot.swap_state(state, next).is_ok());
            }
            if tenant.line.pop(node, pin) {
                freed(segment);
            }
            if won {
                return Some((segment, at as u32));
            }
        }
    }

    /// Takes nodes off the front of a tenant's line whose messages went another way, `most` of them, up to the first that did
    /// not; says how many. `freed` as for [`Tenants::call_up`].
    ///
    /// Whoever serves the line does so too, but a tenant that has as many messages in flight as it may is not served.
    pub fn tidy<'p>(
        &'p self,
        number: u32,
        most: usize,
        pin: &'p Pin<'_>,
        mut freed: impl FnMut(&'p Segment),
    ) -> usize {
        let Some(tenant) = self.get(number, pin) else {
            return 0;
        };
        for done in 0..most {
            let Some(node) = tenant.line.peek(pin) else {
                return done;
            };
            let segment = node.segment(pin);
            // Relaxed: as in `call_up`.
            let token = node.tokens.load(Ordering::Relaxed);
            let at = node.word * BITS + token.trailing_zeros() as usize;
            // The message was in line before the node was pushed; if it comes again it brings a node of its own.
            if segment
                .slots
                .get(at)
                .is_some_and(|slot| slot.state().is(Phase::InLine))
            {
                return done;
            }
            if tenant.line.pop(node, pin) {
                freed(segment);
            }
        }
        most
    }

    /// Whether a message is in line, whosever it is.
    pub fn is_anyone_in_line(&self, pin: &Pin<'_>) -> bool {
        self.lined().any(|number| {
            self.get(number, pin)
                .is_some_and(|tenant| tenant.line.peek(pin).is_some())
        })
    }
}

impl Tenant {
    /// Whether nothing has been sent for it for a while.
    fn is_idle(&self, now: Millis) -> bool {
        // Relaxed: a moment on its own.
        self.last_sent
            .load(Ordering::Relaxed)
            .saturating_add(TENANT_IDLE_MS)
            <= now.0
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // Also one that came second to its place, and was shown to nobody.
        self.line.budget().give_back(size_of::<Self>());
    }
}

impl Drop for Tenants {
    fn drop(&mut self) {
        self.budget.give_back(Self::bytes());
    }
}

/// Puts other configurations in the place of those there are. `apply` is to see to the tenant concerned, if it has entered: it
/// looks for it, and for the era, behind the fence here. Whoever enters later sees to it by [`settle`].
pub fn configure<C: Send + Sync + 'static>(
    configs: &Published<C>,
    newer: Option<Arc<C>>,
    pin: &Pin<'_>,
    apply: impl FnOnce() -> Option<()>,
) {
    configs.replace(newer, pin, drop);
    // SeqCst: see `settle`.
    fence(Ordering::SeqCst);
    apply();
}

/// Has `apply` set by the configurations that are in force what a tenant has that has just entered.
pub fn settle<C>(configs: &Published<C>, pin: &Pin<'_>, apply: impl Fn(Option<&C>)) {
    let mut present = configs.get(pin);
    loop {
        apply(present);
        // SeqCst, behind both. If this comes before the fence of `configure`, the tenant is found there, and what is set there is
        // set after this. Otherwise the newer configurations are seen here.
        fence(Ordering::SeqCst);
        let newer = configs.get(pin);
        if present.map(std::ptr::from_ref) == newer.map(std::ptr::from_ref) {
            return;
        }
        // Progress: somebody has changed them.
        present = newer;
    }
}
