//! A stream whose writes end in an error if the other side does not read for too long.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::peer::{OverTcp, Peer};

/// What a client that reads nothing can hold is bounded by this: hyper itself waits for ever to write.
pub(super) struct Patience<S> {
    /// Borrowed for a call each time.
    stream: Rc<RefCell<S>>,
    stall: Duration,
    /// Armed while a write waits.
    alarm: Pin<Box<Sleep>>,
    is_armed: bool,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S, stall: Duration) -> Self {
        Self {
            stream: Rc::new(RefCell::new(stream)),
            stall,
            alarm: Box::pin(sleep(stall)),
            is_armed: false,
        }
    }

    /// The client, to be looked after while the stream is in use.
    pub(super) fn peer(&self) -> Peer<S>
    where
        S: OverTcp,
    {
        Peer::new(Rc::clone(&self.stream))
    }

    /// Passes an attempt to write on, and looks at the time if it has to wait.
    fn timed<T>(&mut self, context: &mut Context<'_>, attempt: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.is_armed = false;
            return attempt;
        }
        if !self.is_armed {
            self.is_armed = true;
            self.alarm.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.alarm.as_mut().poll(context));
        self.is_armed = false;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read its answer",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_write(context, bytes);
        this.timed(context, attempt)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_write_vectored(context, slices);
        this.timed(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_flush(context);
        this.timed(context, attempt)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_shutdown(context);
        this.timed(context, attempt)
    }
}
