//! The program as an operator runs it: limits of the system, signals, memory.
#![cfg(unix)]

mod common;

use std::{
    collections::HashSet,
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{Answer, connect, get, json_request, ok, process::Process, read};

/// A limit of open files below that of connections would have nobody else let in, nor told why.
#[test]
fn connections_are_as_many_as_files_leave_room_for() {
    // The hard limit, then one that can be raised.
    for (limit, connections) in [("ulimit -n 200", 100), ("ulimit -S -n 200", 300)] {
        let server = Process::start(limit, &[]);
        let at = server.address();
        let request = json_request("ListQueues", "{}");
        let held: Vec<_> = (0..connections)
            .map(|_| {
                let mut stream = connect(at);
                stream.write_all(&request).expect("it reads");
                assert_eq!(read(&mut stream).expect("an answer").status, 200);
                stream
            })
            .collect();
        let is_low = !limit.contains("-S");
        let refused = if is_low { 200 } else { 0 };
        for _ in 0..refused {
            assert_eq!(read(&mut connect(at)).expect("an answer").status, 503);
        }
        drop(held);
        server.terminate();
        let (code, log) = server.wait(Duration::from_secs(20));
        assert_eq!(code, Some(0));
        // Where the hard limit is below what is configured it is said in either case.
        assert!(log.contains("limit of open files") || !is_low, "{log}");
    }
}

/// One request after the other on a connection, until it ends: how many were answered. Each answer has to be a success, and the last one
/// may be missing.
fn keep_asking(
    at: SocketAddr,
    request: impl Fn(usize) -> Vec<u8>,
    mut answered: impl FnMut(usize, &Answer),
) -> usize {
    let Ok(mut stream) = TcpStream::connect(at) else {
        return 0;
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket");
    for number in 0.. {
        let answer = stream
            .write_all(&request(number))
            .and_then(|()| read(&mut stream));
        let Ok(answer) = answer else { return number };
        assert_eq!(answer.status, 200, "{answer:?}");
        answered(number, &answer);
    }
    unreachable!("numbers do not end")
}

/// As an orchestrator ends it, amid everything.
#[test]
fn sigterm_under_load() {
    let server = Process::start("", &[]);
    let at = server.address();
    for queue in ["busy", "quiet"] {
        ok(at, "CreateQueue", &format!(r#"{{"QueueName":"{queue}"}}"#));
    }
    let mut polls: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(at);
            let body = r#"{"QueueUrl":"quiet","WaitTimeSeconds":20}"#;
            stream
                .write_all(&json_request("ReceiveMessage", body))
                .expect("it reads");
            stream
        })
        .collect();
    // Who has not been accepted yet would not be answered.
    let until = Instant::now() + Duration::from_secs(20);
    while !get(at, "/metrics").body.lines().any(|line| {
        let open = line.strip_prefix("epoq_connections_open ");
        open.is_some_and(|open| open.parse().is_ok_and(|open: usize| open > polls.len()))
    }) {
        assert!(Instant::now() < until, "not all polls are accepted");
        thread::sleep(Duration::from_millis(100));
    }
    let deliveries = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..3)
        .map(|sender| {
            thread::spawn(move || {
                let mut ids = HashSet::new();
                let request = |number: usize| {
                    let body = format!(r#"{{"QueueUrl":"busy","MessageBody":"{sender}-{number}"}}"#);
                    json_request("SendMessage", &body)
                };
                let sent = keep_asking(at, request, |_, answer| {
                    let id = answer.json()["MessageId"].as_str().expect("confirmed").to_owned();
                    assert!(ids.insert(id), "confirmed twice");
                });
                (sent, ids.len())
            })
        })
        .collect();
    let receivers: Vec<_> = (0..2)
        .map(|_| {
            let deliveries = Arc::clone(&deliveries);
            thread::spawn(move || {
                let body = r#"{"QueueUrl":"busy","MaxNumberOfMessages":10,"WaitTimeSeconds":20}"#;
                keep_asking(
                    at,
                    |_| json_request("ReceiveMessage", body),
                    |_, answer| {
                        let received = answer.json();
                        let number = received["Messages"].as_array().map_or(0, Vec::len);
                        deliveries.fetch_add(number, Ordering::Relaxed);
                    },
                )
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    while deliveries.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "nothing is delivered");
        thread::sleep(Duration::from_millis(10));
    }
    server.terminate();
    for poll in &mut polls {
        let answer = read(poll).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }
    // Its own grace is 10 seconds, of which it needs none: everybody gets the answer to what is under way.
    let (code, log) = server.wait(Duration::from_secs(8));
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panic"), "{log}");
    let sent: usize = senders
        .into_iter()
        .map(|sender| {
            let (sent, confirmed) = sender.join().expect("no panic");
            assert_eq!(sent, confirmed);
            sent
        })
        .sum();
    let receives: usize = receivers
        .into_iter()
        .map(|receiver| receiver.join().expect("no panic"))
        .sum();
    let deliveries = deliveries.load(Ordering::Relaxed);
    assert!(sent > 0 && receives > 0 && deliveries > 0);
    // One of each sender may have been sent and not confirmed.
    assert!(deliveries <= sent + 3, "{deliveries} of {sent}");
    // Nobody is there any more.
    let refused = TcpStream::connect(at).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
}

/// What floods of all kinds may take beside what is configured: buffers of connections, bodies that grow, the allocator's spare pages.
const BESIDE_MIB: u64 = 256;

/// Many tiny requests and some large ones, among them such as are refused, and clients that do not read: memory has the bounds that are
/// configured for it.
#[test]
fn a_flood_is_bounded_in_memory() {
    const MESSAGES_MIB: u64 = 16;
    const BODIES_MIB: u64 = 16;
    let server = Process::start(
        "",
        &[
            ("EPOQ_MEMORY_MIB", &MESSAGES_MIB.to_string()),
            ("EPOQ_LIMITS_BODIES_MIB", &BODIES_MIB.to_string()),
            ("EPOQ_LIMITS_STALL_S", "1"),
        ],
    );
    let at = server.address();
    ok(at, "CreateQueue", r#"{"QueueName":"q"}"#);
    let Some(before) = server.resident_mib() else {
        eprintln!("the system does not say what memory the server takes");
        return;
    };
    let tiny = json_request("SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
    // Quotation marks, which take six times as much in an answer in XML.
    let quotes = "\\\"".repeat(1_000_000);
    let large = json_request(
        "SendMessage",
        &format!(r#"{{"QueueUrl":"q","MessageBody":"{quotes}"}}"#),
    );
    let wrong = json_request("SendMessageBatch", &format!(r#"{{"Entries":["{quotes}"]}}"#));
    let receive =
        b"GET /000000000000/q?Action=ReceiveMessage&MaxNumberOfMessages=10&VisibilityTimeout=0 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let metrics = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let until = Instant::now() + Duration::from_secs(4);
    // Connections, what each of them sends, and whether it reads the answers.
    let floods: [(usize, &[u8], bool); 6] = [
        (100, &tiny, true),
        (4, &large, true),
        (20, &large, false),
        (20, &wrong, false),
        (50, receive, false),
        (50, metrics, false),
    ];
    let answered: Vec<HashSet<u16>> = thread::scope(|scope| {
        let floods = floods.map(|(connections, request, reads)| {
            scope.spawn(move || {
                let mut statuses = HashSet::new();
                while Instant::now() < until {
                    statuses.extend(flood(at, connections, request, reads));
                }
                statuses
            })
        });
        floods.map(|flood| flood.join().expect("no panic")).into()
    });
    let most = server.resident_most_mib().expect("as before");
    assert!(
        most < before + MESSAGES_MIB + BODIES_MIB + BESIDE_MIB,
        "{most} MiB, of which {before} before; answers {answered:?}"
    );
    // Served, or refused for want of memory: nothing else.
    let [tiny, large, ..] = answered.as_slice() else {
        panic!("{answered:?}")
    };
    assert!(tiny.contains(&200), "{answered:?}");
    assert!(
        tiny.union(large).all(|status| matches!(status, 200 | 403 | 503)),
        "{answered:?}"
    );
    server.terminate();
    let (code, log) = server.wait(Duration::from_secs(20));
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("panic"), "{log}");
}

/// As many connections at a time, with a request on each, and the statuses of the answers if they are read. Who does not read stays for a
/// while.
fn flood(at: SocketAddr, connections: usize, request: &[u8], reads: bool) -> Vec<u16> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = connect(at);
        stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .expect("a socket");
        // It may have been refused before it was read.
        let _ = stream.write_all(request);
        streams.push(stream);
    }
    if !reads {
        thread::sleep(Duration::from_millis(200));
        return Vec::new();
    }
    let answers = streams.iter_mut().filter_map(|stream| read(stream).ok());
    answers.map(|answer| answer.status).collect()
}
