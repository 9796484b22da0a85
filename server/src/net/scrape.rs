//! The text of `/metrics`: made once for all who ask at about the same time, with memory of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::budget::{Budget, counted};

/// How old a text may be. Clients that do not read hold on to what they were given: each second that is one text more, however many ask.
const AGE_MAX: Duration = Duration::from_secs(1);
/// What texts may hold is this part of what requests may, besides.
const PART: usize = 8;

/// The last text, and what all that are being sent hold: apart from requests, which a flood of these is not to have refused.
#[derive(Debug)]
pub(super) struct Scrape {
    /// Locked while one is made: there is one at a time.
    last: Arc<Mutex<Option<Text>>>,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Text {
    made_at: Instant,
    bytes: Bytes,
}

impl Scrape {
    /// Beside so many bytes that requests may hold.
    pub(super) fn new(bodies: usize) -> Self {
        Self {
            last: Arc::default(),
            budget: Arc::new(Budget::new(bodies / PART)),
        }
    }

    /// The text, made by `render` on another thread if need be; none if clients that do not read hold too many.
    pub(super) async fn text(&self, render: impl FnOnce() -> String + Send + 'static) -> Option<Bytes> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if let Some(text) = last.as_ref().filter(|text| text.made_at.elapsed() < AGE_MAX) {
            return Some(text.bytes.clone());
        }
        // From now on held by those alone who have not read it.
        *last = None;
        if !self.budget.share().try_grow(0) {
            return None;
        }
        let budget = Arc::clone(&self.budget);
        // With many queues that takes longer than others on a serving thread should wait. The lock goes along: it goes on when who asked
        // has left.
        let make = move || {
            let text = Text {
                made_at: Instant::now(),
                bytes: counted(render().into_bytes(), &budget),
            };
            last.insert(text).bytes.clone()
        };
        tokio::task::spawn_blocking(make).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_text_is_made_once_and_none_while_too_much_is_held() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let scrape = Scrape::new(10 * PART);
            let made = || "x".repeat(11);
            let again = || -> String { unreachable!("it is there") };
            let held = scrape.text(made).await.expect("a text");
            assert_eq!(scrape.text(again).await.expect("a text").as_ptr(), held.as_ptr());
            thread::sleep(AGE_MAX);
            assert_eq!(scrape.text(again).await, None);
            drop(held);
            assert!(scrape.text(made).await.is_some());
        });
    }
}
