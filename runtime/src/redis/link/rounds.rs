//! A question that is put once for all who want to know.

use core::hash::BuildHasher as _;
use core::time::Duration;
use std::hash::RandomState;

use tidegate_protocol::lock::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Between one round and the next, so that many clients of a store in trouble neither
/// press it nor move in step.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// One round of asking at a time; whoever comes meanwhile is told its answer.
pub(super) struct Rounds<T>(Mutex<Round<T>>);

struct Round<T> {
    answer: Option<watch::Receiver<Option<T>>>,
    next_from: Instant,
}

impl<T: Clone + Send + Sync + 'static> Rounds<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Round { answer: None, next_from: Instant::now() }))
    }

    /// The round under way, or a new one. It goes on if nobody waits for it.
    pub(super) fn join<F>(&self, ask: impl FnOnce() -> F) -> Answer<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut round = self.0.lock();
        if let Some(answer) = round.answer.as_ref().filter(|answer| is_open(answer)) {
            return Answer(answer.clone());
        }
        let (telling, answer) = watch::channel(None);
        let from = round.next_from.max(Instant::now());
        round.next_from = from + between(PAUSE);
        round.answer = Some(answer.clone());
        let asking = ask();
        tokio::spawn(async move {
            sleep_until(from).await;
            // Nobody may wait any more.
            let _ = telling.send(Some(asking.await));
        });
        Answer(answer)
    }
}

fn is_open<T>(answer: &watch::Receiver<Option<T>>) -> bool {
    answer.borrow().is_none() && answer.has_changed().is_ok()
}

/// The answer of a round.
pub(super) struct Answer<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Answer<T> {
    /// None if the round ended without one, or not by the deadline.
    pub(super) async fn by(mut self, deadline: Instant) -> Option<T> {
        let told = tokio::time::timeout_at(deadline, self.0.wait_for(Option::is_some)).await;
        told.ok()?.ok()?.clone()
    }
}

/// A duration by chance between two.
pub(super) fn between([least, most]: [Duration; 2]) -> Duration {
    let chance = RandomState::new().hash_one(0_u8) % 1024;
    least + (most - least) * u32::try_from(chance).unwrap_or(0) / 1024
}
