//! The ledger's own scenarios: each verifies, and each kind of check in them convicts the fault it is there for.

use epoq_bench::{
    check::Wrong,
    progress::Quiet,
    scenarios::{Fault, Sheet, Stage, Trial, delay::Delay},
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
