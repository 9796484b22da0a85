//! `event-listener` with a point to yield at before each step: to explorations and stalls, what its list does is one step. In
//! explorations, threads sleep where the scheduler sees it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

/// A place to listen at.
#[derive(Default)]
pub struct Event(event_listener::Event);

/// One who listens. Always there, but for when it is being waited for.
pub struct EventListener(Option<event_listener::EventListener>);

/// As `event_listener::Listener`.
pub trait Listener {
    /// Sleeps until notified.
    fn wait(self);

    /// Sleeps until notified, until `deadline` at most.
    fn wait_deadline(self, deadline: Instant) -> Option<()>;
}

impl Event {
    /// Nobody listens.
    #[must_use]
    pub const fn new() -> Self {
        Self(event_listener::Event::new())
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> EventListener {
        yield_point!();
        EventListener(Some(self.0.listen()))
    }

    /// Notifies up to `count` of those who have not been.
    pub fn notify_additional(&self, count: usize) -> usize {
        yield_point!();
        event_listener::IntoNotification::additional(count);
        self.0.notify(event_listener::IntoNotification::additional(count))
    }
}

#[cfg(shuttle)]
impl Listener for EventListener {
    fn wait(self) {
        shuttle::future::block_on(self);
    }

    /// In explorations the time of the machine means nothing: it may have come.
    fn wait_deadline(self, _deadline: Instant) -> Option<()> {
        yield_point!();
        None
    }
}

#[cfg(not(shuttle))]
impl Listener for EventListener {
    fn wait(mut self) {
        if let Some(listener) = self.0.take() {
            event_listener::Listener::wait(listener);
        }
    }

    fn wait_deadline(mut self, deadline: Instant) -> Option<()> {
        event_listener::Listener::wait_deadline(self.0.take()?, deadline)
    }
}

impl Future for EventListener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        yield_point!();
        match &mut self.0 {
            Some(listener) => Pin::new(listener).poll(context),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        // Passes a notification on, if there was one.
        yield_point!();
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

impl fmt::Debug for EventListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventListener")
    }
}
