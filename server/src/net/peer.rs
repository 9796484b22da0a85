//! Whether a client is still there.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::server::TlsStream;

/// A stream over TCP.
pub(super) trait OverTcp {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// The client at the other end of a stream that somebody else reads. hyper does not see it leave while something is in its buffer that the
/// client sent after its request.
#[derive(Debug)]
pub(super) struct Peer<S>(Rc<RefCell<S>>);

impl<S> Clone for Peer<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: OverTcp> Peer<S> {
    pub(super) fn new(stream: Rc<RefCell<S>>) -> Self {
        Self(stream)
    }

    /// Ready when the client sends nothing any more, for the task that reads the stream. What was sent before and lies unread in the kernel
    /// may hide the moment, but not from whoever looks again.
    pub(super) async fn gone(&self) {
        poll_fn(|context| self.poll_gone(context)).await;
    }

    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let stream = self.0.borrow();
        let tcp = stream.tcp();
        // The task is woken when something comes, of which the end is a part.
        if tcp.poll_read_ready(context).is_pending() {
            return Poll::Pending;
        }
        match pin!(tcp.ready(Interest::READABLE)).poll(context) {
            Poll::Ready(Ok(ready)) if !ready.is_read_closed() => Poll::Pending,
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(()),
        }
    }
}
