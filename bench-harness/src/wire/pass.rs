//! One pass on one server: connections that go through life cycles, a window in which they are counted, a drain, and the judgement.
//!
//! ```text
//! coordinator     create queue ─ connect ─ go ─┬─ warm-up ─┬─ window: processor times ─┬─ drain, counts, judge, delete queue
//! thread 0, 1 …                                └ connections: send → receive → delete ─┘ finish what they hold
//! ```

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use epoq_history::{
    Answer, End, History, Lease, Outcome, RealTime, Received, Recorder, Rules, Sent, Time as _, Verdict,
    check,
};
use hdrhistogram::Histogram;
use hyper::HeaderMap;
use serde_json::json;
use tokio::{
    runtime,
    task::{JoinSet, LocalSet},
};

use super::{
    bodies::Bodies,
    child,
    client::{Address, Connection, Reply, Unanswered},
    dialect::{self, Dialect, Operation, VISIBILITY_S},
    echo,
    pace::{Alarm, Schedule},
};
use crate::{
    latency::{self, Latency},
    suite::usage::{Meter, OtherWork},
};

/// What every pass of a kind does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) batch: usize,
    pub(super) body_bytes: usize,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
    pub(super) seed: u64,
}

/// A server under test.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) address: Address,
    /// Whose processor time is counted.
    pub(super) process: Option<u32>,
    /// None: each pass has a queue of its own. Else it answers by rote, whatever the queue.
    pub(super) rote_url: Option<String>,
}

/// What one pass came to.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// Answered within the window, by operation.
    pub(super) requests: [u64; 3],
    /// Messages that were received and deleted within the window.
    pub(super) messages: u64,
    pub(super) seconds: f64,
    /// Of the requests; in open loop counted from when each was due.
    pub(super) latency: Latency,
    /// Processor time of the server and of this process in the window.
    pub(super) server_cpu: Option<Duration>,
    pub(super) client_cpu: Option<Duration>,
    pub(super) other_work: Option<OtherWork>,
    pub(super) books: Books,
    /// In open loop: arrivals that were not served in time.
    pub(super) unserved: u64,
    pub(super) reconnects: u64,
    /// What is wrong; nothing, if all is well.
    pub(super) findings: Vec<String>,
}

/// What became of all messages of a pass; zeroes for a server that answers by rote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) deleted: u64,
    /// Of the deleted ones, those that the drain found.
    pub(super) drained: u64,
    /// What the server says it still has, after all.
    pub(super) remaining: u64,
    /// Operations on messages whose outcome is not known.
    pub(super) unanswered: u64,
    /// Events that were judged.
    pub(super) events: u64,
}

impl Pass {
    pub(super) fn all_requests(&self) -> u64 {
        self.requests.iter().sum()
    }

    pub(super) fn requests_per_second(&self) -> f64 {
        self.all_requests() as f64 / self.seconds
    }

    /// Processor time of the server for one request, in microseconds.
    pub(super) fn server_us(&self) -> Option<f64> {
        self.per_request_us(self.server_cpu)
    }

    /// The same of this process.
    pub(super) fn client_us(&self) -> Option<f64> {
        self.per_request_us(self.client_cpu)
    }

    fn per_request_us(&self, time: Option<Duration>) -> Option<f64> {
        let requests = self.all_requests();
        (requests > 0).then(|| time.map(|time| time.as_secs_f64() * 1e6 / requests as f64))?
    }

    pub(super) fn verified(&self) -> bool {
        self.findings.is_empty()
    }
}

/// When what is counted, in nanoseconds of the pass's clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    origin: Instant,
    begin_ns: u64,
    start_ns: u64,
    end_ns: u64,
}

/// One connection at work.
struct Clerk {
    dialect: Arc<Dialect>,
    heads: [HeaderMap; 3],
    connection: Connection,
    time: RealTime,
    window: Window,
    next_token: u64,
    last: Operation,
    held: Vec<(String, Lease)>,
    notes: Notes,
}

/// What a connection writes down.
struct Notes {
    recorder: Recorder,
    latency: latency::Recorder,
    requests: [u64; 3],
    messages: u64,
    unserved: u64,
    reconnects: u64,
    complaints: Complaints,
}

/// Refusals and answers that nobody understands: how many, and the first.
#[derive(Debug, Default)]
struct Complaints {
    count: u64,
    first: Option<String>,
}

impl Complaints {
    fn add(&mut self, what: String) {
        self.count += 1;
        self.first.get_or_insert(what);
    }
}

impl Clerk {
    async fn new(
        dialect: &Arc<Dialect>,
        address: &Address,
        time: RealTime,
        worker: usize,
        capacity: usize,
    ) -> anyhow::Result<Self> {
        let worker = u16::try_from(worker).context("more connections than can be told apart")?;
        let host = address.to_string();
        let head = |operation: Operation| dialect::headers(&host, operation.target(dialect.batch()));
        Ok(Self {
            dialect: Arc::clone(dialect),
            heads: [
                head(Operation::Send)?,
                head(Operation::Receive)?,
                head(Operation::Delete)?,
            ],
            connection: Connection::open(address).await?,
            time,
            window: Window {
                origin: Instant::now(),
                begin_ns: 0,
                start_ns: 0,
                end_ns: u64::MAX,
            },
            next_token: u64::from(worker) << 48,
            last: Operation::Delete,
            held: Vec::new(),
            notes: Notes {
                recorder: Recorder::new(worker, capacity),
                latency: latency::Recorder::new(0),
                requests: [0; 3],
                messages: 0,
                unserved: 0,
                reconnects: 0,
                complaints: Complaints::default(),
            },
        })
    }

    /// One request after the other until the window ends.
    async fn closed_loop(mut self) -> Notes {
        while self.time.now() < self.window.end_ns {
            self.act(self.next(), None).await;
        }
        self.finish().await
    }

    /// Requests when they are due. A connection takes the next one whenever it is idle.
    async fn open_loop(mut self, schedule: Rc<RefCell<Schedule>>) -> anyhow::Result<Notes> {
        let alarm = Alarm::new()?;
        let Window {
            origin,
            begin_ns,
            start_ns,
            end_ns,
        } = self.window;
        // Who is that late is overloaded.
        let late_ns = end_ns + (end_ns - start_ns);
        loop {
            let due_ns = begin_ns + schedule.borrow_mut().take_ns();
            if due_ns >= end_ns {
                break;
            }
            if self.time.now() >= late_ns {
                self.notes.unserved += 1;
                continue;
            }
            alarm.wait(origin + Duration::from_nanos(due_ns)).await?;
            self.act(self.next(), Some(due_ns)).await;
        }
        Ok(self.finish().await)
    }

    fn next(&self) -> Operation {
        match self.last {
            Operation::Send => Operation::Receive,
            Operation::Receive if !self.held.is_empty() => Operation::Delete,
            Operation::Receive | Operation::Delete => Operation::Send,
        }
    }

    async fn finish(mut self) -> Notes {
        if !self.held.is_empty() {
            self.act(Operation::Delete, None).await;
        }
        self.notes.reconnects = self.connection.reconnects();
        self.notes
    }

    /// Makes a request and writes down what came of it. Its latency counts from when it was `due`, or else from when it was sent.
    async fn act(&mut self, operation: Operation, due_ns: Option<u64>) {
        self.last = operation;
        let request = match operation {
            Operation::Send => self.dialect.send(self.next_token),
            Operation::Receive => self.dialect.receive(),
            Operation::Delete => self
                .dialect
                .delete(self.held.iter().map(|(handle, _)| handle.as_str())),
        };
        let invoke = self.time.now();
        let reply = self
            .connection
            .call(&self.heads[operation as usize], request)
            .await;
        let back = self.time.now();
        let window = &self.window;
        let began = due_ns.unwrap_or(invoke);
        let is_counted = (window.start_ns..window.end_ns).contains(&back);
        if is_counted && reply.is_ok() {
            self.notes.requests[operation as usize] += 1;
        }
        // In open loop all that were due in the window, however late: else a stall at its end would be forgotten.
        if due_ns.map_or(is_counted, |due| due >= window.start_ns) {
            self.notes.latency.record(back.saturating_sub(began));
        }
        match operation {
            Operation::Send => self.sent(invoke, back, reply),
            Operation::Receive => {
                self.received(self.dialect.batch(), invoke, back, reply);
            }
            Operation::Delete => {
                let deleted = self.deleted(invoke, back, reply);
                if is_counted {
                    self.notes.messages += deleted;
                }
            }
        }
    }

    fn sent(&mut self, invoke: u64, back: u64, reply: Result<Reply, Unanswered>) {
        let answers = answered(&reply, |body| self.dialect.sent(body), &mut self.notes.complaints);
        for at in 0..self.dialect.batch() {
            let answer = match &answers {
                Answered::Yes(ids) => ids
                    .get(at)
                    .copied()
                    .flatten()
                    .map_or(Answer::Refused, Answer::Accepted),
                Answered::Refused => Answer::Refused,
                Answered::Unknown => Answer::Unknown,
            };
            if let (Answered::Yes(_), Answer::Refused) = (&answers, answer) {
                self.notes
                    .complaints
                    .add("an entry of a send was refused".to_owned());
            }
            let sent = Sent {
                token: self.next_token,
                answer,
                delay: 0,
                group: None,
                deduplication: None,
            };
            self.next_token += 1;
            self.notes.recorder.send(invoke, back, sent);
        }
    }

    /// How many were received.
    fn received(&mut self, max: usize, invoke: u64, back: u64, reply: Result<Reply, Unanswered>) -> usize {
        let deliveries = match answered(
            &reply,
            |body| self.dialect.received(body),
            &mut self.notes.complaints,
        ) {
            Answered::Yes(deliveries) => deliveries,
            Answered::Refused => return 0,
            Answered::Unknown => {
                self.notes.recorder.lost_receive(invoke, back);
                return 0;
            }
        };
        if deliveries.len() > max {
            let complaint = format!(
                "{} messages received where at most {max} were asked for",
                deliveries.len()
            );
            self.notes.complaints.add(complaint);
        }
        let call = self.notes.recorder.call();
        let count = deliveries.len();
        for (place, delivery) in deliveries.into_iter().enumerate() {
            let received = Received {
                token: delivery.token,
                id: delivery.id,
                receives: None,
                visibility: VISIBILITY_S * 1_000_000_000,
                group: None,
                sequence: None,
                call,
                place: place as u16,
                lane: 0,
            };
            let lease = self.notes.recorder.receive(invoke, back, received);
            self.held.push((delivery.handle, lease));
        }
        count
    }

    /// How many were deleted.
    fn deleted(&mut self, invoke: u64, back: u64, reply: Result<Reply, Unanswered>) -> u64 {
        let count = self.held.len();
        let answers = answered(
            &reply,
            |body| self.dialect.deleted(body, count),
            &mut self.notes.complaints,
        );
        let mut deleted = 0;
        for (at, (_, lease)) in self.held.drain(..).enumerate() {
            let outcome = match &answers {
                Answered::Yes(done) if done.get(at) == Some(&true) => Outcome::Done,
                Answered::Yes(_) => {
                    let complaint = "an entry of a delete was refused under a live lease";
                    self.notes.complaints.add(complaint.to_owned());
                    Outcome::Refused
                }
                Answered::Refused => Outcome::Refused,
                Answered::Unknown => Outcome::Unknown,
            };
            deleted += u64::from(outcome == Outcome::Done);
            self.notes.recorder.delete(invoke, back, lease, outcome);
        }
        deleted
    }

    /// Receives and deletes all that is there; how many messages that were, and how many the server says it still has.
    async fn drain(&mut self, url: &str) -> anyhow::Result<(u64, u64)> {
        const FRUITLESS_MAX: u32 = 10;
        let (mut drained, mut fruitless) = (0, 0);
        loop {
            let invoke = self.time.now();
            let reply = self.connection.call(&self.heads[1], self.dialect.drain()).await;
            let received = self.received(crate::target::BATCH_MAX, invoke, self.time.now(), reply);
            if received > 0 {
                fruitless = 0;
                // Calls of one message delete one by one.
                let mut held = std::mem::take(&mut self.held);
                let at_once = if self.dialect.batch() == 1 { 1 } else { held.len() };
                while !held.is_empty() {
                    self.held = held.split_off(held.len().saturating_sub(at_once));
                    let request = self
                        .dialect
                        .delete(self.held.iter().map(|(handle, _)| handle.as_str()));
                    let invoke = self.time.now();
                    let reply = self.connection.call(&self.heads[2], request).await;
                    drained += self.deleted(invoke, self.time.now(), reply);
                }
                continue;
            }
            let [visible, others] = self.counts(url).await?;
            fruitless += 1;
            if visible == 0 || fruitless >= FRUITLESS_MAX {
                return Ok((drained, visible + others));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Messages that are visible, and those in flight or delayed.
    async fn counts(&mut self, url: &str) -> anyhow::Result<[u64; 2]> {
        const NAMES: [&str; 3] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let request = json!({"QueueUrl": url, "AttributeNames": NAMES});
        let answer = self
            .connection
            .ask("AmazonSQS.GetQueueAttributes", &request)
            .await?;
        let count = |name: &str| -> anyhow::Result<u64> {
            let text = answer["Attributes"][name].as_str();
            text.and_then(|text| text.parse().ok())
                .with_context(|| format!("GetQueueAttributes tells no {name}: {answer}"))
        };
        Ok([count(NAMES[0])?, count(NAMES[1])? + count(NAMES[2])?])
    }
}

/// How a request was answered.
enum Answered<T> {
    Yes(T),
    Refused,
    Unknown,
}

fn answered<T>(
    reply: &Result<Reply, Unanswered>,
    read: impl FnOnce(&Bytes) -> Result<T, dialect::Unreadable>,
    complaints: &mut Complaints,
) -> Answered<T> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(_) => return Answered::Unknown,
    };
    match reply.accepted().map(read) {
        Ok(Ok(answer)) => Answered::Yes(answer),
        Ok(Err(dialect::Unreadable(why))) => {
            complaints.add(format!("an answer that cannot be read: {why}"));
            Answered::Unknown
        }
        Err(refusal) => {
            complaints.add(refusal);
            // A server that failed does not say what it has done before.
            if reply.status.is_server_error() {
                Answered::Unknown
            } else {
                Answered::Refused
            }
        }
    }
}

/// Whoever makes passes: one thread that asks for queues, and judges.
#[derive(Debug)]
pub(super) struct Coordinator {
    runtime: runtime::Runtime,
    /// So that queues of several runs have different names.
    run: u32,
    queues: u32,
}

impl Coordinator {
    pub(super) fn new() -> anyhow::Result<Self> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(Self {
            runtime: runtime()?,
            run: since.map_or(0, |since| since.as_micros() as u32) ^ std::process::id().rotate_left(16),
            queues: 0,
        })
    }

    /// Asks a server beside the life cycle.
    fn ask(
        &self,
        address: &Address,
        target: &'static str,
        request: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        LocalSet::new().block_on(&self.runtime, async {
            Connection::open(address).await?.ask(target, request).await
        })
    }

    /// A new queue's URL.
    pub(super) fn create_queue(&mut self, address: &Address) -> anyhow::Result<String> {
        self.queues += 1;
        // Always of the same length, so that requests are.
        let name = format!("epoq-bench-{:08x}-{:06}", self.run, self.queues);
        let answer = self.ask(address, "AmazonSQS.CreateQueue", &json!({"QueueName": name}))?;
        let url = answer["QueueUrl"].as_str();
        Ok(url.context("CreateQueue tells no QueueUrl")?.to_owned())
    }

    pub(super) fn delete_queue(&self, address: &Address, url: &str) -> anyhow::Result<()> {
        self.ask(address, "AmazonSQS.DeleteQueue", &json!({"QueueUrl": url}))
            .map(|_| ())
    }

    /// What a server answers to the operations of a life cycle, with the sizes of requests and answers in bytes, without their heads.
    pub(super) fn record(
        &mut self,
        address: &Address,
        plan: &Plan,
    ) -> anyhow::Result<(echo::Script, [Sizes; 3], String)> {
        const ATTEMPTS: usize = 10;
        let url = self.create_queue(address)?;
        let dialect = Dialect::new(&url, plan.batch, Bodies::new(plan.body_bytes, plan.seed));
        let host = address.to_string();
        let recorded = LocalSet::new().block_on(&self.runtime, async {
            let mut connection = Connection::open(address).await?;
            let mut answers = Vec::new();
            let mut sizes = [Sizes::default(); 3];
            let mut handles = Vec::new();
            for operation in Operation::ALL {
                let target = operation.target(plan.batch);
                let headers = dialect::headers(&host, target)?;
                for attempt in 1.. {
                    let request = match operation {
                        Operation::Send => dialect.send(0),
                        Operation::Receive => dialect.receive(),
                        Operation::Delete => dialect.delete(handles.iter().map(String::as_str)),
                    };
                    let request_bytes = request.len();
                    let reply = match connection.call(&headers, request).await {
                        Ok(reply) => reply,
                        Err(Unanswered(why)) => return Err(anyhow!("{target}: {why}")),
                    };
                    let body = reply
                        .accepted()
                        .map_err(|refusal| anyhow!("{target}: {refusal}"))?;
                    if operation == Operation::Receive {
                        let received = dialect
                            .received(body)
                            .map_err(|error| anyhow!("{target}: {}", error.0))?;
                        if received.len() < plan.batch && attempt < ATTEMPTS {
                            continue;
                        }
                        anyhow::ensure!(
                            !received.is_empty(),
                            "{target}: nothing is received of what was sent"
                        );
                        handles = received.into_iter().map(|delivery| delivery.handle).collect();
                    }
                    sizes[operation as usize] = Sizes {
                        request: request_bytes,
                        answer: body.len(),
                    };
                    answers.push(echo::Answer::record(target, &reply.headers, body));
                    break;
                }
            }
            Ok((echo::Script { answers }, sizes))
        });
        self.delete_queue(address, &url)?;
        let (script, sizes) = recorded?;
        Ok((script, sizes, url))
    }

    /// Makes a pass; in open loop with `rate` requests a second, in closed loop without.
    pub(super) fn pass(
        &mut self,
        plan: &Plan,
        subject: &Subject,
        rate: Option<f64>,
        children: &[u32],
    ) -> anyhow::Result<Pass> {
        let url = match &subject.rote_url {
            Some(url) => url.clone(),
            None => self.create_queue(&subject.address)?,
        };
        let dialect = Arc::new(Dialect::new(
            &url,
            plan.batch,
            Bodies::new(plan.body_bytes, plan.seed),
        ));
        let time = RealTime::new();
        let (ready, is_ready) = mpsc::channel();
        let measured = thread::scope(|scope| -> anyhow::Result<_> {
            let mut threads = Vec::with_capacity(plan.threads);
            let mut starts = Vec::with_capacity(plan.threads);
            for index in 0..plan.threads {
                let (start, started) = mpsc::channel();
                starts.push(start);
                let (ready, dialect) = (ready.clone(), &dialect);
                threads.push(
                    scope.spawn(move || work(index, plan, subject, dialect, time, rate, ready, &started)),
                );
            }
            drop(ready);
            // A thread that fails sends nothing: its error is below, once all others have been told to give up.
            let is_complete = is_ready.iter().count() == plan.threads;
            let origin = Instant::now();
            let begin_ns = time.now();
            let window = Window {
                origin: origin - Duration::from_nanos(begin_ns),
                begin_ns,
                start_ns: begin_ns + plan.warm_up.as_nanos() as u64,
                end_ns: begin_ns + (plan.warm_up + plan.window).as_nanos() as u64,
            };
            for start in starts {
                if is_complete {
                    // One that has failed meanwhile does not hear it.
                    let _ = start.send(window);
                }
            }
            let own = std::process::id();
            let cpu = || (subject.process.and_then(child::cpu_time), child::cpu_time(own));
            let mut readings = None;
            if is_complete {
                thread::sleep(plan.warm_up);
                let meter = Meter::begin_with(children);
                let before = cpu();
                thread::sleep(Duration::from_nanos(window.end_ns.saturating_sub(time.now())));
                let after = cpu();
                readings = Some((before, after, meter.read()));
            }
            let mut notes = Vec::new();
            for thread in threads {
                notes.extend(
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?,
                );
            }
            let readings = readings.context("a connection gave up before it began")?;
            Ok((notes, readings))
        });
        let (notes, (before, after, other_work)) = measured?;
        let between =
            |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?));
        let mut pass = Pass {
            requests: [0; 3],
            messages: 0,
            seconds: plan.window.as_secs_f64(),
            latency: Latency::merge([]),
            server_cpu: between(before.0, after.0),
            client_cpu: between(before.1, after.1),
            other_work,
            books: Books::default(),
            unserved: 0,
            reconnects: 0,
            findings: Vec::new(),
        };
        let mut recorders = Vec::with_capacity(notes.len() + 1);
        let mut histograms: Vec<Histogram<u64>> = Vec::with_capacity(notes.len());
        let mut complaints = Complaints::default();
        let mut add_up = |notes: Notes, pass: &mut Pass| {
            for (sum, requests) in pass.requests.iter_mut().zip(notes.requests) {
                *sum += requests;
            }
            pass.messages += notes.messages;
            pass.unserved += notes.unserved;
            pass.reconnects += notes.reconnects;
            complaints.count += notes.complaints.count;
            complaints.first = complaints.first.take().or(notes.complaints.first);
            recorders.push(notes.recorder);
            notes.latency.into_histogram()
        };
        for notes in notes {
            histograms.push(add_up(notes, &mut pass));
        }
        pass.latency = Latency::merge(histograms);
        if subject.rote_url.is_none() {
            let drained = LocalSet::new().block_on(&self.runtime, async {
                let mut clerk = Clerk::new(&dialect, &subject.address, time, plan.connections, 0).await?;
                let counts = clerk.drain(&url).await?;
                anyhow::Ok((clerk.notes, counts))
            });
            let (notes, (drained, remaining)) = drained.context("reading what remains")?;
            let _ = add_up(notes, &mut pass);
            judge(&mut pass, recorders, drained, remaining)?;
            self.delete_queue(&subject.address, &url)?;
        }
        if let Some(first) = complaints.first {
            let finding = format!("refused or not understood: {} (first: {first})", complaints.count);
            pass.findings.push(finding);
        }
        if pass.all_requests() == 0 {
            pass.findings
                .push("no request was answered in the window".to_owned());
        }
        Ok(pass)
    }
}

/// Bytes of a request's body and of its answer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) request: usize,
    pub(super) answer: usize,
}

fn runtime() -> anyhow::Result<runtime::Runtime> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?)
}

/// One thread: its share of the connections, each a task.
#[allow(
    clippy::too_many_arguments,
    reason = "a thread's beginning: all that it is told"
)]
fn work(
    index: usize,
    plan: &Plan,
    subject: &Subject,
    dialect: &Arc<Dialect>,
    time: RealTime,
    rate: Option<f64>,
    ready: mpsc::Sender<()>,
    started: &mpsc::Receiver<Window>,
) -> anyhow::Result<Vec<Notes>> {
    /// More events than a connection comes to in a second; beyond, its notes grow.
    const EVENTS_PER_SECOND: f64 = 40_000.0;
    const EVENTS_MAX: f64 = 2_000_000.0;
    let seconds = (plan.warm_up + plan.window).as_secs_f64();
    let capacity = (seconds * EVENTS_PER_SECOND).min(EVENTS_MAX / plan.connections as f64);
    let runtime = runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let mut clerks = Vec::new();
        for worker in (index..plan.connections).step_by(plan.threads) {
            clerks.push(Clerk::new(dialect, &subject.address, time, worker, capacity as usize).await?);
        }
        // Sent, and no more to come.
        let _ = ready.send(());
        drop(ready);
        // Blocks the runtime, which has nothing to do yet.
        let Ok(window) = started.recv() else {
            return Ok(Vec::new());
        };
        let schedule = rate.map(|rate| {
            let share = clerks.len() as f64 / plan.connections as f64;
            Rc::new(RefCell::new(Schedule::new(rate * share, plan.seed, index)))
        });
        let mut tasks = JoinSet::new();
        for mut clerk in clerks {
            clerk.window = window;
            let schedule = schedule.clone();
            tasks.spawn_local(async move {
                match schedule {
                    None => Ok(clerk.closed_loop().await),
                    Some(schedule) => clerk.open_loop(schedule).await,
                }
            });
        }
        let mut notes = Vec::with_capacity(tasks.len());
        while let Some(finished) = tasks.join_next().await {
            notes.push(finished??);
        }
        Ok(notes)
    })
}

/// Compares the notes of all connections with what the drain found, by the rules of a standard queue.
fn judge(pass: &mut Pass, recorders: Vec<Recorder>, drained: u64, remaining: u64) -> anyhow::Result<()> {
    /// By how much the server's clock and ours may differ over one lease.
    const TOLERANCE: Duration = Duration::from_millis(5);
    let events = recorders.iter().map(Recorder::len).sum::<usize>() as u64;
    let end = match remaining {
        0 => End::Empty,
        count => End::HoldsSome(count),
    };
    let history = History::merge(recorders, end).context("the harness's own notes contradict themselves")?;
    let rules = Rules::standard()
        .deletes_not_told()
        .tolerance(TOLERANCE.as_nanos() as u64);
    let verdict = check(&history, &rules);
    let seen = verdict.seen();
    pass.books = Books {
        sent: seen.accepted,
        received: seen.received,
        deleted: seen.deleted,
        drained,
        remaining,
        unanswered: seen.unanswered,
        events,
    };
    pass.findings.extend(findings(&verdict, &pass.books));
    Ok(())
}

/// One line for each rule that was broken, and one if the sums do not agree.
fn findings(verdict: &Verdict, books: &Books) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for &rule in epoq_history::Rule::ALL {
        let count = verdict.count(rule);
        if count > 0 {
            let first = verdict.findings().iter().find(|finding| finding.rule == rule);
            let first = first
                .map(|finding| format!(" (first: {})", finding.what))
                .unwrap_or_default();
            lines.push(format!("{rule}: broken {count} times{first}"));
        }
    }
    // Each operation without an answer may be a batch that was done or not.
    let slack = books.unanswered * crate::target::BATCH_MAX as u64;
    let accounted = books.deleted + books.remaining;
    if books.sent.abs_diff(accounted) > slack {
        lines.push(format!(
            "the sums differ: {} sent, {} deleted, {} remaining",
            books.sent, books.deleted, books.remaining
        ));
    }
    lines
}
