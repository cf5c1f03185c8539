//! `check_many`: many checks in one go.

use std::sync::Arc;

use tidegate_core::{Cost, Decision, Operation, TieredDecision};
use tidegate_protocol::Ask;
use tidegate_protocol::lock::Mutex;
use tokio::sync::oneshot;

use super::run::wait;
use super::{Buckets, Limiter, RedisBuckets};
use crate::answer::{Answer, answer_as, lost};
use crate::bounds::{MAX_CHECKS, too_many_checks};
use crate::oneshot::oneshot;
use crate::{Error, Keys};

impl Limiter {
    /// Makes many checks in one go, at most 10,000, each with its own keys and cost. Each is decided by
    /// itself, in order, and a refusal does not stop the others.
    ///
    /// ```
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("10/s").build()?;
    /// let decisions = limiter.check_many([("a", 8), ("a", 8), ("b", 1)])?;
    /// let allowed: Vec<bool> = decisions.iter().map(|decision| decision.allowed).collect();
    /// assert_eq!(allowed, [true, false, true]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`check`](Self::check), and `InvalidArgument` for more than 10,000 checks. After a
    /// mistake in any of the arguments nothing is charged. If the store fails, other checks may have been charged.
    pub fn check_many<'k, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
    ) -> Result<Vec<Decision>, Error> {
        self.check_many_as(checks)
    }

    /// [`check_many`](Self::check_many), which answers also what each limit says.
    ///
    /// # Errors
    /// As [`check_many`](Self::check_many).
    pub fn check_many_tiers<'k, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
    ) -> Result<Vec<TieredDecision>, Error> {
        self.check_many_as(checks)
    }

    pub(super) fn check_many_as<'k, A: Answer, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
    ) -> Result<Vec<A>, Error> {
        match &self.0.buckets {
            Buckets::Memory(memory) => memory.check_many(&self.admit_all(checks)?),
            Buckets::Plan(plan) => plan.check_many(&self.admit_all(checks)?, &self.0.limits),
            Buckets::Shm(shared) => shared.tables().check_many(&self.admit_all(checks)?),
            Buckets::Fixed(fixed) => {
                let checks = self.admit_all(checks)?;
                Ok(checks.iter().map(|(_, cost)| A::of_fixed(fixed, cost)).collect())
            }
            Buckets::WithoutUnlimited(rest) => rest.check_many(&self.admit_all(checks)?),
            Buckets::Redis(redis) => {
                let (sender, receiver) = oneshot();
                self.start_check_many(checks, move |answer| sender.send(answer));
                wait(redis, receiver)
            }
        }
    }

    /// [`check_many`](Self::check_many) as a future.
    ///
    /// # Errors
    /// As [`check_many`](Self::check_many).
    pub fn check_many_async<'k, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
    ) -> impl Future<Output = Result<Vec<Decision>, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_check_many(checks, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`check_many_tiers`](Self::check_many_tiers) as a future.
    ///
    /// # Errors
    /// As [`check_many`](Self::check_many).
    pub fn check_many_tiers_async<'k, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
    ) -> impl Future<Output = Result<Vec<TieredDecision>, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_check_many(checks, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`check_many`](Self::check_many) with a callback, which runs when and where the one of
    /// [`start`](Self::start) does.
    pub(crate) fn start_check_many<'k, A: Answer, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
        done: impl FnOnce(Result<Vec<A>, Error>) + Send + 'static,
    ) {
        let checks = match self.admit_all(checks) {
            Ok(checks) => checks,
            Err(error) => return done(Err(error)),
        };
        match &self.0.buckets {
            Buckets::Memory(memory) => done(memory.check_many(&checks)),
            Buckets::Plan(plan) => done(plan.check_many(&checks, &self.0.limits)),
            Buckets::Shm(shared) => done(shared.tables().check_many(&checks)),
            Buckets::Fixed(fixed) => {
                done(Ok(checks.iter().map(|(_, cost)| A::of_fixed(fixed, cost)).collect()));
            }
            Buckets::WithoutUnlimited(rest) => rest.start_check_many(&checks, Box::new(done)),
            Buckets::Redis(redis) => self.check_remotely(redis, checks, done),
        }
    }

    /// Checks in one batch, in order. Checks that a slice decides are not sent.
    fn check_remotely<A: Answer>(
        &self,
        redis: &RedisBuckets,
        checks: Vec<(Keys<'_>, Cost)>,
        done: impl FnOnce(Result<Vec<A>, Error>) + Send + 'static,
    ) {
        let gathering = Gathering::new(checks.len(), done);
        let asked = checks.into_iter().enumerate().filter_map(|(place, (keys, cost))| {
            let gathering = Arc::clone(&gathering);
            if let Some(decision) = self.decide_leased(keys, cost) {
                gathering.put(place, Ok(decision.into()));
                return None;
            }
            let note = self.noting(keys, cost);
            let done = move |outcome| {
                note(&outcome);
                gathering.put(place, answer_as(outcome));
            };
            let keys = keys.in_redis(&self.0.prefix);
            Some(Ask { keys, operation: Operation::Check { cost }, done })
        });
        redis.guarded.run_all(asked);
    }

    fn admit_all<'k, K: Into<Keys<'k>>, C: Into<Cost>>(
        &self,
        checks: impl IntoIterator<Item = (K, C)>,
    ) -> Result<Vec<(Keys<'k>, Cost)>, Error> {
        let checks = checks.into_iter();
        let mut admitted = Vec::with_capacity(checks.size_hint().0.min(MAX_CHECKS));
        for (keys, cost) in checks {
            if admitted.len() == MAX_CHECKS {
                return Err(too_many_checks());
            }
            let cost = cost.into();
            admitted.push((self.admit(keys.into(), &Operation::Check { cost })?, cost));
        }
        Ok(admitted)
    }
}

/// Collects the answers of many checks. All are handed on when the last has come or is lost, which
/// is when the last reference is dropped.
struct Gathering<A, D: FnOnce(Result<Vec<A>, Error>)>(Mutex<Gathered<A, D>>);

struct Gathered<A, D> {
    answers: Vec<Result<A, Error>>,
    done: Option<D>,
}

impl<A, D: FnOnce(Result<Vec<A>, Error>)> Gathering<A, D> {
    fn new(count: usize, done: D) -> Arc<Self> {
        let answers = (0..count).map(|_| Err(lost())).collect();
        Arc::new(Self(Mutex::new(Gathered { answers, done: Some(done) })))
    }

    fn put(&self, place: usize, answer: Result<A, Error>) {
        if let Some(slot) = self.0.lock().answers.get_mut(place) {
            *slot = answer;
        }
    }
}

impl<A, D: FnOnce(Result<Vec<A>, Error>)> Drop for Gathering<A, D> {
    fn drop(&mut self) {
        let Gathered { answers, done } = self.0.get_mut();
        if let Some(done) = done.take() {
            done(core::mem::take(answers).into_iter().collect());
        }
    }
}
