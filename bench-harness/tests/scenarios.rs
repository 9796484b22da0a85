//! The ledger's own scenarios: each verifies, and each kind of check in them convicts the fault it is there for.

use epoq_bench::{
    check::Wrong,
    progress::Quiet,
    scenarios::{
        Fault, Sheet, Stage, Trial, burst::Burst, delay::Delay, expiry::Expiry, fair::Fair, fifo::Fifo,
        fifo_blocked::FifoBlocked, fifo_dedup::FifoDedup, idle_queues::IdleQueues, longpoll::Longpoll,
        overload::Overload, poison::Poison, straggler::Straggler, width::Width,
    },
};

/// A short performance with settings changed by `change`.
fn perform<T: Trial>(pace: f64, fault: Option<Fault>, change: impl FnOnce(&mut T)) -> Sheet {
    let mut settings = T::defaults();
    settings.scale(pace);
    change(&mut settings);
    settings.check().unwrap();
    let stage = Stage::new(7, &Quiet);
    let stage = match fault {
        Some(fault) => stage.with_fault(fault),
        None => stage,
    };
    Trial::perform(&settings, &stage).unwrap()
}

fn verified<T: Trial>(pace: f64, change: impl FnOnce(&mut T)) -> Sheet {
    let sheet = perform(pace, None, change);
    assert!(sheet.verified(), "{}: {:?}", T::NAME, sheet.findings.lines());
    assert!(
        sheet.messages > 0 && sheet.seconds > 0.0,
        "{}: {sheet:?}",
        T::NAME
    );
    sheet
}

fn convicted<T: Trial>(fault: Fault, wrong: Wrong, pace: f64, change: impl FnOnce(&mut T)) {
    let sheet = perform::<T>(pace, Some(fault), change);
    let lines = sheet.findings.lines();
    assert!(
        sheet.findings.count(wrong) > 0,
        "{}: {fault:?} was not found {wrong}: {lines:?}",
        T::NAME
    );
}

fn brief(delay: &mut Delay) {
    (delay.messages, delay.spread_ms, delay.rate) = (5_000, 50, 50_000.0);
}

#[test]
fn delays_are_kept() {
    let sheet = verified(1.0, brief);
    assert_eq!(sheet.spreads[0].latency.samples(), 5_000);
}

#[test]
fn faults_on_the_way_of_delayed_messages() {
    for (fault, wrong) in [
        (Fault::ForgetsDelays, Wrong::Early),
        (Fault::DeliversTwice, Wrong::DoubleLease),
        (Fault::Corrupts, Wrong::Corrupt),
        (Fault::RefusesButKeeps, Wrong::Unknown),
        (Fault::CountsWrong, Wrong::WrongCount),
        (Fault::ForgetsDelete, Wrong::LeftOver),
    ] {
        convicted(fault, wrong, 1.0, brief);
    }
}

fn few(poison: &mut Poison) {
    (poison.messages, poison.rounds) = (20_000, 1);
}

#[test]
fn poison_ends_in_the_dead_letter_queue() {
    let sheet = verified(1.0, few);
    // 10 of 9 good ones, rounded up for each of the threads.
    let letters = sheet.value("dead letters").unwrap();
    assert!((2222.0..2300.0).contains(&letters), "{letters}");
    assert_eq!(sheet.books["queues"]["dead-letters"]["moved_in"], letters as u64);
}

#[test]
fn faults_in_the_storm() {
    for (fault, wrong) in [
        (Fault::LosesLetter, Wrong::Lost),
        (Fault::DeletesInstead, Wrong::Misplaced),
        (Fault::CountsWrong, Wrong::WrongCount),
    ] {
        convicted(fault, wrong, 1.0, few);
    }
}

#[test]
fn waiters_are_woken() {
    let brief = |longpoll: &mut Longpoll| {
        (longpoll.messages, longpoll.rounds, longpoll.waiters) = (40, 2, vec![1, 3])
    };
    let sheet = verified(1.0, brief);
    assert_eq!(sheet.spreads.len(), 6);
    assert!(sheet.spreads.iter().all(|spread| spread.latency.samples() == 40));
    convicted(
        Fault::DeliversTwice,
        Wrong::DoubleLease,
        1.0,
        |longpoll: &mut Longpoll| {
            (longpoll.messages, longpoll.rounds) = (200, 1);
        },
    );
}

fn rush(burst: &mut Burst) {
    (burst.seconds, burst.rate) = (0.2, Some(5_000.0));
}

#[test]
fn a_rush_is_absorbed_and_drains() {
    let sheet = verified(1.0, rush);
    assert!(sheet.value("peak backlog") > Some(300.0), "{sheet:?}");
    assert!(sheet.timeline.is_some());
    let nonsense = Burst {
        capacity: 4.0,
        ..<Burst as epoq_bench::scenarios::Settings>::defaults()
    };
    assert!(nonsense.check().unwrap_err().contains("--capacity"));
}

#[test]
fn faults_in_the_rush() {
    convicted(Fault::LosesOne, Wrong::Lost, 1.0, rush);
    convicted(Fault::ForgetsDelete, Wrong::LeftOver, 1.0, rush);
}

fn stragglers(straggler: &mut Straggler) {
    (straggler.messages, straggler.one_in) = (30_000, vec![252]);
}

#[test]
fn survivors_move_together() {
    let sheet = verified(1.0, stragglers);
    let bytes = |kind: &str, when: &str| {
        let name = format!("bytes per {kind} survivor of 252, {when}");
        sheet.value(&name).unwrap_or_else(|| panic!("{name}: {sheet:?}"))
    };
    for (kind, when) in [("delayed", "after a minute"), ("visible", "after 12 hours")] {
        assert!(bytes(kind, "before") > 20_000.0, "{sheet:?}");
        assert!(bytes(kind, when) < 2_000.0, "{sheet:?}");
    }
    // Leases go on, so handles must, where they are.
    assert_eq!(sheet.value("evacuated, leased of 252"), Some(0.0));
    let few = Straggler {
        messages: 1000,
        ..<Straggler as epoq_bench::scenarios::Settings>::defaults()
    };
    assert!(few.check().unwrap_err().contains("--messages"));
}

#[test]
fn a_straggler_is_scaled_to_some_survivors() {
    let mut straggler = <Straggler as epoq_bench::scenarios::Settings>::defaults();
    straggler.scale(0.000_1);
    assert_eq!(straggler.check(), Ok(()));
    (straggler.messages, straggler.one_in) = (500, vec![2]);
    straggler.scale(1.0);
    assert_eq!(straggler.messages, 500);
}

#[test]
fn faults_among_survivors() {
    convicted(Fault::LosesOne, Wrong::Lost, 1.0, stragglers);
    convicted(Fault::ForgetsDelays, Wrong::Early, 1.0, stragglers);
    convicted(Fault::ForgetsDelete, Wrong::LeftOver, 1.0, stragglers);
}

fn soon(expiry: &mut Expiry) {
    (expiry.messages, expiry.window_ms, expiry.lead_ms) = (20_000, 200, 200);
}

#[test]
fn leases_end_when_they_should() {
    let sheet = verified(1.0, soon);
    // Rounded up for each receiver.
    assert!(sheet.spreads[0].latency.samples() >= 20_000, "{sheet:?}");
    convicted(Fault::EndsLeasesEarly, Wrong::DoubleLease, 1.0, soon);
    convicted(Fault::DeliversTwice, Wrong::DoubleLease, 1.0, soon);
}

#[test]
fn idle_queues_are_weighed() {
    let few = |idle: &mut IdleQueues| idle.queues = 150;
    let sheet = verified(1.0, few);
    assert!(sheet.value("bytes of the budget per queue drained") > Some(0.0));
    convicted(Fault::LosesOne, Wrong::Lost, 1.0, few);
}

fn tenants(fair: &mut Fair) {
    (fair.backlog, fair.noisy_us) = (400, 1000);
}

#[test]
fn tenants_are_told_apart() {
    let sheet = verified(1.0, tenants);
    assert!(sheet.value("quiet p99 without groups over with") > Some(0.0));
    convicted(Fault::LosesOne, Wrong::Lost, 1.0, tenants);
    convicted(Fault::DeliversTwice, Wrong::DoubleLease, 1.0, tenants);
}

fn little_room(overload: &mut Overload) {
    (overload.memory_mib, overload.seconds) = (4, 0.2);
}

#[test]
fn a_full_ledger_keeps_within_its_budget() {
    let sheet = verified(1.0, little_room);
    assert!(sheet.value("refusals") > Some(0.0), "{sheet:?}");
    assert!(
        sheet.value("most memory used") <= Some(f64::from(4 << 20)),
        "{sheet:?}"
    );
    convicted(Fault::LosesOne, Wrong::Lost, 1.0, little_room);
    convicted(Fault::ForgetsDelete, Wrong::LeftOver, 1.0, little_room);
}

fn brief_rush(width: &mut Width) {
    (width.messages, width.patience_s, width.seconds) = (50_000, 0.1, 0.3);
}

#[test]
fn a_rush_and_then_little() {
    let sheet = verified(1.0, brief_rush);
    assert!(sheet.value("partitions after the rush") >= Some(1.0), "{sheet:?}");
    convicted(Fault::LosesOne, Wrong::Lost, 1.0, brief_rush);
    convicted(Fault::Corrupts, Wrong::Corrupt, 1.0, brief_rush);
}

#[test]
fn groups_are_kept_in_order() {
    let sheet = verified(1.0, |fifo: &mut Fifo| {
        (fifo.groups, fifo.threads, fifo.batch) = (vec![1, 10_000], vec![1, 2], vec![10]);
        (fifo.passes, fifo.seconds, fifo.depth) = (1, 0.05, 1);
    });
    for threads in ["1 thread", "2 threads"] {
        let name = format!("10 k groups, {threads}, batch 10, epoq over locked-fifo");
        assert!(sheet.value(&name) > Some(0.0), "{sheet:?}");
    }
    let aims = sheet.figures.iter().filter(|figure| figure.aim.is_some());
    assert_eq!(aims.count(), 3);
}

#[test]
fn what_is_sent_again_is_not_accepted_again() {
    let sheet = verified(1.0, |dedup: &mut FifoDedup| {
        (dedup.passes, dedup.seconds, dedup.ids) = (1, 0.05, 20_000);
    });
    for target in ["epoq", "locked-fifo"] {
        let books = &sheet.books[target];
        let (sent, again) = (
            books["sent"].as_f64().unwrap(),
            books["sent_again"].as_f64().unwrap(),
        );
        assert!((0.8..1.2).contains(&(again / sent)), "{books}");
        assert_eq!(books["sent"], books["deleted"]);
    }
    assert!(
        sheet.value("bytes of the budget per live id, epoq") > Some(0.0),
        "{sheet:?}"
    );
}

#[test]
fn blocked_groups_stay_blocked() {
    let sheet = verified(1.0, |blocked: &mut FifoBlocked| {
        (blocked.blocked, blocked.rounds, blocked.slice_ms) = (vec![100, 3000], 2, 2);
    });
    for target in ["epoq", "locked-fifo"] {
        let name = format!("{target}, batch 10, 3 k blocked over none");
        assert!(sheet.value(&name) > Some(0.0), "{sheet:?}");
    }
    let unsorted = FifoBlocked {
        blocked: vec![2, 1],
        ..<FifoBlocked as epoq_bench::scenarios::Settings>::defaults()
    };
    assert!(unsorted.check().unwrap_err().contains("--blocked"));
}
