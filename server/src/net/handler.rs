//! One request: from its head to its answer.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use epoq::Worker;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderValue},
};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{
    budget::{Budget, Reply, Share},
    page::Door,
    peer::{OverTcp, Peer},
    scrape::Scrape,
};
use crate::{
    config::Config,
    error::{Kind, ServiceError},
    metrics::{self, Connections, Counters},
    protocol::{Action, Answer, Head, Protocol, parse},
    service::{Caller, Context, Origin, Service, is_region},
    signature::{self, Signed},
};

/// What all threads share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) service: Arc<Service>,
    pub(super) registry: Registry,
    pub(super) connections: Arc<Connections>,
    /// Of requests and answers under way.
    pub(super) budget: Arc<Budget>,
    pub(super) scrape: Scrape,
    pub(super) tls: Option<tokio_rustls::TlsAcceptor>,
    /// The address listened on, for clients that name no host.
    pub(super) address: SocketAddr,
}

/// One thread's part.
pub(super) struct Handler {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: Worker,
    pub(super) counters: Arc<Counters>,
    pub(super) closing: watch::Receiver<bool>,
}

/// Whether a connection's last request was answered before its body was read.
pub(super) type Unread = std::cell::Cell<bool>;

/// Who sent a request, and waits.
struct Client<'a, S> {
    handler: &'a Handler,
    peer: &'a Peer<S>,
    /// What the request holds.
    share: &'a Share,
}

impl<S: OverTcp> Caller for Client<'_, S> {
    async fn gone(&self) {
        self.peer.gone().await;
    }

    // Only who waits comes to it: the count of listeners is shared by all threads.
    async fn closing(&self) {
        // An error is that the server is gone, which is as good as closing.
        let _ = self.handler.closing.clone().wait_for(|closing| *closing).await;
    }

    fn is_full(&self) -> bool {
        !self.share.has_room(0)
    }
}

/// How a request came out, for the log and the counters.
struct Outcome {
    action: Option<Action>,
    response: Response<Reply>,
}

impl Handler {
    pub(super) async fn handle<S: OverTcp>(
        &self,
        request: Request<Incoming>,
        peer: &Peer<S>,
        unread: &Unread,
    ) -> Response<Reply> {
        let began = Instant::now();
        let request_id = request_id();
        if let Some(response) = self.about_the_server(&request).await {
            return response;
        }
        let Outcome { action, response } = self.operate(request, &request_id, peer, unread).await;
        let (status, took) = (response.status().as_u16(), began.elapsed());
        self.counters.count(action, status, took);
        let name = action.map_or("none", Action::name);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match action {
            _ if status >= 500 => tracing::warn!(request_id, action = name, status, took_us, "request"),
            Some(action) if !is_about_messages(action) => {
                tracing::info!(request_id, action = name, status, took_us, "request");
            }
            _ => tracing::debug!(request_id, action = name, status, took_us, "request"),
        }
        response
    }

    /// `/health` and `/metrics`.
    async fn about_the_server(&self, request: &Request<Incoming>) -> Option<Response<Reply>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match request.uri().path() {
            "/health" => {
                let closing = *self.closing.borrow();
                let (status, body) = if closing {
                    (503, r#"{"status":"closing"}"#)
                } else {
                    (200, r#"{"status":"ok"}"#)
                };
                Some(plain(status, "application/json", Reply::new(body)))
            }
            "/metrics" => {
                let shared = Arc::clone(&self.shared);
                let text = self.shared.scrape.text(move || metrics::render(&shared.registry));
                Some(match text.await {
                    Some(text) => plain(200, metrics::CONTENT_TYPE, Reply::new(text)),
                    None => plain(503, "text/plain", Reply::new("")),
                })
            }
            _ => None,
        }
    }

    async fn operate<S: OverTcp>(
        &self,
        request: Request<Incoming>,
        request_id: &str,
        peer: &Peer<S>,
        unread: &Unread,
    ) -> Outcome {
        let (parts, body) = request.into_parts();
        let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
        let head = Head {
            path,
            query,
            target: text(&parts.headers, "x-amz-target"),
            content_type: text(&parts.headers, "content-type"),
        };
        let protocol = head.protocol();
        let refuse = |action, error: ServiceError| {
            tracing::debug!(request_id, error = %error, "refused");
            Outcome {
                action,
                response: refusal(protocol, &error, request_id, &self.shared.budget),
            }
        };
        let refuse_unread = |error: ServiceError| {
            let mut outcome = refuse(None, error);
            unread.set(true);
            // What is left of the body would be taken for the next request.
            let close = HeaderValue::from_static("close");
            outcome.response.headers_mut().insert(header::CONNECTION, close);
            outcome
        };
        let mut share = self.shared.budget.share();
        let signed = Signed {
            method: parts.method.as_str(),
            path,
            query,
            headers: &parts.headers,
            body: &[],
        };
        if let Err(error) = self.admit(&signed, &mut share) {
            return if body.is_end_stream() {
                refuse(None, error)
            } else {
                refuse_unread(error)
            };
        }
        let body = match self.read(body, &mut share).await {
            Ok(body) => body,
            Err(error) => return refuse_unread(error),
        };
        // Many that were admitted long ago may have waited for the ends of their bodies, and have them at once.
        if !share.has_room(0) {
            return refuse(None, ServiceError::overloaded());
        }
        if let Some(auth) = &self.shared.config.auth {
            let signed = Signed {
                body: &body,
                ..signed
            };
            if let Err(error) = signature::verify(auth, &signed, unix_seconds()) {
                return refuse(None, error);
            }
        }
        if !matches!(parts.method, Method::GET | Method::POST) {
            let error = ServiceError::new(Kind::UnknownOperation, "Only GET and POST are served.");
            return refuse(None, error);
        }
        let (action, input) = match parse(&head, &body) {
            Ok(parsed) => parsed,
            Err(error) => {
                let action = head
                    .target
                    .and_then(|target| Action::parse(target.strip_prefix("AmazonSQS.")?));
                return refuse(action, error);
            }
        };
        let region = signature::region(&parts.headers, query).filter(|region| is_region(region));
        let context = Context {
            protocol,
            origin: self.origin(&parts.headers),
            region: region.as_deref().unwrap_or(&self.shared.config.region),
            request_id,
            trace: text(&parts.headers, "x-amzn-trace-id").filter(|trace| !trace.is_empty()),
        };
        let client = Client {
            handler: self,
            peer,
            share: &share,
        };
        match self
            .shared
            .service
            .call(&self.worker, &context, &input, client)
            .await
        {
            // The same, of those that wait for others to look. What has an effect is answered, whatever it takes.
            Ok(bytes) if waits_to_read(action) && !share.has_room(bytes.len()) => {
                refuse(Some(action), ServiceError::overloaded())
            }
            Ok(bytes) => {
                let body = Reply::counted(bytes, &self.shared.budget);
                Outcome {
                    action: Some(action),
                    response: answer(StatusCode::OK, protocol, body, request_id),
                }
            }
            Err(error) => refuse(Some(action), error),
        }
    }

    /// Whether the request is looked at any further, before any of its body is read.
    fn admit(&self, request: &Signed<'_>, share: &mut Share) -> Result<(), ServiceError> {
        match &self.shared.config.auth {
            // Strangers' bodies are not to take the memory of others.
            Some(auth) => signature::verify_head(auth, request, unix_seconds())?,
            None if self.door().is_from_a_page(request.method, request.headers) => {
                return Err(ServiceError::new(
                    Kind::AccessDenied,
                    "Requests by web pages are not served.",
                ));
            }
            None => {}
        }
        if share.try_grow(0) {
            Ok(())
        } else {
            Err(ServiceError::overloaded())
        }
    }

    fn door(&self) -> Door<'_> {
        Door {
            is_loopback: self.shared.address.ip().is_loopback(),
            public_url: self.shared.config.public_url.as_deref(),
        }
    }

    /// The whole body; `share` then holds as much of the budget.
    async fn read(&self, mut body: Incoming, share: &mut Share) -> Result<Bytes, ServiceError> {
        let limits = &self.shared.config.limits;
        let too_long = || {
            ServiceError::new(
                Kind::RequestEntityTooLarge,
                format!("The request is longer than {} bytes.", limits.body_bytes),
            )
        };
        // Before anything of it is read.
        if body.size_hint().lower() > limits.body_bytes as u64 {
            return Err(too_long());
        }
        let all = async {
            let mut first = Bytes::new();
            let mut rest = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame =
                    frame.map_err(|_| ServiceError::malformed("The request's body ended too early."))?;
                let Ok(data) = frame.into_data() else { continue };
                if first.len() + rest.len() + data.len() > limits.body_bytes {
                    return Err(too_long());
                }
                if !share.try_grow(data.len()) {
                    return Err(ServiceError::overloaded());
                }
                // Most bodies come in one piece, which needs no copy.
                if first.is_empty() && rest.is_empty() {
                    first = data;
                } else {
                    if rest.is_empty() {
                        rest.extend_from_slice(&std::mem::take(&mut first));
                    }
                    rest.extend_from_slice(&data);
                }
            }
            Ok(if rest.is_empty() { first } else { rest.freeze() })
        };
        let mut all = pin!(all);
        // Most bodies are there with their heads, and need no alarm.
        let read = match poll_fn(|context| Poll::Ready(all.as_mut().poll(context))).await {
            Poll::Ready(read) => Ok(read),
            Poll::Pending => tokio::time::timeout(limits.body(), all).await,
        };
        match read {
            Ok(read) => read,
            Err(_) => Err(ServiceError::new(
                Kind::RequestTimeout,
                "The request's body took too long to come.",
            )),
        }
    }

    /// What queue URLs begin with.
    fn origin<'a>(&'a self, headers: &'a HeaderMap) -> Origin<'a> {
        if let Some(url) = &self.shared.config.public_url {
            return Origin::Url(url);
        }
        let scheme = if self.shared.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let host = text(headers, "host").filter(|host| {
            // It is repeated in answers.
            (1..=255).contains(&host.len()) && host.bytes().all(valid)
        });
        match host {
            Some(host) => Origin::Host(scheme, host),
            None => Origin::Address(scheme, self.shared.address),
        }
    }
}

/// Whether it is what a queue is busy with, rather than what somebody does to the queue now and then.
fn is_about_messages(action: Action) -> bool {
    matches!(
        action,
        Action::ChangeMessageVisibility
            | Action::ChangeMessageVisibilityBatch
            | Action::DeleteMessage
            | Action::DeleteMessageBatch
            | Action::GetQueueAttributes
            | Action::GetQueueUrl
            | Action::ListQueues
            | Action::ReceiveMessage
            | Action::SendMessage
            | Action::SendMessageBatch
    )
}

/// Whether it is done apart, and has no effect.
fn waits_to_read(action: Action) -> bool {
    matches!(
        action,
        Action::GetQueueAttributes | Action::ListDeadLetterSourceQueues | Action::ListQueues
    )
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn plain(status: u16, content_type: &'static str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn answer(status: StatusCode, protocol: Protocol, body: Reply, request_id: &str) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(protocol.content_type()),
    );
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", request_id);
    }
    response
}

fn refusal(
    protocol: Protocol,
    error: &ServiceError,
    request_id: &str,
    budget: &Arc<Budget>,
) -> Response<Reply> {
    let kind = error.kind;
    let status = match (protocol, kind) {
        // The Query protocol's model gives it no status of its own.
        (Protocol::Query, Kind::ReceiptHandleIsInvalid) => StatusCode::BAD_REQUEST,
        // 404 is for a queue's address without an operation.
        (Protocol::Json, Kind::UnknownOperation) => StatusCode::BAD_REQUEST,
        _ => StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let mut response = answer(
        status,
        protocol,
        // It repeats some of the request.
        Reply::counted(Answer::error(protocol, error, request_id), budget),
        request_id,
    );
    if protocol == Protocol::Json {
        let fault = if kind.status() < 500 { "Sender" } else { "Receiver" };
        if let Ok(value) = HeaderValue::from_str(&format!("{};{fault}", kind.code())) {
            response.headers_mut().insert("x-amzn-query-error", value);
        }
    }
    response
}

/// A random UUID.
fn request_id() -> String {
    let random = fastrand::u128(..);
    let random = random & !(0xf000 << 64) & !(0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
    let mut id = String::with_capacity(36);
    for at in (0..32).rev() {
        if matches!(at, 23 | 19 | 15 | 11) {
            id.push('-');
        }
        let digit = (random >> (4 * at)) as u32 & 15;
        id.push(char::from_digit(digit, 16).unwrap_or('0'));
    }
    id
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_until_they_are_sent() {
        let budget = Arc::new(Budget::new(1));
        let error = ServiceError::invalid("a");
        for protocol in [Protocol::Json, Protocol::Query] {
            let response = refusal(protocol, &error, "id", &budget);
            assert!(!budget.share().try_grow(0));
            drop(response);
            assert!(budget.share().try_grow(0));
        }
    }

    #[test]
    fn request_ids_are_random_uuids() {
        let (id, other) = (request_id(), request_id());
        assert_ne!(id, other);
        let hyphens: Vec<_> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((id.len(), &hyphens[..]), (36, &[8, 13, 18, 23][..]), "{id}");
        // Version 4, and the variant that has one.
        assert!(
            &id[14..15] == "4" && matches!(&id[19..20], "8" | "9" | "a" | "b"),
            "{id}"
        );
    }
}
