//! One connection to a server: HTTP/1.1, kept open, one request at a time.

use std::{fmt, io};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::dialect;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Of a URL without a path: `http://127.0.0.1:9324`.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        ensure!(
            uri.scheme_str() == Some("http"),
            "{url:?}: only http:// can be driven"
        );
        ensure!(
            matches!(uri.path(), "" | "/") && uri.query().is_none(),
            "{url:?}: an endpoint has no path"
        );
        let host = uri.host().context("a URL without a host")?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
        })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A request got no answer, or not the whole of it: nobody knows whether it was done.
#[derive(Debug)]
pub(super) struct Unanswered(pub(super) String);

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// The body, or what it says if it is a refusal.
    pub(super) fn accepted(&self) -> Result<&Bytes, String> {
        if self.status == StatusCode::OK {
            return Ok(&self.body);
        }
        const SHOWN: usize = 300;
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN)]);
        Err(format!("{}: {text}", self.status))
    }
}

/// A connection. Must be made and used within a [`LocalSet`](tokio::task::LocalSet).
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    /// How often it was made anew.
    reconnects: u64,
}

impl Connection {
    pub(super) async fn open(address: &Address) -> anyhow::Result<Self> {
        let mut connection = Self {
            address: address.clone(),
            sender: None,
            reconnects: 0,
        };
        connection.sender = Some(
            connection
                .dial()
                .await
                .map_err(|Unanswered(why)| anyhow::anyhow!(why))?,
        );
        Ok(connection)
    }

    async fn dial(&self) -> Result<http1::SendRequest<Full<Bytes>>, Unanswered> {
        let failed =
            |error: &dyn fmt::Display| Unanswered(format!("cannot connect to {}: {error}", self.address));
        let stream = self.address.connect().await.map_err(|error| failed(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        // Its errors are those of the requests under way.
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// How often the server closed it.
    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Sends a request and waits for its answer. A connection that the server has closed meanwhile is made anew first.
    pub(super) async fn call(&mut self, headers: &HeaderMap, body: Bytes) -> Result<Reply, Unanswered> {
        let mut sender = match self.sender.take() {
            Some(mut sender) => match sender.ready().await {
                Ok(()) => sender,
                Err(_) => {
                    self.reconnects += 1;
                    self.dial().await?
                }
            },
            None => {
                self.reconnects += 1;
                self.dial().await?
            }
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/");
        *request.headers_mut() = headers.clone();
        let unanswered = |error: hyper::Error| Unanswered(error.to_string());
        let response = sender.send_request(request).await.map_err(unanswered)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(unanswered)?.to_bytes();
        self.sender = Some(sender);
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// An operation beside the life cycle: its answer, as JSON.
    pub(super) async fn ask(
        &mut self,
        target: &'static str,
        request: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let headers = dialect::headers(&self.address.to_string(), target)?;
        let reply = match self.call(&headers, request.to_string().into()).await {
            Ok(reply) => reply,
            Err(Unanswered(why)) => bail!("{target}: {why}"),
        };
        match reply.accepted() {
            Ok(body) if body.is_empty() => Ok(serde_json::Value::Null),
            Ok(body) => serde_json::from_slice(body).with_context(|| target.to_owned()),
            Err(refusal) => bail!("{target}: {refusal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let shown = |url: &str| Address::parse(url).unwrap().to_string();
        assert_eq!(shown("http://127.0.0.1:9324"), "127.0.0.1:9324");
        assert_eq!(shown("http://localhost/"), "localhost:80");
        assert_eq!(shown("http://[::1]:5"), "[::1]:5");
        for url in ["", "x", "https://a", "http://a/b", "http://a/?b", "ftp://a"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
