//! Whoever is to have an answer.

/// What an operation that waits asks of whoever called it.
pub(crate) trait Caller {
    /// Ready when nobody is there any more to have the answer.
    fn gone(&self) -> impl Future<Output = ()>;

    /// Ready when waiting has to end because the server does.
    fn closing(&self) -> impl Future<Output = ()>;

    /// Whether requests and answers under way hold more than they may.
    fn is_full(&self) -> bool;
}
