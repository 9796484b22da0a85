//! What can be configured, when it applies, and what is refused.

use crate::common;
use std::time::Duration;

use crate::common::{LONG, days, hours, manual, ms, one, queue, queue_with, secs, states};
use epoq::{
    Broker, ConfigError, CreateQueueError, ManualClock, NoSuchQueue, Outgoing, Queue, QueueConfig,
    ReceiveError, Redrive, RedriveAllow, SendError, Setting,
    limits::{
        DELAY_MAX, IN_FLIGHT_MAX_DEFAULT, LONG_DELAY_MAX, MAX_RECEIVES_LIMIT, RETENTION_MAX, RETENTION_MIN,
        VISIBILITY_MAX, WAIT_MAX,
    },
};

fn single() -> (ManualClock, Broker, Queue) {
    let (time, broker) = manual(1);
    let queue = queue(&broker, "q");
    (time, broker, queue)
}

fn base() -> QueueConfig {
    QueueConfig::default()
}

#[test]
fn the_defaults_are_those_of_sqs() {
    let config = base();
    assert_eq!(config.max_message_bytes, 1 << 20);
    assert_eq!((config.delay, config.wait), (Duration::ZERO, Duration::ZERO));
    assert_eq!((config.visibility_timeout, config.retention), (secs(30), days(4)));
    assert_eq!((config.redrive, config.redrive_allow), (None, RedriveAllow::All));
    assert_eq!(config.in_flight_max, Some(IN_FLIGHT_MAX_DEFAULT));
    assert_eq!((config.memory_limit, config.long_delays), (None, false));
}

#[test]
fn the_configuration_is_the_one_given_and_the_one_set_last() {
    let (_time, broker, queue) = single();
    common::queue(&broker, "dead");
    assert_eq!(queue.config(), base());
    let config = QueueConfig {
        max_message_bytes: 1024,
        delay: secs(1),
        long_delays: true,
        visibility_timeout: hours(12),
        wait: secs(20),
        retention: days(14),
        redrive: Some(Redrive::new("dead", 1000)),
        redrive_allow: RedriveAllow::Queues(vec!["a".into()]),
        in_flight_max: None,
        memory_limit: Some(1 << 20),
        fifo: None,
    };
    assert_eq!(broker.configure(&queue, config.clone()), Ok(()));
    assert_eq!(queue.config(), config);
    assert_eq!(broker.queue("q").expect("there").config(), config);
    // Clones are the same queue.
    assert_eq!(broker.configure(&queue.clone(), base()), Ok(()));
    assert_eq!(queue.config(), base());
}

// The visibility timeout.

#[test]
fn the_visibility_timeout_is_that_of_the_receive_or_else_the_queues() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        visibility_timeout: secs(10),
        ..base()
    };
    let queue = queue_with(&broker, "q", config);
    for (asked, lasts) in [
        (None, secs(10)),
        (Some(secs(3)), secs(3)),
        (Some(secs(20)), secs(20)),
    ] {
        queue.send(b"m").expect("room");
        let message = queue.receive(1, asked).expect("valid").remove(0);
        time.advance(lasts);
        assert_eq!(queue.receive(1, asked), Ok(vec![]), "{asked:?}");
        time.advance(ms(1));
        let again = queue.receive(1, asked).expect("valid").remove(0);
        assert_eq!(again.message_id(), message.message_id());
        common::delete(&queue, &again);
    }
}

#[test]
fn the_visibility_timeout_is_thirty_seconds_unless_told_otherwise() {
    let (time, _broker, queue) = single();
    queue.send(b"m").expect("room");
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
    time.advance(secs(30));
    assert_eq!(queue.receive(1, None), Ok(vec![]));
    time.advance(ms(1));
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
}

#[test]
fn a_queue_timeout_of_zero_receives_without_a_lease() {
    let (_time, broker) = manual(1);
    let config = QueueConfig {
        visibility_timeout: Duration::ZERO,
        ..base()
    };
    let queue = queue_with(&broker, "q", config);
    queue.send(b"m").expect("room");
    for count in 1..4 {
        let received = queue.receive(10, None).expect("valid");
        assert_eq!((received.len(), received[0].receive_count()), (1, count));
        assert_eq!(states(&queue), (1, 0, 0));
    }
}

#[test]
fn settings_below_a_millisecond_are_rounded_up() {
    let (time, broker) = manual(1);
    let config = QueueConfig {
        visibility_timeout: Duration::from_nanos(1),
        delay: Duration::from_nanos(1),
        ..base()
    };
    let queue = queue_with(&broker, "q", config);
    queue.send(b"m").expect("room");
    assert_eq!(states(&queue), (0, 0, 1), "that is not zero");
    time.advance(ms(2));
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
    assert_eq!(states(&queue), (0, 1, 0), "nor is that");
}

#[test]
fn a_changed_timeout_does_not_touch_messages_in_flight() {
    let (time, broker, queue) = single();
    queue.send(b"m").expect("room");
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
    for visibility_timeout in [Duration::ZERO, hours(12)] {
        let config = QueueConfig {
            visibility_timeout,
            ..base()
        };
        broker.configure(&queue, config).expect("valid");
        assert_eq!(queue.receive(1, None), Ok(vec![]));
    }
    time.advance(secs(30) + ms(1));
    assert_eq!(queue.receive(1, None).expect("valid").len(), 1);
    // The next receive takes the new one.
    time.advance(hours(11));
    assert_eq!(queue.receive(1, None), Ok(vec![]));
}

// Limits.

#[test]
fn a_changed_message_size_applies_to_the_next_send() {
    let (_time, broker, queue) = single();
    let body = [b'x'; 2000];
    queue.send(&body).expect("room");
    let config = QueueConfig {
        max_message_bytes: 1999,
        ..base()
    };
    broker.configure(&queue, config).expect("valid");
    let refused = SendError::TooLong {
        length: 2000,
        limit: 1999,
    };
    assert_eq!(queue.send(&body).map(|_| ()), Err(refused));
    let batch = queue.send_batch(&[&body[..], &body[1..]]).expect("valid");
    assert_eq!(batch[0].map(|_| ()), Err(refused));
    assert!(batch[1].is_ok());
    assert_eq!(one(&queue, LONG).body(), body, "what was accepted stays");
}

#[test]
fn a_queues_own_memory_limit_binds_and_can_be_lifted() {
    let (_time, broker) = manual(1);
    let config = QueueConfig {
        memory_limit: Some(200_000),
        ..base()
    };
    let (tight, other) = (queue_with(&broker, "tight", config), queue(&broker, "other"));
    let body = [b'x'; 10_000];
    let mut sent = 0;
    let refusal = loop {
        match tight.send(&body) {
            Ok(_) => sent += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!((10..20).contains(&sent), "{sent}");
    assert!(
        matches!(refusal, SendError::OverBudget { limit: 200_000, .. }),
        "{refusal:?}"
    );
    assert_eq!(tight.memory().limit, 200_000);
    other.send(&body).expect("its neighbour does not mind");
    assert_eq!(states(&tight).0, sent, "nothing is lost");
    broker.configure(&tight, base()).expect("valid");
    tight.send(&body).expect("room");
}

#[test]
fn every_duration_has_its_range() {
    let (_time, broker, queue) = single();
    let nano = Duration::from_nanos(1);
    type Set = fn(&mut QueueConfig, Duration);
    let settings: [(Setting, Set, Duration, Duration); 4] = [
        (Setting::Delay, |c, d| c.delay = d, Duration::ZERO, DELAY_MAX),
        (
            Setting::VisibilityTimeout,
            |c, d| c.visibility_timeout = d,
            Duration::ZERO,
            VISIBILITY_MAX,
        ),
        (Setting::Wait, |c, d| c.wait = d, Duration::ZERO, WAIT_MAX),
        (
            Setting::Retention,
            |c, d| c.retention = d,
            RETENTION_MIN,
            RETENTION_MAX,
        ),
    ];
    for (field, set, least, limit) in settings {
        let with = |given| {
            let mut config = base();
            set(&mut config, given);
            config
        };
        for given in [least, limit] {
            assert_eq!(
                broker.configure(&queue, with(given)),
                Ok(()),
                "{field:?} {given:?}"
            );
        }
        let good = queue.config();
        for given in [least.saturating_sub(nano), limit + nano, Duration::MAX] {
            if given >= least && given <= limit {
                continue;
            }
            let refused = ConfigError::OutOfRange {
                field,
                given,
                least,
                limit,
            };
            assert_eq!(broker.configure(&queue, with(given)), Err(refused));
            assert_eq!(
                broker.create_queue("new", with(given)).map(|_| ()),
                Err(CreateQueueError::Config(refused))
            );
        }
        assert_eq!(queue.config(), good, "nothing was changed");
    }
    assert!(broker.queue("new").is_none());
}

#[test]
fn long_delays_widen_the_range_of_the_queue_delay() {
    let (_time, broker, queue) = single();
    let long = |delay| QueueConfig {
        delay,
        long_delays: true,
        ..base()
    };
    assert_eq!(broker.configure(&queue, long(LONG_DELAY_MAX)), Ok(()));
    let given = LONG_DELAY_MAX + ms(1);
    let refused = Err(ConfigError::OutOfRange {
        field: Setting::Delay,
        given,
        least: Duration::ZERO,
        limit: LONG_DELAY_MAX,
    });
    assert_eq!(broker.configure(&queue, long(given)), refused);
}

// The redrive policy.

#[test]
fn max_receives_is_one_to_a_thousand() {
    let (_time, broker, queue) = single();
    common::queue(&broker, "dead");
    let with = |max| QueueConfig {
        redrive: Some(Redrive::new("dead", max)),
        ..base()
    };
    for max in [1, 1000] {
        assert_eq!(broker.configure(&queue, with(max)), Ok(()));
    }
    for given in [0, 1001, u32::MAX] {
        let refused = ConfigError::MaxReceives {
            given,
            limit: MAX_RECEIVES_LIMIT,
        };
        assert_eq!(broker.configure(&queue, with(given)), Err(refused));
    }
    assert_eq!(queue.config(), with(1000));
}

#[test]
fn the_dead_letter_queue_has_to_exist() {
    let (_time, broker, queue) = single();
    let config = QueueConfig {
        redrive: Some(Redrive::new("missing", 1)),
        ..base()
    };
    assert_eq!(
        broker.configure(&queue, config.clone()),
        Err(ConfigError::NoSuchTarget)
    );
    assert_eq!(
        broker.create_queue("new", config).map(|_| ()),
        Err(CreateQueueError::Config(ConfigError::NoSuchTarget))
    );
    assert_eq!(queue.config(), base());
    assert_eq!(broker.queue_names(), ["q"]);
}

#[test]
fn a_queue_is_not_its_own_dead_letter_queue() {
    let (_time, broker, queue) = single();
    let own = |name: &str| QueueConfig {
        redrive: Some(Redrive::new(name, 1)),
        ..base()
    };
    assert_eq!(broker.configure(&queue, own("q")), Err(ConfigError::OwnTarget));
    assert_eq!(
        broker.create_queue("new", own("new")).map(|_| ()),
        Err(CreateQueueError::Config(ConfigError::OwnTarget))
    );
}

#[test]
fn a_dead_letter_queue_says_who_may_name_it() {
    let (_time, broker, queue) = single();
    let allows = |redrive_allow| QueueConfig {
        redrive_allow,
        ..base()
    };
    let dead = queue_with(&broker, "dead", allows(RedriveAllow::Nobody));
    let names = QueueConfig {
        redrive: Some(Redrive::new("dead", 1)),
        ..base()
    };
    let listed = |names: &[&str]| RedriveAllow::Queues(names.iter().map(ToString::to_string).collect());
    for (allow, allowed) in [
        (RedriveAllow::Nobody, false),
        (RedriveAllow::All, true),
        (listed(&["other"]), false),
        (listed(&["other", "q"]), true),
    ] {
        broker.configure(&queue, base()).expect("valid");
        broker.configure(&dead, allows(allow.clone())).expect("valid");
        let expected = if allowed {
            Ok(())
        } else {
            Err(ConfigError::TargetRefuses)
        };
        assert_eq!(broker.configure(&queue, names.clone()), expected, "{allow:?}");
        let created = broker.create_queue("new", names.clone()).map(|_| ());
        let by_name = matches!(allow, RedriveAllow::All);
        assert_eq!(created.is_ok(), by_name, "{allow:?}: {created:?}");
        let _ = broker.delete_queue("new");
    }
    // Who names it already goes on.
    broker
        .configure(&dead, allows(RedriveAllow::Nobody))
        .expect("valid");
    queue.send(b"m").expect("room");
    one(&queue, Duration::ZERO);
    assert_eq!(queue.receive(1, LONG), Ok(vec![]));
    assert_eq!(states(&dead), (1, 0, 0));
}

#[test]
fn a_dead_letter_queue_lists_one_to_ten_sources() {
    let (_time, broker, queue) = single();
    for given in [0, 1, 10, 11] {
        let config = QueueConfig {
            redrive_allow: RedriveAllow::Queues(vec!["source".into(); given]),
            ..base()
        };
        let expected = if (1..=10).contains(&given) {
            Ok(())
        } else {
            Err(ConfigError::RedriveSources { given, limit: 10 })
        };
        assert_eq!(broker.configure(&queue, config), expected);
    }
}

#[test]
fn dead_letter_sources_are_listed_by_name() {
    let (_time, broker, queue) = single();
    assert!(broker.dead_letter_sources("q").is_empty());
    let names_q = QueueConfig {
        redrive: Some(Redrive::new("q", 1)),
        ..base()
    };
    for name in ["c", "a", "b"] {
        queue_with(&broker, name, names_q.clone());
    }
    assert_eq!(broker.dead_letter_sources("q"), ["a", "b", "c"]);
    broker.delete_queue("b").expect("there");
    let a = broker.queue("a").expect("there");
    broker.configure(&a, base()).expect("valid");
    assert_eq!(broker.dead_letter_sources("q"), ["c"]);
    assert!(broker.dead_letter_sources("missing").is_empty());
    drop(queue);
}

// Creating and deleting.

#[test]
fn a_queue_can_be_used_at_once_and_tells_when_it_was_created() {
    let (time, broker) = manual(1);
    time.advance(secs(17));
    let queue = queue(&broker, "q");
    queue.send(b"m").expect("room");
    assert_eq!(one(&queue, Duration::ZERO).body(), b"m");
    time.advance(secs(5));
    let config = QueueConfig {
        delay: secs(1),
        ..base()
    };
    broker.configure(&queue, config).expect("valid");
    queue.purge().expect("there");
    assert_eq!(broker.unix_millis(queue.created_at()), 17_000);
    broker.delete_queue("q").expect("there");
    assert_eq!(
        broker.unix_millis(common::queue(&broker, "q").created_at()),
        22_000
    );
}

#[test]
fn a_queue_is_deleted_whatever_it_holds() {
    let (_time, broker, queue) = single();
    queue.send(b"in flight").expect("room");
    one(&queue, LONG);
    queue.send(b"visible").expect("room");
    queue
        .send_message(&Outgoing::new(b"delayed").delay(secs(60)))
        .expect("room");
    assert_eq!(states(&queue), (1, 1, 1));
    assert_eq!(broker.delete_queue("q"), Ok(()));
    assert_eq!(broker.delete_queue("q"), Err(NoSuchQueue));
    assert!(broker.queue("q").is_none() && broker.queue_names().is_empty());
}

#[test]
fn a_queue_created_again_with_equal_settings_is_the_same() {
    let (_time, broker, queue) = single();
    queue.send(b"m").expect("room");
    let same = broker.create_queue("q", base()).expect("the same");
    assert_eq!(states(&same), (1, 0, 0));
    // What counts is how it is configured now.
    let config = QueueConfig {
        delay: secs(1),
        ..base()
    };
    broker.configure(&queue, config.clone()).expect("valid");
    assert_eq!(
        broker.create_queue("q", base()).map(|_| ()),
        Err(CreateQueueError::Exists)
    );
    assert!(broker.create_queue("q", config).is_ok());
}

#[test]
fn queue_names_are_listed_in_order() {
    let (_time, broker) = manual(1);
    assert!(broker.queue_names().is_empty());
    for name in ["b", "B", "a-1", "_"] {
        queue(&broker, name);
    }
    assert_eq!(broker.queue_names(), ["B", "_", "a-1", "b"]);
    broker.delete_queue("b").expect("there");
    assert_eq!(broker.queue_names(), ["B", "_", "a-1"]);
}

#[test]
fn a_deleted_queue_cannot_be_configured() {
    let (_time, broker, old) = single();
    broker.delete_queue("q").expect("there");
    assert_eq!(broker.configure(&old, base()), Err(ConfigError::QueueDeleted));
    let anew = queue(&broker, "q");
    let config = QueueConfig {
        delay: secs(1),
        ..base()
    };
    assert_eq!(broker.configure(&old, config), Err(ConfigError::QueueDeleted));
    assert_eq!(anew.config(), base(), "the one of its name is another");
    assert_eq!(old.receive(1, None), Err(ReceiveError::QueueDeleted));
}

/// Settings change under senders and receivers, who see the old ones or the new.
#[test]
fn configured_under_load() {
    let broker = Broker::builder().partitions(2).build().expect("valid");
    let (queue, dead) = (queue(&broker, "q"), queue(&broker, "dead"));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for number in 0..10_000u64 {
                        queue.send(&common::numbered(number, 16)).expect("room");
                        let received = match queue.receive(2, None) {
                            Ok(received) => received,
                            Err(ReceiveError::TooManyInFlight { limit: 5, .. }) => continue,
                            Err(error) => panic!("{error}"),
                        };
                        for message in received {
                            queue.delete(&message.receipt_handle()).expect("ours");
                        }
                    }
                })
            })
            .collect();
        let mut round = 0u64;
        while workers.iter().any(|worker| !worker.is_finished()) {
            round += 1;
            let config = QueueConfig {
                delay: if round.is_multiple_of(3) {
                    ms(1)
                } else {
                    Duration::ZERO
                },
                redrive: round.is_multiple_of(2).then(|| Redrive::new("dead", 1)),
                in_flight_max: if round.is_multiple_of(5) { Some(5) } else { None },
                visibility_timeout: if round.is_multiple_of(7) {
                    Duration::ZERO
                } else {
                    LONG
                },
                ..base()
            };
            broker.configure(&queue, config).expect("valid");
        }
    });
    states(&queue);
    states(&dead);
    assert_eq!(queue.counts().moved_out, dead.counts().moved_in);
}
