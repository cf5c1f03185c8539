//! Single-flight: a question that several callers have at the same time is asked once, and the
//! answer is given to all of them.

use core::time::Duration;

use tidegate_protocol::Host as _;
use tidegate_protocol::lock::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::host::NativeHost;

/// How long to wait between one asking and the next, at random between the two, so that many
/// clients of a store in trouble neither press it nor move in step.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// A question that is asked at most once at a time.
pub(super) struct SingleFlight<T>(Mutex<State<T>>);

struct State<T> {
    /// Where the answer of the newest asking appears.
    newest: Option<watch::Receiver<Option<T>>>,
    next_from: Instant,
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { newest: None, next_from: Instant::now() }))
    }

    /// Joins the asking that is under way, or begins one. It goes on if nobody waits for it.
    pub(super) fn join<F>(&self, ask: impl FnOnce() -> F) -> Joined<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut state = self.0.lock();
        if let Some(answer) = state.newest.as_ref().filter(|answer| is_open(answer)) {
            return Joined(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        let from = state.next_from.max(Instant::now());
        state.next_from = from + between(PAUSE);
        state.newest = Some(answer.clone());
        let asking = ask();
        tokio::spawn(async move {
            sleep_until(from).await;
            // An error says that nobody waits any more.
            let _ = sender.send(Some(asking.await));
        });
        Joined(answer)
    }
}

/// Whether the answer has not come and can still come.
fn is_open<T>(answer: &watch::Receiver<Option<T>>) -> bool {
    answer.borrow().is_none() && answer.has_changed().is_ok()
}

/// The wait for the answer of an asking that was joined.
pub(super) struct Joined<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Joined<T> {
    /// The answer; `None` if the asking ended without one, or not by the deadline.
    pub(super) async fn by(mut self, deadline: Instant) -> Option<T> {
        let answer = tokio::time::timeout_at(deadline, self.0.wait_for(Option::is_some)).await;
        answer.ok()?.ok()?.clone()
    }
}

/// A random duration between two.
pub(super) fn between([least, most]: [Duration; 2]) -> Duration {
    let random = NativeHost::random() % 1024;
    least + (most - least) * u32::try_from(random).unwrap_or(0) / 1024
}
