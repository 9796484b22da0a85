//! A stream whose writes end in an error if the other side does not read for too long, or too slowly.

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

/// So many bytes a second a client has to read, taken over all of what it is sent at a time. Otherwise one that reads a byte now and then
/// could hold an answer for hours.
const RATE_MIN: u32 = 64 << 10;

/// What a client that reads nothing can hold is bounded by this: hyper itself waits for ever to write.
pub(super) struct Patience<S> {
    /// Borrowed for a call each time.
    stream: Rc<RefCell<S>>,
    stall: Duration,
    /// Armed while a write waits.
    alarm: Pin<Box<Sleep>>,
    is_armed: bool,
    /// When a write first had to wait since all that there was to write had been written.
    waits_since: Option<Instant>,
    /// What has been written since then, and before it.
    written: usize,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S, stall: Duration) -> Self {
        Self {
            stream: Rc::new(RefCell::new(stream)),
            stall,
            alarm: Box::pin(sleep(stall)),
            is_armed: false,
            waits_since: None,
            written: 0,
        }
    }

    /// The client, to be looked after while the stream is in use.
    pub(super) fn peer(&self) -> Peer<S>
    where
        S: OverTcp,
    {
        Peer::new(Rc::clone(&self.stream))
    }

    fn timed_write(
        &mut self,
        context: &mut Context<'_>,
        attempt: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = attempt {
            self.written = self.written.saturating_add(bytes);
        }
        self.timed(context, attempt)
    }

    /// Passes an attempt to write on, and looks at the time if it has to wait.
    fn timed<T>(&mut self, context: &mut Context<'_>, attempt: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if attempt.is_ready() {
            self.is_armed = false;
            return attempt;
        }
        if !self.is_armed {
            self.is_armed = true;
            let now = Instant::now();
            // As much as the client would have taken if it had stalled once, and read as slowly as it may.
            let written = u32::try_from(self.written).unwrap_or(u32::MAX);
            let most = self.stall + Duration::from_secs(1) * written / RATE_MIN;
            let due = *self.waits_since.get_or_insert(now) + most;
            self.alarm.as_mut().reset(due.min(now + self.stall));
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
        this.timed_write(context, attempt)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_write_vectored(context, slices);
        this.timed_write(context, attempt)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_flush(context);
        // hyper flushes when it has nothing left to write.
        if attempt.is_ready() {
            (this.waits_since, this.written) = (None, 0);
        }
        this.timed(context, attempt)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let attempt = Pin::new(&mut *this.stream.borrow_mut()).poll_shutdown(context);
        this.timed(context, attempt)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::timeout,
    };

    use super::*;

    const STALL: Duration = Duration::from_millis(500);

    /// What comes of writing so much to somebody who reads so much at a time, and rests.
    fn write(length: usize, at_a_time: usize, rest: Duration) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        runtime.block_on(async {
            let (stream, mut client) = duplex(4096);
            let reading = async {
                let mut buffer = vec![0; at_a_time];
                while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    sleep(rest).await;
                }
            };
            let writing = async {
                let mut patience = Patience::new(stream, STALL);
                patience.write_all(&vec![0; length]).await?;
                patience.flush().await
            };
            let both = async { tokio::join!(reading, writing).1 };
            timeout(Duration::from_secs(20), both).await?
        })
    }

    #[test]
    fn who_reads_too_little_at_a_time_is_cut_off() {
        // It would take minutes.
        let error = write(1 << 20, 64, Duration::from_millis(20)).expect_err("too slow");
        assert_eq!(error.to_string(), "the client does not read its answer");
    }

    #[test]
    fn who_reads_faster_than_it_has_to_is_not() {
        // In all it takes longer than the client may stall.
        write(1 << 20, 4096, Duration::from_millis(2)).expect("an end");
    }
}
