//! A server: one thread per core, each with a runtime, a listener and a worker of its own; and one that drives what nobody calls for.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use epoq::{Broker, MoveTask};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    runtime::{self, Runtime},
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    budget::Budget,
    files,
    handler::{Handler, Shared, Unread},
    patience::Patience,
    peer::OverTcp,
    scrape::Scrape,
    tls,
};
use crate::{
    config::{Config, QueueSpec},
    metrics::{self, Connections, Counters, Metrics},
    protocol::input::{Pairs, Text, Texts},
    service::{APART_MAX, Rules, Service},
};

/// Connections that wait to be accepted, per thread.
const BACKLOG: i32 = 1_024;
/// How often the queues are looked after when nobody calls.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The same, and the first head of a connection, once the server ends: what is on its way may come.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Threads for what takes long: none of it waits for one, the text of `/metrics` neither, of which one is made at a time.
const BLOCKING_MAX: usize = APART_MAX + 1;
/// How long a client is heard out that was answered before all was read.
const HEAR_OUT: Duration = Duration::from_secs(5);
/// The same if it says nothing.
const HEAR_OUT_IDLE: Duration = Duration::from_secs(1);
/// The same in bytes.
const HEAR_OUT_BYTES: usize = 64 << 20;
/// Those that are too many and are heard out, at a time. Others are told, and may not hear it.
const TURNED_AWAY_MAX: usize = 256;
/// How long that may take.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// What those are told that are too many.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\nretry-after: 1\r\n\r\n";

/// A server to be started.
#[derive(Debug)]
pub struct Server {
    config: Config,
}

/// A server that runs. Dropped, it ends too, but nobody waits for it.
#[derive(Debug)]
#[must_use]
pub struct Running {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// A server of this configuration.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Listens, creates the queues of the configuration, and starts the threads. The process's limit of open files is raised if connections
    /// need it.
    ///
    /// # Errors
    /// If the configuration is not valid, the address is taken, or a certificate cannot be read: the text says which.
    pub fn start(self) -> Result<Running> {
        let mut config = self.config;
        config.check()?;
        let memory = config.memory_mib.saturating_mul(1 << 20);
        let broker = Broker::builder().memory_limit(memory).build()?;
        let rules = Rules {
            account: config.account.clone(),
            cooldowns: config.cooldowns,
            queues_max: config.queues_max,
            // Beside what messages may take.
            beside_max: usize::try_from(memory / 4).unwrap_or(usize::MAX),
        };
        let (service, moves) = Service::new(broker, rules).context("random bytes")?;
        create_queues(&service, &config.queues)?;
        let service = Arc::new(service);
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;

        let number = config
            .threads
            .or_else(|| thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        config.limits.connections = files::connections(config.limits.connections, TURNED_AWAY_MAX, number);
        // Listeners that share an address would share it with another server too: an address in use is found by one that does not.
        drop(listen(config.listen, false)?);
        let first = listen(config.listen, true)?;
        // The port, if any would do.
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..number {
            listeners.push(listen(address, true)?);
        }

        let counters: Vec<_> = listeners.iter().map(|_| Arc::new(Counters::default())).collect();
        let connections = Arc::new(Connections::default());
        let registry = metrics::registry(Metrics {
            service: Arc::clone(&service),
            threads: counters.clone(),
            connections: Arc::clone(&connections),
        });
        let bodies = config.limits.bodies_mib.saturating_mul(1 << 20);
        let shared = Arc::new(Shared {
            config,
            service: Arc::clone(&service),
            registry,
            connections,
            budget: Arc::new(Budget::new(bodies)),
            scrape: Scrape::new(bodies),
            tls,
            address,
        });
        let (closing, closed) = watch::channel(false);
        let mut threads = Vec::with_capacity(number + 1);
        for (at, (listener, counters)) in listeners.into_iter().zip(counters).enumerate() {
            let (shared, closed) = (Arc::clone(&shared), closed.clone());
            // Made here, so that what can fail fails before the server is said to run.
            let runtime = runtime()?;
            listener.set_nonblocking(true)?;
            threads.push(spawn(format!("epoq-serve-{at}"), move || {
                serve(&runtime, listener, shared, counters, closed);
            })?);
        }
        let runtime = runtime()?;
        threads.push(spawn("epoq-tend".to_owned(), move || {
            runtime.block_on(tend(&service, moves, closed));
        })?);
        Ok(Running {
            address,
            closing,
            threads,
        })
    }
}

impl Running {
    /// The address listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server: nothing is accepted any more, long polls are answered, open connections end after the request they are at.
    /// Blocks until it is done, or the time for it is over.
    pub fn shutdown(self) {
        // Nobody hears it if all threads have ended.
        let _ = self.closing.send(true);
        for thread in self.threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(run)
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX)
        .build()
}

/// A listener, if it is `shared` among others on the same address: the kernel deals connections out.
fn listen(address: SocketAddr, shared: bool) -> Result<TcpListener> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(shared)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

fn create_queues(service: &Service, specs: &[QueueSpec]) -> Result<()> {
    // A dead-letter queue may stand behind the queue that names it: as long as some can be created, the others are tried again.
    let mut left: Vec<&QueueSpec> = specs.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut error = None;
        left.retain(|spec| match create_queue(service, spec) {
            Ok(()) => false,
            Err(refused) => {
                error.get_or_insert(anyhow!("queue {:?}: {refused}", spec.name));
                true
            }
        });
        if let (true, Some(error)) = (left.len() == before, error) {
            return Err(error);
        }
    }
    Ok(())
}

fn create_queue(service: &Service, spec: &QueueSpec) -> Result<(), crate::error::ServiceError> {
    let owned = |text: &str| Text(text.to_owned().into());
    let attributes = spec.attributes.iter().map(|(name, value)| {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            // Numbers and booleans read the same in JSON, and policies are JSON.
            value => serde_json::to_string(value).unwrap_or_default(),
        };
        (owned(name), owned(&text))
    });
    let attributes: Texts<'_> = Pairs(attributes.collect());
    let tags: Texts<'_> = Pairs(
        spec.tags
            .iter()
            .map(|(key, value)| (owned(key), owned(value)))
            .collect(),
    );
    service.create(&spec.name, &attributes, &tags)
}

/// Drives move tasks, and now and then what is due in queues that nobody calls.
async fn tend(
    service: &Service,
    mut started: mpsc::UnboundedReceiver<MoveTask>,
    mut closing: watch::Receiver<bool>,
) {
    let broker = service.broker();
    let mut tasks: Vec<MoveTask> = Vec::new();
    let mut advance_at = Instant::now() + TEND_EVERY;
    loop {
        let now = broker.now();
        let mut next = None;
        tasks.retain(|task| {
            let again = task.step(now);
            next = next.into_iter().chain(again).min();
            again.is_some()
        });
        if Instant::now() >= advance_at {
            broker.advance(now);
            advance_at = Instant::now() + TEND_EVERY;
        }
        // A task without a rate wants to be called again at once; connections come first.
        let step_at = next.map(|next| {
            let wait = Duration::from_millis(next.as_millis().saturating_sub(now.as_millis()).max(1));
            Instant::now() + wait
        });
        let wake_at = step_at.map_or(advance_at, |step_at| step_at.min(advance_at));
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            Some(task) = started.recv() => {
                tasks.push(task);
                // All that are there: tasks that were cancelled at once could come faster than one in each round goes.
                while let Ok(task) = started.try_recv() {
                    tasks.push(task);
                }
            }
            () = sleep_until(wake_at) => {}
        }
    }
}

/// One serving thread.
fn serve(
    runtime: &Runtime,
    listener: TcpListener,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    closing: watch::Receiver<bool>,
) {
    let worker = match shared.service.broker().worker() {
        Ok(worker) => worker,
        Err(error) => {
            tracing::error!(%error, "no worker");
            return;
        }
    };
    let grace = shared.config.limits.shutdown();
    let handler = Rc::new(Handler {
        shared,
        worker,
        counters,
        closing,
    });
    let local = LocalSet::new();
    local.block_on(runtime, async {
        let mut connections = JoinSet::new();
        if let Err(error) = accept(listener, &handler, &mut connections).await {
            tracing::error!(%error, "cannot accept connections");
        }
        let drained = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(left = connections.len(), "connections were cut off");
        }
    });
}

/// Accepts connections until the server ends.
async fn accept(
    listener: TcpListener,
    handler: &Rc<Handler>,
    connections: &mut JoinSet<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut closing = handler.closing.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Ok(()),
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let handler = Rc::clone(handler);
                connections.spawn_local(async move { connection(stream, peer, handler).await });
            }
            // Mostly that there are too many open files, which is not better at once.
            Err(error) => {
                tracing::warn!(%error, "accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A place among the connections that there may be.
struct Seat<'a>(&'a AtomicUsize);

impl<'a> Seat<'a> {
    fn take(taken: &'a AtomicUsize, limit: usize) -> Option<Self> {
        // Relaxed: a count that nothing else rests on.
        let before = taken.fetch_add(1, Ordering::Relaxed);
        let seat = Self(taken);
        (before < limit).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(mut stream: TcpStream, peer: SocketAddr, handler: Rc<Handler>) {
    let shared = Arc::clone(&handler.shared);
    let limits = &shared.config.limits;
    let Some(_seat) = Seat::take(&shared.connections.open, limits.connections) else {
        shared.connections.refused.fetch_add(1, Ordering::Relaxed);
        let told = async {
            let written = stream.write_all(TOO_MANY).await;
            let place = Seat::take(&shared.connections.turned_away, TURNED_AWAY_MAX);
            if written.is_ok() && place.is_some() {
                hear_out(&mut stream).await;
            }
        };
        let _ = timeout(TURN_AWAY, Box::pin(told)).await;
        return;
    };
    shared.connections.accepted.fetch_add(1, Ordering::Relaxed);
    // Answers are one write, and nobody is to wait for them.
    let _ = stream.set_nodelay(true);
    match &shared.tls {
        None => http(stream, peer, handler).await,
        // Boxed, as everything is that idle connections without TLS should not have to have room for.
        Some(tls) => {
            let closing = handler.closing.clone();
            let handshake = async {
                tokio::select! {
                    done = timeout(HANDSHAKE, tls.accept(stream)) => done.ok(),
                    () = last_call(closing) => None,
                }
            };
            match Box::pin(handshake).await {
                Some(Ok(stream)) => Box::pin(http(stream, peer, handler)).await,
                Some(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake"),
                None => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        }
    }
}

/// Ready a while after the server has begun to end.
async fn last_call(mut closing: watch::Receiver<bool>) {
    // An error is that the server is gone, which is as good as closing.
    let _ = closing.wait_for(|closing| *closing).await;
    sleep(LAST_CALL).await;
}

async fn http<S: AsyncRead + AsyncWrite + OverTcp + Unpin>(
    stream: S,
    peer: SocketAddr,
    handler: Rc<Handler>,
) {
    let limits = handler.shared.config.limits;
    let mut closing = handler.closing.clone();
    let unread = Rc::new(Unread::default());
    let told = Rc::clone(&unread);
    // Whether a head has been complete: only then anything is under way, and may take its time when the server ends.
    let begun = Rc::new(Cell::new(false));
    let begins = Rc::clone(&begun);
    let mut io = TokioIo::new(Patience::new(stream, limits.stall()));
    let client = io.inner().peer();
    let service = service_fn(move |request| {
        begins.set(true);
        let (handler, client, unread) = (Rc::clone(&handler), client.clone(), Rc::clone(&told));
        // Boxed: hyper keeps room for it while the connection is idle.
        Box::pin(async move { Ok::<_, Infallible>(handler.handle(request, &client, &unread).await) })
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle())
        // Not `pipeline_flush`: with it hyper writes without a bound while a client goes on sending.
        .max_buf_size(limits.head_bytes);
    let served = {
        let mut connection = pin!(builder.serve_connection(&mut io, service));
        tokio::select! {
            served = connection.as_mut() => served,
            _ = closing.wait_for(|closing| *closing) => {
                connection.as_mut().graceful_shutdown();
                let first_head = Box::pin(timeout(LAST_CALL, connection.as_mut())).await;
                match first_head {
                    Ok(served) => served,
                    Err(_) if begun.get() => connection.await,
                    Err(_) => {
                        tracing::debug!(%peer, "no head of a request before the end");
                        return;
                    }
                }
            }
        }
    };
    // Malformed requests have been answered by hyper.
    let is_malformed = served.as_ref().is_err_and(hyper::Error::is_parse);
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection");
    }
    if unread.get() || is_malformed {
        Box::pin(hear_out(io.inner_mut())).await;
    }
}

/// Reads what a client goes on to send that has had its last answer, and forgets it: a socket that is closed with something unread in it
/// resets the connection, and the answer may be lost with it (RFC 9112, section 9.6).
async fn hear_out(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let all = async {
        // So that the client sees that nothing more comes, and ends too.
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut heard = 0;
        let mut buffer = vec![0; 16 << 10];
        while heard < HEAR_OUT_BYTES {
            match timeout(HEAR_OUT_IDLE, stream.read(&mut buffer)).await {
                Ok(Ok(bytes @ 1..)) => heard += bytes,
                _ => return,
            }
        }
    };
    let _ = timeout(HEAR_OUT, all).await;
}
