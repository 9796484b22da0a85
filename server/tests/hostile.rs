//! What nobody means well with: no panic, bounded memory, and an answer or a closed connection.

mod common;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use common::{call, connect, get, json_request, ok, read, send, start};

const QUEUE: &str = "[[queues]]\nname = \"q\"\n";

/// The server does what it should, whatever was sent before.
fn assert_well(at: SocketAddr) {
    assert_eq!(get(at, "/health").status, 200);
    ok(at, "SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
}

#[test]
fn requests_that_are_no_http() {
    let running = start(QUEUE);
    let at = running.address();
    for bytes in [
        &b"\0\xff\x16\x03\x01\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        match send(at, bytes) {
            Ok(answer) => assert_eq!(answer.status / 100, 4, "{bytes:?}"),
            // Closed, but not held open without a word.
            Err(error) => assert!(
                !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "{bytes:?}: {error}"
            ),
        }
    }
    assert_well(at);
    running.shutdown();
}

#[test]
fn heads_and_bodies_that_are_too_long() {
    let running = start(&format!(
        "{QUEUE}[limits]\nhead-bytes = 8192\nbody-bytes = 2000000\n"
    ));
    let at = running.address();
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(send(at, head.as_bytes()).expect("an answer").status, 431);
    // Refused by what it says of itself, before any of it has come.
    let said =
        "POST / HTTP/1.1\r\nx-amz-target: AmazonSQS.SendMessage\r\ncontent-length: 99999999999\r\n\r\n";
    let answer = send(at, said.as_bytes()).expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert_eq!(
        answer.header("x-amzn-query-error"),
        Some("RequestEntityTooLarge;Sender")
    );
    // And by what comes, if it says nothing.
    let mut stream = connect(at);
    let begin =
        "POST / HTTP/1.1\r\nx-amz-target: AmazonSQS.SendMessage\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(begin.as_bytes()).expect("it reads");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..100 {
        // A slow machine may not have sent all before it is cut off.
        let _ = stream.write_all(chunk.as_bytes());
    }
    assert_eq!(read(&mut stream).expect("an answer").status, 413);
    assert_well(at);
    running.shutdown();
}

/// Clients that read only when they have sent all would otherwise find a connection that was reset, and no answer.
#[test]
fn who_is_refused_before_the_body_was_read_hears_it() {
    let running = start(&format!("{QUEUE}[limits]\nbody-bytes = 2000000\n"));
    let at = running.address();
    for (header, length, status) in [
        ("x: y", 20_000_000, 413),
        ("origin: https://example.org", 1_900_000, 403),
    ] {
        let head = format!("POST / HTTP/1.1\r\n{header}\r\ncontent-length: {length}\r\n\r\n");
        let mut stream = connect(at);
        stream.write_all(head.as_bytes()).expect("it reads");
        let written = stream.write_all(&vec![b'x'; length]);
        // Whatever may happen to the connection has happened.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(read(&mut stream).expect("an answer").status, status);
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        // A slow machine may have been cut off amid it.
        assert!(rest.is_empty() && (end.is_ok() || written.is_err()), "{end:?}");
    }
    assert_well(at);
    running.shutdown();
}

/// But not for ever.
#[test]
fn who_is_refused_and_goes_on_is_cut_off() {
    let running = start(QUEUE);
    let at = running.address();
    let mut stream = connect(at);
    let head = "POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it reads");
    let (began, mut sent) = (Instant::now(), 0);
    while let Ok(bytes) = stream.write(&[b'x'; 1 << 16]) {
        sent += bytes;
        // Some megabytes lie in the kernel's buffers.
        assert!(sent < 100 << 20, "{sent} bytes were taken");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // Nor is one waited for that says nothing.
    let mut stream = connect(at);
    stream.write_all(head.as_bytes()).expect("it reads");
    assert_eq!(read(&mut stream).expect("an answer").status, 413);
    thread::sleep(Duration::from_millis(2_500));
    let late = (0..10).find(|_| {
        thread::sleep(Duration::from_millis(50));
        stream.write_all(b"x").is_err()
    });
    assert!(late.is_some(), "it is still open");
    assert_well(at);
    running.shutdown();
}

#[test]
fn bodies_that_are_no_requests() {
    let running = start(QUEUE);
    let at = running.address();
    let deep = format!(r#"{{"MessageAttributes":{}"#, r#"{"a":"#.repeat(100_000));
    let wide = format!(
        r#"{{"QueueUrl":"q","Entries":[{}]}}"#,
        vec!["{}"; 500_000].join(",")
    );
    let long = "surrogate ".repeat(400_000);
    let entry = format!(r#"{{"Entries":["{long}"]}}"#);
    let attribute = format!(r#"{{"MessageAttributes":{{"a":"{long}"}}}}"#);
    let names = format!(
        r#"{{"QueueUrl":"q","AttributeNames":[{}]}}"#,
        vec!["\"a\""; 500_000].join(",")
    );
    for (action, body) in [
        ("SendMessage", "{"),
        ("SendMessage", "[]"),
        ("SendMessage", "\"text\""),
        (
            "SendMessage",
            r#"{"QueueUrl":"q","MessageBody":"a","DelaySeconds":1e999}"#,
        ),
        (
            "SendMessage",
            r#"{"QueueUrl":"q","MessageBody":"a","DelaySeconds":99999999999999999999}"#,
        ),
        ("SendMessage", r#"{"QueueUrl":"q","MessageBody":"\ud800"}"#),
        ("SendMessage", r#"{"QueueUrl":"q","MessageBody":{"a":1}}"#),
        ("SendMessage", deep.as_str()),
        ("SendMessageBatch", wide.as_str()),
        ("SendMessageBatch", entry.as_str()),
        ("SendMessage", attribute.as_str()),
        ("ReceiveMessage", names.as_str()),
        ("GetQueueUrl", r#"{"QueueName":"../../etc/passwd"}"#),
        ("CreateQueue", r#"{"QueueName":"q\r\nx: y"}"#),
    ] {
        let answer = call(at, action, body);
        assert_eq!(answer.status, 400, "{action}: {answer:?}");
        assert!(answer.body.len() < 4_096, "{action} is repeated at length");
        assert!(answer.json()["message"].is_string());
    }
    let invalid = [&json_request("SendMessage", &"x".repeat(20))[..], b""].concat();
    let text = String::from_utf8(invalid)
        .expect("text")
        .replace(&"x".repeat(20), "");
    let answer = send(
        at,
        &[text.as_bytes(), b"{\"QueueUrl\":\"\xff\xfe\xfd\"}\x20\x20"].concat(),
    )
    .expect("an answer");
    assert_eq!(answer.status, 400);
    assert_well(at);
    running.shutdown();
}

#[test]
fn a_host_that_is_none_is_not_repeated() {
    let running = start(QUEUE);
    let at = running.address();
    let body = r#"{"QueueName":"q"}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a/b?<script>\r\nx-amz-target: AmazonSQS.GetQueueUrl\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = send(at, request.as_bytes()).expect("an answer");
    assert_eq!(answer.json()["QueueUrl"], format!("http://{at}/000000000000/q"));
    running.shutdown();
}

/// What follows a request, or is only the beginning of the next one, holds no answer back.
#[test]
fn an_answer_does_not_wait_for_what_follows() {
    let running = start(QUEUE);
    let at = running.address();
    for rest in ["\r\n", "POST / HT"] {
        let mut request = json_request("SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
        request.extend_from_slice(rest.as_bytes());
        let mut stream = connect(at);
        let began = Instant::now();
        stream.write_all(&request).expect("it reads");
        assert_eq!(read(&mut stream).expect("an answer").status, 200);
        assert!(began.elapsed() < Duration::from_secs(5), "{rest:?}");
    }
    running.shutdown();
}

/// A client that asks and asks, and never reads, is not read from for ever.
#[test]
fn one_that_never_reads_is_held_up() {
    let running = start(&format!("{QUEUE}[limits]\nstall-s = 60\n"));
    let at = running.address();
    let mut stream = connect(at);
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .expect("a socket");
    let requests = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    let mut sent = 0;
    while sent < 64 << 20 {
        match stream.write(&requests) {
            Ok(bytes) => sent += bytes,
            Err(_) => break,
        }
    }
    // Some megabytes lie in the kernel's buffers.
    assert!(sent < 64 << 20, "{sent} bytes of requests were taken");
    assert_well(at);
    running.shutdown();
}

/// Pages in a browser on the same machine are nobody to take orders from.
#[test]
fn requests_by_web_pages_are_refused() {
    let running = start(QUEUE);
    let at = running.address();
    for (headers, status) in [
        ("host: localhost\r\norigin: https://example.org", 403),
        ("host: localhost\r\nsec-fetch-site: cross-site", 403),
        ("host: localhost\r\nreferer: https://example.org/", 403),
        // A name whose owner made it lead here.
        ("host: example.org", 403),
        ("host: localhost", 200),
    ] {
        let request = format!("GET /?Action=PurgeQueue&QueueUrl=q HTTP/1.1\r\n{headers}\r\n\r\n");
        let mut stream = connect(at);
        // Nothing of a request without a body is left unread: the connection goes on.
        for _ in 0..2 {
            stream.write_all(request.as_bytes()).expect("it reads");
            let answer = read(&mut stream).expect("an answer");
            assert_eq!(
                (answer.status, answer.header("connection")),
                (status, None),
                "{headers}"
            );
        }
    }
    assert_well(at);
    running.shutdown();
}

#[test]
fn many_requests_at_once_on_one_connection_are_answered_in_order() {
    let running = start(QUEUE);
    let at = running.address();
    let mut stream = connect(at);
    let requests: Vec<u8> = (0..500)
        .flat_map(|number| {
            json_request(
                "SendMessage",
                &format!(r#"{{"QueueUrl":"q","MessageBody":"{number}"}}"#),
            )
        })
        .collect();
    let mut writer = stream.try_clone().expect("a socket");
    let writing = thread::spawn(move || writer.write_all(&requests));
    let md5s: Vec<String> = (0..500)
        .map(|_| {
            let answer = read(&mut stream).expect("an answer");
            answer.json()["MD5OfMessageBody"]
                .as_str()
                .expect("a digest")
                .to_owned()
        })
        .collect();
    writing.join().expect("no panic").expect("it reads");
    // Those of "0" and "1".
    assert_eq!(md5s[0], "cfcd208495d565ef66e7dff9f98764da");
    assert_eq!(md5s[1], "c4ca4238a0b923820dcc509a6f75849b");
    running.shutdown();
}

#[test]
fn who_is_slow_or_idle_is_cut_off() {
    let running = start(&format!("{QUEUE}[limits]\nidle-s = 1\nbody-s = 1\n"));
    let at = running.address();
    let began = Instant::now();
    let mut idle = connect(at);
    let mut loris = connect(at);
    let mut half = connect(at);
    half.write_all(b"POST / HTTP/1.1\r\nx-amz-target: AmazonSQS.SendMessage\r\ncontent-length: 100\r\n\r\n{")
        .expect("it reads");
    loris.write_all(b"POST / HTTP/1.1\r\n").expect("it reads");
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        if loris.write_all(b"x: y\r\n").is_err() {
            break;
        }
    }
    assert_eq!(read(&mut half).expect("an answer").status, 408);
    let mut rest = Vec::new();
    // Closed or reset, either is an end.
    let _ = loris.read_to_end(&mut rest);
    let _ = idle.read_to_end(&mut rest);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_well(at);
    running.shutdown();
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let running = start(&format!("{QUEUE}[limits]\nconnections = 3\n"));
    let at = running.address();
    let held: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = connect(at);
            stream
                .write_all(&json_request("ListQueues", "{}"))
                .expect("it reads");
            assert_eq!(read(&mut stream).expect("an answer").status, 200);
            stream
        })
        .collect();
    assert_eq!(read(&mut connect(at)).expect("an answer").status, 503);
    // Also one that reads only when it has sent its request.
    let mut stream = connect(at);
    // A slow machine may not have sent all before it is cut off.
    let _ = stream.write_all(&json_request("ListQueues", &" ".repeat(1_000_000)));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(read(&mut stream).expect("an answer").status, 503);
    drop(held);
    let until = Instant::now() + Duration::from_secs(10);
    while send(at, b"GET /health HTTP/1.1\r\n\r\n").map_or(0, |answer| answer.status) != 200 {
        assert!(Instant::now() < until, "no place gets free");
        thread::sleep(Duration::from_millis(10));
    }
    running.shutdown();
}

/// Whatever it sent after its request, and however it leaves.
#[test]
fn who_leaves_a_long_poll_takes_nothing_along() {
    let running = start(QUEUE);
    let at = running.address();
    let poll = json_request("ReceiveMessage", r#"{"QueueUrl":"q","WaitTimeSeconds":20}"#);
    // A line end, the beginning of another request, one whole, and more than is read ahead.
    let more = [
        Vec::new(),
        b"\r\n".to_vec(),
        b"P".to_vec(),
        poll.clone(),
        vec![b'x'; 40_000],
    ];
    for more in &more {
        for later in [false, true] {
            for _ in 0..5 {
                let mut stream = connect(at);
                if later {
                    stream.write_all(&poll).expect("it reads");
                    thread::sleep(Duration::from_millis(20));
                    stream.write_all(more).expect("it reads");
                } else {
                    stream.write_all(&[&poll[..], more].concat()).expect("it reads");
                }
                thread::sleep(Duration::from_millis(20));
                stream.shutdown(Shutdown::Both).expect("a socket");
            }
        }
        thread::sleep(Duration::from_millis(700));
        ok(at, "SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
        let received = ok(at, "ReceiveMessage", r#"{"QueueUrl":"q"}"#);
        assert_eq!(received["Messages"][0]["Body"], "a", "{} bytes more", more.len());
    }
    running.shutdown();
}

#[test]
fn a_server_that_ends_answers_its_long_polls() {
    let running = start(QUEUE);
    let at = running.address();
    let mut polls: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(at);
            let request = json_request("ReceiveMessage", r#"{"QueueUrl":"q","WaitTimeSeconds":20}"#);
            stream.write_all(&request).expect("it reads");
            stream
        })
        .collect();
    // Idle ones do not hold it up, nor those that have begun to ask and do not go on.
    let mut idle: Vec<_> = (0..10).map(|_| connect(at)).collect();
    for stream in &mut idle[..3] {
        stream
            .write_all(&json_request("ListQueues", "{}"))
            .expect("it reads");
        assert_eq!(read(stream).expect("an answer").status, 200);
    }
    for stream in &mut idle[..6] {
        stream.write_all(b"POST / HTTP/1.1\r\n").expect("it reads");
    }
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    running.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for poll in &mut polls {
        let answer = read(poll).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }
}

#[test]
fn it_ends_under_load() {
    let running = start(QUEUE);
    let at = running.address();
    let senders: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut sent = 0;
                let mut stream = connect(at);
                let request = json_request("SendMessage", r#"{"QueueUrl":"q","MessageBody":"a"}"#);
                while stream.write_all(&request).is_ok() {
                    match read(&mut stream) {
                        Ok(answer) => assert_eq!(answer.status, 200),
                        Err(_) => break,
                    }
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    running.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5));
    for sender in senders {
        assert!(sender.join().expect("no panic") > 0);
    }
}

#[test]
fn idle_connections_are_in_nobodys_way() {
    // Few enough for the files that a process may usually have open, both ends and other tests counted.
    let running = start(QUEUE);
    let at = running.address();
    let idle: Vec<_> = (0..100).map(|_| connect(at)).collect();
    assert_well(at);
    drop(idle);
    running.shutdown();
}

/// Whether a request is, at last, answered with a 503 while others hold 800,000 bytes, and the others are not.
fn is_refused_beside_what_is_held(at: SocketAddr, request: &[u8]) -> bool {
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect(at);
            let head =
                "POST / HTTP/1.1\r\nx-amz-target: AmazonSQS.SendMessage\r\ncontent-length: 400000\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("it reads");
            // All but the end.
            stream.write_all(&vec![b' '; 399_999]).expect("it reads");
            stream
        })
        .collect();
    let is_refused = (0..20).any(|_| {
        thread::sleep(Duration::from_millis(20));
        send(at, request).expect("an answer").status == 503
    });
    let are_read = held.into_iter().all(|mut stream| {
        // Refused and closed already, perhaps.
        let _ = stream.write_all(b" ");
        read(&mut stream).is_ok_and(|answer| answer.status == 400)
    });
    is_refused && are_read
}

#[test]
fn bodies_together_have_a_limit() {
    let running = start(&format!("{QUEUE}[limits]\nbodies-mib = 1\n"));
    let at = running.address();
    let body = format!(r#"{{"QueueUrl":"q","MessageBody":"{}"}}"#, "x".repeat(900_000));
    let until = Instant::now() + Duration::from_secs(20);
    // Until what is held has been read before another takes so much that it is refused itself.
    while !is_refused_beside_what_is_held(at, &json_request("SendMessage", &body)) {
        assert!(Instant::now() < until, "all of it is held, or none");
    }
    // What was held has come back.
    assert_well(at);
    assert_eq!(call(at, "SendMessage", &body).status, 200);
    running.shutdown();
}

/// A million of them.
fn send_quotation_marks(at: SocketAddr) {
    let body = format!(
        r#"{{"QueueUrl":"q","MessageBody":"{}"}}"#,
        "\\\"".repeat(1_000_000)
    );
    assert_eq!(call(at, "SendMessage", &body).status, 200);
}

/// They were admitted before they waited.
#[test]
fn answers_to_long_polls_have_a_limit_together() {
    let running = start(&format!("{QUEUE}[limits]\nbodies-mib = 4\n"));
    let at = running.address();
    // Each that is woken leaves the message to the next. Answers are in XML, with six bytes for a quotation mark: more than lies in the
    // kernel's buffers when nobody reads.
    let request = "GET /000000000000/q?Action=ReceiveMessage&WaitTimeSeconds=20&VisibilityTimeout=0 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut polls: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(at);
            stream.write_all(request.as_bytes()).expect("it reads");
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    send_quotation_marks(at);
    thread::sleep(Duration::from_millis(500));
    let statuses: Vec<_> = polls
        .iter_mut()
        .map(|stream| read(stream).expect("an answer").status)
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    // What was refused is there for the next, and was received by nobody.
    let received = ok(
        at,
        "ReceiveMessage",
        r#"{"QueueUrl":"q","WaitTimeSeconds":5,"AttributeNames":["All"]}"#,
    );
    let message = &received["Messages"][0];
    assert_eq!(message["Body"].as_str().map(str::len), Some(1_000_000));
    let answered = statuses.iter().filter(|status| **status == 200).count();
    let receives = message["Attributes"]["ApproximateReceiveCount"].as_str();
    assert_eq!(
        receives,
        Some((answered + 1).to_string().as_str()),
        "{statuses:?}"
    );
    running.shutdown();
}

/// They were admitted before their bodies ended, of which nothing is missing but that end.
#[test]
fn answers_to_bodies_that_end_together_have_a_limit() {
    let running = start(&format!("{QUEUE}[limits]\nbodies-mib = 4\n"));
    let at = running.address();
    send_quotation_marks(at);
    let form = "Action=ReceiveMessage&VisibilityTimeout=0";
    let request = format!(
        "POST /000000000000/q HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{form}\r\n",
        form.len()
    );
    let mut clients: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(at);
            stream.write_all(request.as_bytes()).expect("it reads");
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    for stream in &mut clients {
        stream.write_all(b"0\r\n\r\n").expect("it reads");
    }
    thread::sleep(Duration::from_millis(500));
    let statuses: Vec<_> = clients
        .iter_mut()
        .map(|stream| read(stream).expect("an answer").status)
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    assert_well(at);
    running.shutdown();
}

#[test]
fn an_address_in_use_is_not_shared() {
    let running = start(QUEUE);
    let mut config = epoq_server::Config::default();
    config.listen = running.address();
    let error = epoq_server::Server::new(config).start().expect_err("it is taken");
    assert!(format!("{error:#}").contains("cannot listen on"), "{error:#}");
    running.shutdown();
}
