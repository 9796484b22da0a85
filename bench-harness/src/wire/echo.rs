//! The ceiling: a bare hyper server that reads a request whole and answers what the server under test has answered once, with the same
//! headers and the same bytes. One runtime per thread and a shared address, as epoq-server has it; nothing else.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, runtime, task::LocalSet};

/// Answers by the header `X-Amz-Target`, as a parent process sends them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Script {
    pub(super) answers: Vec<Answer>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    /// What a server answered to a target.
    pub(super) fn record(target: &str, headers: &HeaderMap, body: &[u8]) -> Self {
        // Those that hyper writes by itself, or that say something about the connection.
        let is_own = |name: &HeaderName| {
            [
                header::DATE,
                header::CONTENT_LENGTH,
                header::CONNECTION,
                header::TRANSFER_ENCODING,
            ]
            .contains(name)
        };
        let headers = headers.iter().filter(|(name, _)| !is_own(name));
        Self {
            target: target.to_owned(),
            headers: headers
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    (name.as_str().to_owned(), value)
                })
                .collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    fn prepare(self) -> anyhow::Result<Prepared> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        Ok(Prepared {
            target: self.target,
            headers,
            body: self.body.into(),
        })
    }
}

/// An answer ready to be given.
#[derive(Debug)]
struct Prepared {
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

/// Starts a server on a free port of this machine. It runs until the process ends.
pub(super) fn start(script: Script, threads: usize) -> anyhow::Result<SocketAddr> {
    let answers = script
        .answers
        .into_iter()
        .map(Answer::prepare)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let answers = Arc::new(answers);
    let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(address)?);
    }
    for listener in listeners {
        let answers = Arc::clone(&answers);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("echo".to_owned()).spawn(move || {
            if let Err(error) = LocalSet::new().block_on(&runtime, serve(listener, answers)) {
                eprintln!("echo: {error}");
            }
        })?;
    }
    Ok(address)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    const BACKLOG: i32 = 1_024;
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

async fn serve(listener: TcpListener, answers: Arc<Vec<Prepared>>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Arc::clone(&answers);
        tokio::task::spawn_local(connection(stream, answers));
    }
}

async fn connection(stream: TcpStream, answers: Arc<Vec<Prepared>>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answer(request, &answers).await) }
    });
    // It ends when the client closes the connection, whatever hyper says of that.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, answers: &[Prepared]) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let target = parts.headers.get("x-amz-target");
    let found = answers
        .iter()
        .find(|answer| target.is_some_and(|target| target == answer.target.as_str()));
    let mut response = Response::new(Full::default());
    match (body.collect().await, found) {
        (Ok(_), Some(answer)) => {
            *response.body_mut() = Full::new(answer.body.clone());
            *response.headers_mut() = answer.headers.clone();
        }
        _ => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        time::Duration,
    };

    #[test]
    fn the_recorded_answer_comes_back() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-requestid", HeaderValue::from_static("abc"));
        headers.insert("date", HeaderValue::from_static("yesterday"));
        let answer = Answer::record("A.B", &headers, b"{\"a\":1}");
        assert_eq!(answer.headers.len(), 1);
        let script = Script {
            answers: vec![answer],
        };
        let text = serde_json::to_string(&script).unwrap();
        let address = start(serde_json::from_str(&text).unwrap(), 2).unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut ask = |target: &str| {
            let request = format!(
                "POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: {target}\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let mut bytes = [0; 1024];
            let length = stream.read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        let good = ask("A.B");
        assert!(
            good.starts_with("HTTP/1.1 200") && good.contains("x-amzn-requestid: abc"),
            "{good}"
        );
        assert!(
            good.ends_with("\r\n\r\n{\"a\":1}") && good.contains("date: ") && !good.contains("yesterday")
        );
        assert!(ask("A.C").starts_with("HTTP/1.1 400"));
    }
}
