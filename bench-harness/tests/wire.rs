//! `epoq-bench wire` against servers that keep their promises, and against one that does not.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use epoq_server::{Config, Running, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, body::Incoming, client::conn::http1 as client, header::HeaderName,
    server::conn::http1 as server, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, runtime, task::LocalSet};

fn wire(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_epoq-bench"))
        .arg("wire")
        .args(arguments.split_whitespace())
        .output()
        .expect("the binary starts")
}

fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{errors}"))
}

fn epoq() -> Running {
    let mut config = Config::default();
    config.listen.set_port(0);
    config.threads = Some(2);
    Server::new(config).start().expect("a free port")
}

#[test]
fn a_second_of_epoq_and_echo_is_verified() {
    let output = wire("--seconds 0.3 --passes 2 --connections 4 --rate 50% --json");
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    assert_eq!(report["verified"], true);
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(
        parts
            .iter()
            .map(|part| part["batch"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [10, 1]
    );
    for part in parts {
        for target in ["epoq", "echo"] {
            let series = &part["closed_loop"][target];
            assert!(
                series["requests_per_second"].as_f64().unwrap() > 0.0,
                "{target}: {series}"
            );
            assert_eq!(series["passes"].as_array().unwrap().len(), 2);
        }
        for pass in part["closed_loop"]["epoq"]["passes"].as_array().unwrap() {
            let book = |name: &str| pass["books"][name].as_u64().unwrap();
            assert!(
                book("sent") > 0 && book("events_judged") >= 3 * book("sent"),
                "{pass}"
            );
            assert_eq!(book("sent"), book("deleted"), "{pass}");
            assert_eq!((book("remaining"), book("unanswered")), (0, 0), "{pass}");
            assert!(pass["latency_ns"]["p99"].as_u64().unwrap() > 0, "{pass}");
        }
        // What the echo answers is what epoq has answered.
        assert!(
            part["body_bytes_on_the_wire"]["receive"]["answer"]
                .as_u64()
                .unwrap()
                > 0
        );
        assert_eq!(part["open_loop"].as_array().unwrap().len(), 3);
    }
    let ratios: Vec<_> = report["ratios"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|ratio| ratio["ratio"].as_str())
        .collect();
    assert!(ratios.contains(&"epoq/echo: requests/s"), "{ratios:?}");
}

#[test]
fn any_endpoint_will_do_and_files_are_written() {
    let running = epoq();
    let folder = std::env::temp_dir().join(format!("epoq-wire-{}", std::process::id()));
    let output = wire(&format!(
        "--endpoint http://{} --seconds 0.2 --passes 1 --batch 3 --body 1000 --rate 200 --out {}",
        running.address(),
        folder.display()
    ));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(folder.join("wire.md")).unwrap();
    assert!(
        text.contains("batches of 3") && text.contains("endpoint"),
        "{text}"
    );
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("wire.json")).unwrap()).unwrap();
    assert_eq!(
        (&json["verified"], &json["settings"]["body_bytes"]),
        (&true.into(), &1000.into())
    );
    std::fs::remove_dir_all(folder).unwrap();
    running.shutdown();
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        "--endpoint https://localhost",
        "--endpoint localhost:9324",
        "--connections 1 --threads 2",
        "--batch 11",
        "--batch 1,10,1",
        "--body 8",
        "--rate 0%",
    ] {
        assert_eq!(wire(arguments).status.code(), Some(2), "{arguments}");
    }
    // Nobody listens there.
    let output = wire("--endpoint http://127.0.0.1:9 --passes 1");
    assert_eq!(output.status.code(), Some(3));
}

/// Starts it with so many rounds that it is at them when `end` has come, each time later until a round was made: how far it comes
/// goes by what else the machine does. `begin` answers the arguments, and what `end` needs beside the process; `too_early` is
/// what is said when there was no round.
fn cut_short<T>(
    name: &str,
    too_early: &str,
    begin: impl Fn() -> (String, T),
    end: impl Fn(T, u32),
) -> (Output, Value, String) {
    let attempt = |seconds| {
        let (arguments, running) = begin();
        cut_short_after(seconds, name, too_early, &arguments, |process| {
            end(running, process)
        })
    };
    [8, 16]
        .into_iter()
        .find_map(attempt)
        .unwrap_or_else(|| attempt(32).expect("half a minute for one round"))
}

fn cut_short_after(
    seconds: u64,
    name: &str,
    too_early: &str,
    arguments: &str,
    end: impl FnOnce(u32),
) -> Option<(Output, Value, String)> {
    let folder = std::env::temp_dir().join(format!("epoq-wire-{name}-{}", std::process::id()));
    let process = Command::new(env!("CARGO_BIN_EXE_epoq-bench"))
        .args([
            "wire",
            "--seconds",
            "0.1",
            "--passes",
            "1000",
            "--connections",
            "4",
            "--threads",
            "1",
        ])
        .args(["--json", "--out"])
        .arg(&folder)
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(seconds));
    end(process.id());
    let output = process.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words}");
    if !folder.join("wire.json").exists() {
        assert!(words.contains(too_early), "{words}");
        return None;
    }
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{error}: {words}"))
    };
    let (json, text) = (read("wire.json"), read("wire.md"));
    std::fs::remove_dir_all(&folder).unwrap();
    Some((output, serde_json::from_str(&json).unwrap(), text))
}

/// Of the first part.
fn closed_loop_rounds(report: &Value) -> Option<u64> {
    report["parts"][0]["rounds"]["closed_loop"].as_u64()
}

/// There were some rounds, and the files say how many.
fn is_marked(report: &Value, text: &str) {
    assert_eq!(report["interrupted"], true, "{report}");
    let rounds = closed_loop_rounds(report).unwrap();
    assert!((1..1000).contains(&rounds), "{report}");
    let words = format!("of 1000 rounds per load these were made: {rounds} in closed loop");
    assert!(text.contains("**Interrupted") && text.contains(&words), "{text}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_rounds_that_were_made() {
    let begin = || ("--batch 1,10".to_owned(), ());
    let (output, report, text) = cut_short("interrupted", "nothing was measured", begin, |(), process| {
        let signalled = Command::new("kill").args(["-INT", &process.to_string()]).status();
        assert!(signalled.unwrap().success());
    });
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(
        (&report["verified"], &report["error"]),
        (&true.into(), &Value::Null)
    );
    is_marked(&report, &text);
}

#[test]
fn a_server_that_goes_away_takes_no_round_with_it() {
    let begin = || {
        let running = epoq();
        let arguments = format!("--endpoint http://{} --batch 10 --rate none", running.address());
        (arguments, running)
    };
    let (output, report, text) = cut_short("gone", "connect", begin, |running, _| running.shutdown());
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    assert!(report["error"].is_string(), "{report}");
    is_marked(&report, &text);
}

/// What a server does wrong, every so often.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Says that a message was sent, and takes it out again itself.
    Loses,
    /// Gives an answer of messages a second time.
    LeasesTwice,
    /// Changes a letter of a body.
    Alters,
    /// Says that a message was deleted, and does not delete it.
    Keeps,
}

/// A server in front of a good one.
struct Liar {
    lie: Lie,
    honest: SocketAddr,
    requests: AtomicU64,
    chances: AtomicU64,
    /// The last answer with messages.
    given: Mutex<Option<Bytes>>,
}

impl Liar {
    /// Starts to listen; it does so until the test's process ends.
    fn start(lie: Lie, honest: SocketAddr) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let liar = Arc::new(Self {
            lie,
            honest,
            requests: AtomicU64::new(0),
            chances: AtomicU64::new(0),
            given: Mutex::new(None),
        });
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let liar = Arc::clone(&liar);
                    let service = service_fn(move |request| {
                        let liar = Arc::clone(&liar);
                        async move { Ok::<_, Infallible>(liar.answer(request).await) }
                    });
                    tokio::task::spawn_local(
                        server::Builder::new().serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
        });
        address
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let target = parts.headers["x-amz-target"].to_str().unwrap().to_owned();
        let operation = target.trim_start_matches("AmazonSQS.");
        // Relaxed: any request will do. The first ones are recorded for the echo; then a lie in three chances.
        let is_chance = match self.lie {
            Lie::Keeps => operation == "DeleteMessage",
            Lie::LeasesTwice | Lie::Alters => operation == "ReceiveMessage",
            Lie::Loses => operation == "SendMessage",
        };
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let is_time =
            number > 50 && is_chance && self.chances.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
        match (self.lie, operation) {
            (Lie::Keeps, "DeleteMessage") if is_time => return Response::new(Full::default()),
            (Lie::LeasesTwice, "ReceiveMessage") if is_time => {
                let given = self.given.lock().unwrap().clone();
                if let Some(given) = given {
                    return Response::new(Full::new(given));
                }
            }
            _ => {}
        }
        let mut answer = self.ask(&target, body.clone()).await;
        let is_full = answer.windows(8).any(|bytes| bytes == b"Messages");
        match (self.lie, operation) {
            (Lie::Loses, "SendMessage") if is_time => self.take_out(&body).await,
            (Lie::LeasesTwice, "ReceiveMessage") if is_full => {
                *self.given.lock().unwrap() = Some(answer.clone())
            }
            (Lie::Alters, "ReceiveMessage") if is_full && is_time => {
                let mut text: Value = serde_json::from_slice(&answer).unwrap();
                let body = text["Messages"][0]["Body"].as_str().unwrap();
                text["Messages"][0]["Body"] = format!("{}X", &body[..body.len() - 1]).into();
                answer = text.to_string().into();
            }
            _ => {}
        }
        Response::new(Full::new(answer))
    }

    /// Receives and deletes a message of the queue that a request names.
    async fn take_out(&self, request: &Bytes) {
        let request: Value = serde_json::from_slice(request).unwrap();
        let url = &request["QueueUrl"];
        let receive = serde_json::json!({"QueueUrl": url}).to_string();
        let answer = self.ask("AmazonSQS.ReceiveMessage", receive.into()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        if let Some(handle) = answer["Messages"][0]["ReceiptHandle"].as_str() {
            let delete = serde_json::json!({"QueueUrl": url, "ReceiptHandle": handle}).to_string();
            self.ask("AmazonSQS.DeleteMessage", delete.into()).await;
        }
    }

    async fn ask(&self, target: &str, body: Bytes) -> Bytes {
        let stream = TcpStream::connect(self.honest).await.unwrap();
        let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::post("/")
            .header("host", self.honest.to_string())
            .header(HeaderName::from_static("x-amz-target"), target)
            .header("content-type", "application/x-amz-json-1.0")
            .body(Full::new(body))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    }
}

#[test]
fn liars_are_convicted() {
    let honest = epoq();
    for (lie, words) in [
        (Lie::Loses, &["nothing is lost"] as &[_]),
        // Whether the first holder has deleted the message by then is chance.
        (Lie::LeasesTwice, &["one lease at a time", "deleted is deleted"]),
        (Lie::Alters, &["nothing is invented or altered"]),
        (Lie::Keeps, &["deleted is deleted"]),
    ] {
        let liar = Liar::start(lie, honest.address());
        let output = wire(&format!(
            "--endpoint http://{liar} --seconds 0.3 --passes 1 --connections 4 --batch 1 --rate none --json"
        ));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{lie:?}: {errors}");
        let report = report(&output);
        assert_eq!(report["verified"], false, "{lie:?}");
        assert_eq!(
            report["ratios"],
            serde_json::json!([]),
            "{lie:?}: what is wrong has no speed"
        );
        assert!(
            errors.contains("WRONG: ") && words.iter().any(|words| errors.contains(words)),
            "{lie:?}: {errors}"
        );
    }
    honest.shutdown();
}
