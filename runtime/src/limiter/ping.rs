//! `ping`: whether the store serves a limiter, for readiness probes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Buckets, Limiter};
use crate::answer::lost;
use crate::oneshot::oneshot as blocking;
use crate::{Error, Keys};

/// The key whose bucket a ping reads. Nothing is written there.
const PING_KEY: &[u8] = b"ping";

impl Limiter {
    /// Asks the store once whether it serves this limiter, as a readiness probe does: it answers within
    /// the store timeout, and never by the [`on_store_error`](crate::LimiterBuilder::on_store_error)
    /// policy. The store runs a script that reads and writes nothing, so that a server that refuses the
    /// limiter's own calls does not pass. The circuit breaker has no part in it: the store is asked
    /// while that is open, too. In a cluster one node is asked. In memory the answer is there at once.
    ///
    /// The first time a Redis answers a ping, its eviction policy is looked at, and
    /// [`Store::on_change`](crate::Store::on_change) is told of one that can evict buckets that owe.
    ///
    /// Each call is a round trip. A probe that anyone can call should keep the answer for a moment.
    ///
    /// ```
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("50/s").build()?;
    /// limiter.ping()?; // memory does not fail
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`], also when the limiter is closed, and [`Error::StoreTimeout`].
    pub fn ping(&self) -> Result<(), Error> {
        let (sender, receiver) = blocking();
        self.start_ping(move |answer| sender.send(answer));
        self.wait(receiver)
    }

    /// [`ping`](Self::ping) as a future.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn ping_async(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_ping(move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`ping`](Self::ping) with a callback, which runs when and where the one of
    /// [`start`](Self::start) does.
    pub(crate) fn start_ping(&self, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        if self.is_closed() {
            return done(Err(Error::Store("the limiter is closed".into())));
        }
        match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => {
                done(Ok(()));
            }
            Buckets::Redis(redis) => {
                let store = Arc::clone(&redis.store);
                let done = move |answer: Result<(), Error>| {
                    if answer.is_ok() {
                        store.look_at_eviction();
                    }
                    // When the caller hears of the answer, nothing here keeps the store open.
                    drop(store);
                    done(answer);
                };
                redis.guarded.ping(Keys::One(PING_KEY).in_redis(&self.0.prefix), done);
            }
            Buckets::WithoutUnlimited(rest) => {
                // Boxed, because the type of a callback must not grow with each limiter inside.
                let done: Box<dyn FnOnce(Result<(), Error>) + Send> = Box::new(done);
                rest.limiter().start_ping(done);
            }
        }
    }
}
