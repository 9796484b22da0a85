//! Fair queues: tenants that take more than their share are received after those that do not.
//!
//! A receive of a queue that has seen message groups looks in three places: the lines of tenants that are quiet (again), the
//! ready words, and, if there is room left, the lines of the noisy ones, the one with the fewest messages in flight first. What
//! it meets in the ready words of a noisy tenant it puts in that tenant's line, a hundred at most, and goes on looking. So each
//! message is put in line once, and a quiet one is not received after more noisy ones than lay before it when it was sent.

use std::collections::HashMap;

use super::{Queue, era::Era, receive::Receive};
use crate::{
    attribute,
    clock::Millis,
    config::{DECISIONS_MAX, TENANT_WEIGHT_MAX, TENANTS_MAX},
    error::TenantError,
    extras::Extras,
    ledger::{
        lease::{Aside, Hand, Special},
        partition::Partition,
        reclaim::Pin,
        segment::Segment,
        tenants::{self, Tenant, Tenants},
    },
    sync::Arc,
    turn::Turn,
};

/// How a tenant is to be treated. What is the rule without: weight 1, no limit.
///
/// ```
/// use epoq::{Broker, Outgoing, QueueConfig, TenantConfig};
/// let queue = Broker::new().create_queue("jobs", QueueConfig::default())?;
/// let limited = TenantConfig { in_flight_max: Some(1), ..TenantConfig::default() };
/// queue.set_tenant("batch-imports", limited)?;
/// for _ in 0..2 {
///     queue.send_message(&Outgoing::new(b"row").message_group("batch-imports"))?;
/// }
/// assert_eq!(queue.receive(10, None)?.len(), 1);
/// assert_eq!(queue.tenants()[0].in_line, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantConfig {
    /// How many tenths it may take, of the messages in flight and of the time spent on them, before it counts as noisy:
    /// 1..=1,000 (ours; default 1, which is SQS's rule; from 10 on it is never noisy).
    pub weight: u32,
    /// Most of its messages in flight at a time; the others stay in the queue, whoever asks (ours; default `None`).
    pub in_flight_max: Option<u64>,
}

impl Default for TenantConfig {
    fn default() -> Self {
        Self {
            weight: 1,
            in_flight_max: None,
        }
    }
}

/// A tenant of a queue as it stands; see [`Queue::tenants`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantMetrics {
    /// The message group id.
    pub group: String,
    /// Its messages, in whatever state.
    pub messages: u64,
    /// Its messages in flight.
    pub in_flight: u64,
    /// Its messages that have been put behind those of others; up to 10,000 are counted.
    pub in_line: u64,
    /// Whether it takes more than its share at the moment.
    pub is_noisy: bool,
    /// How it is treated.
    pub config: TenantConfig,
}

/// Messages in line that are counted for [`TenantMetrics`].
const COUNTED_MAX: usize = 10_000;

/// Tenants that are treated otherwise, by name. Replaced as a whole.
#[derive(Debug, Default, Clone)]
pub(crate) struct TenantConfigs(HashMap<Box<str>, TenantConfig>);

/// How tenants stand, from the point of view of one receive.
pub(super) struct Standing<'t> {
    tenants: &'t Tenants,
    /// Messages in flight.
    total: u64,
    now: Millis,
    /// Messages put in line since anybody was woken for them.
    lined_up: usize,
    /// Messages taken from lines.
    served: usize,
}

impl Standing<'_> {
    fn is_noisy(&self, number: u32, pin: &Pin<'_>) -> bool {
        self.tenants
            .get(number, pin)
            .is_some_and(|tenant| self.tenants.is_noisy(tenant, self.total, self.now))
    }
}

impl Era {
    /// Takes up to `most` nodes off the lines whose messages are not there any more: deleted by old handles, or lapsed.
    pub(super) fn tidy_lines(&self, most: usize, pin: &Pin<'_>) {
        let Some(tenants) = self.tenants(pin) else {
            return;
        };
        let mut left = most;
        for number in tenants.lined() {
            left -= tenants.tidy(number, left, pin, |segment| self.drop_hold(segment, pin));
        }
    }

    /// A node of a line has gone that led to this segment.
    fn drop_hold(&self, segment: &Segment, pin: &Pin<'_>) {
        if let Some(partition) = self.partition(segment.fixed().partition as usize, pin) {
            partition.after(segment.bury(1), segment, pin);
        } else {
            debug_assert!(false, "a message in line in a partition that is closed");
        }
    }
}

impl Queue {
    /// Treats the tenant of a message group otherwise, from now on; `None` for as usual. At most 1,024 tenants can be. Survives
    /// purges. Control plane: takes the lock of the queue's configuration.
    ///
    /// A tenant that has more in flight than a new limit allows keeps them.
    ///
    /// # Errors
    /// [`TenantError`]; nothing has changed.
    pub fn set_tenant(
        &self,
        group: &str,
        config: impl Into<Option<TenantConfig>>,
    ) -> Result<(), TenantError> {
        let config = config.into();
        if !attribute::check_group(group) {
            return Err(TenantError::MessageGroup);
        }
        if let Some(TenantConfig { weight, .. }) = config
            && !(1..=TENANT_WEIGHT_MAX).contains(&weight)
        {
            return Err(TenantError::Weight {
                given: weight,
                limit: TENANT_WEIGHT_MAX,
            });
        }
        self.in_passing(|turn| {
            let pin = turn.pin();
            self.era(pin).ok_or(TenantError::QueueDeleted)?;
            let _lock = self
                .inner
                .config
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut configs = self.inner.tenant_configs.get(pin).cloned().unwrap_or_default();
            match config {
                Some(config) => configs.0.insert(group.into(), config),
                None => configs.0.remove(group),
            };
            if configs.0.len() > TENANTS_MAX {
                return Err(TenantError::TooMany { limit: TENANTS_MAX });
            }
            let configs = Some(Arc::new(configs));
            tenants::configure(&self.inner.tenant_configs, configs, pin, || {
                let tenant = self.era(pin)?.tenants(pin)?.find(group, pin)?;
                set_limits(tenant, config.unwrap_or_default());
                Some(())
            });
            Ok(())
        })?;
        // A higher limit, or none: its messages can be received.
        self.inner.hot.waiters.wake_all();
        Ok(())
    }

    /// The tenants that have messages here, or had some lately, in no particular order. At most 1,024 are told apart: a message
    /// whose group finds no place any more counts as a quiet tenant's, until the place of one that has had no messages for five
    /// minutes is taken. O(tenants + workers).
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantMetrics> {
        self.in_passing(|turn| {
            let pin = turn.pin();
            let Some((era, tenants)) = self.era(pin).and_then(|era| Some((era, era.tenants(pin)?))) else {
                return Vec::new();
            };
            let (total, now) = (era.stats.in_flight(), turn.now());
            tenants
                .all(pin)
                .filter_map(|(_, tenant)| {
                    let (weight, max) = tenant.limits();
                    Some(TenantMetrics {
                        group: tenant.name(pin)?.to_owned(),
                        messages: tenant.messages(),
                        in_flight: tenant.in_flight(),
                        in_line: tenant.in_line(COUNTED_MAX, pin) as u64,
                        is_noisy: tenants.is_noisy(tenant, total, now),
                        config: TenantConfig {
                            weight,
                            in_flight_max: (max != u64::MAX).then_some(max),
                        },
                    })
                })
                .collect()
        })
    }

    /// Counts a message of a message group that is about to be sent. Returns its tenant's number; 0 for none.
    pub(super) fn enter_tenant(&self, era: &Era, turn: &Turn<'_>, group: &str) -> u32 {
        let pin = turn.pin();
        let tenants = era.tenants_or(pin, || {
            let shared = &self.inner.shared;
            Arc::new(Tenants::new(
                [shared.seed, u64::from(self.inner.id.number())],
                era.stats.sum(|c| &c.leased),
                shared.clock.clone(),
                Arc::clone(self.inner.hot.waiters.event()),
                Arc::clone(&self.inner.budget),
            ))
        });
        tenants
            .enter(group, turn.now(), pin, |tenant| {
                tenants::settle(&self.inner.tenant_configs, pin, |configs| {
                    let config = configs.and_then(|configs| configs.0.get(group)).copied();
                    set_limits(tenant, config.unwrap_or_default());
                });
            })
            .unwrap_or(0)
    }

    /// After a tenant has entered for a message: the message is in partition `home`, still to be published, or nowhere.
    pub(super) fn settle_tenant(&self, era: &Era, turn: &Turn<'_>, tenant: u32, home: Option<&Partition>) {
        let pin = turn.pin();
        match home {
            Some(home) => {
                let share = || era.share_tenants(pin).ok_or(());
                // There is a table: the tenant is in it.
                let known = home.tenants.get_or_try(pin, share);
                debug_assert!(known.is_ok(), "a tenant without a table");
            }
            None => {
                if let Some(tenants) = era.tenants(pin) {
                    tenants.leave(tenant, pin);
                }
            }
        }
    }

    /// Takes the first message of anybody's line in hand.
    pub(super) fn take_from_line<'t>(
        &'t self,
        era: &'t Era,
        turn: &'t Turn<'_>,
    ) -> Option<(&'t Partition, Aside<'t>)> {
        let tenants = era.tenants(turn.pin())?;
        tenants.lined().find_map(|number| {
            let aside = call_up(era, tenants, number, turn.pin())?;
            let partition = era.partition(aside.segment.fixed().partition as usize, turn.pin())?;
            Some((partition, aside))
        })
    }
}

fn set_limits(tenant: &Tenant, config: TenantConfig) {
    tenant.set_limits(config.weight, config.in_flight_max.unwrap_or(u64::MAX));
}

fn call_up<'t>(era: &'t Era, tenants: &'t Tenants, number: u32, pin: &'t Pin<'_>) -> Option<Aside<'t>> {
    let (segment, slot) = tenants.call_up(number, pin, |segment| era.drop_hold(segment, pin))?;
    Some(Aside {
        segment,
        slot,
        why: Special::Grouped,
    })
}

impl<'t, H: Hand<'t>> Receive<'_, 't, '_, H> {
    /// As `run`, in an era with tenants.
    #[cold]
    #[inline(never)]
    pub(super) fn run_fairly(&mut self, first: usize) {
        self.serve_quiet();
        if self.hand.room(self.max) > 0 {
            self.look(first);
        }
        self.serve_anybody();
        self.settle();
    }

    /// How tenants stand, found out once. `None` if there are none.
    fn standing(&mut self) -> Option<&mut Standing<'t>> {
        if self.fair.is_none() {
            let stats = &self.era.stats;
            let standing = Standing {
                tenants: self.era.tenants(self.turn.pin())?,
                total: stats.in_flight(),
                now: self.turn.now(),
                lined_up: 0,
                served: 0,
            };
            standing
                .tenants
                .note_leases(stats.sum(|c| &c.leased), standing.now);
            self.fair = Some(standing);
            // The claims that follow must not count from it.
            self.turn.reading().forget();
        }
        self.fair.as_mut()
    }

    /// Whether a message of the ready words is to be delivered before what others may have; if not, it is in line now.
    pub(super) fn is_next(&mut self, aside: Aside<'t>) -> bool {
        let extras = aside.look().and_then(|seen| seen.extras());
        let number = extras.map_or(0, |extras| Extras::new(extras).tenant());
        let (pin, leases) = (self.turn.pin(), self.terms.visibility_ms > 0);
        if number == 0 {
            return true;
        }
        let Some(fair) = self.standing() else { return true };
        if !fair.is_noisy(number, pin) && (!leases || fair.tenants.begin(number, pin)) {
            fair.total += 1;
            return true;
        }
        if !fair.tenants.line_up(number, aside.segment, aside.slot, pin) {
            return true;
        }
        fair.lined_up += 1;
        false
    }

    /// Delivers what is in the lines of tenants that are not noisy any more: it is older than what the ready words have of
    /// theirs.
    fn serve_quiet(&mut self) {
        let pin = self.turn.pin();
        let Some(tenants) = self.standing().map(|fair| fair.tenants) else {
            return;
        };
        for number in tenants.lined() {
            while self.hand.room(self.max) > 0
                && self.standing().is_some_and(|fair| !fair.is_noisy(number, pin))
                && self.serve(number)
            {}
        }
    }

    /// Fills the hand up from lines, if messages were found that are in line: first from that of the tenant which has the fewest
    /// messages in flight, for its weight. (SQS)
    pub(super) fn serve_anybody(&mut self) {
        let pin = self.turn.pin();
        let Some(tenants) = self.standing().map(|fair| fair.tenants) else {
            return;
        };
        // Progress: each turn serves somebody, or finds that others have emptied a line or taken a tenant's last place, which
        // keeps it from being picked again.
        let terms = self.terms;
        while self.hand.room(self.max) > 0 {
            let load = |number: u32| {
                let tenant = tenants.get(number, pin)?;
                let (weight, max) = tenant.limits();
                let in_flight = tenant.in_flight();
                (in_flight < max || terms.visibility_ms == 0).then(|| {
                    u128::from(in_flight) * u128::from(TENANT_WEIGHT_MAX) / u128::from(weight.max(1))
                })
            };
            let least = tenants
                .lined()
                .filter_map(|number| Some((load(number)?, number)))
                .min();
            let Some((_, number)) = least else { break };
            self.serve(number);
            if self
                .fair
                .as_ref()
                .is_some_and(|fair| fair.served >= DECISIONS_MAX)
            {
                // Enough for one receive, most of it moved or thrown away: somebody else shall go on.
                self.queue.wake(1);
                break;
            }
        }
        let lined_up = self
            .fair
            .as_mut()
            .map_or(0, |fair| std::mem::take(&mut fair.lined_up));
        if lined_up > 0 {
            // Somebody may have looked in vain while they were in our hand.
            self.queue.wake(lined_up);
        }
    }

    /// Takes a tenant's first message in line, and delivers it or does with it what is to be done. `false` if there is none, or
    /// the tenant has as many in flight as it may.
    fn serve(&mut self, number: u32) -> bool {
        let (era, pin, leases) = (self.era, self.turn.pin(), self.terms.visibility_ms > 0);
        let Some(fair) = self.standing() else { return false };
        let tenants = fair.tenants;
        if fair.served >= DECISIONS_MAX || leases && !tenants.begin(number, pin) {
            return false;
        }
        fair.served += 1;
        let delivered = call_up(era, tenants, number, pin).map(|mut aside| {
            if let Some(seen) = aside.look() {
                if self.terms.has_lapsed(seen.sent(), self.turn.now()) {
                    aside.why = Special::Lapsed;
                } else if seen.state().receives() >= self.terms.max_receives {
                    aside.why = Special::TooOften;
                }
            }
            // The lease must not count from a reading of before.
            self.turn.reading().forget();
            self.decide(aside, true)
        });
        if delivered == Some(true) {
            if let Some(fair) = self.standing() {
                fair.total += 1;
            }
        } else if leases {
            tenants.undo(number, pin);
        }
        delivered.is_some()
    }
}
