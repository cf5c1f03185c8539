//! Waiting for tokens.

use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Cost, Decision, Operation, Source, TieredDecision};
use tidegate_protocol::{OwnedKeys, Waiting};
use tokio::sync::oneshot as future;

use super::run::SPARE;
use super::{Buckets, Limiter};
use crate::answer::{Answer, lost, tiered};
use crate::clock::saturating_nanos;
use crate::oneshot::oneshot;
use crate::{Error, Keys};

impl Limiter {
    /// Blocks the thread until `cost` tokens may be spent, and spends them. Callers for one key wait
    /// in a line: first come, first served. If the tokens would come later than `timeout`, that is
    /// an error at once, and nothing is charged.
    ///
    /// With [leases](crate::LimiterBuilder::lease), a slice that has the tokens now gives them,
    /// unless others wait for the key.
    ///
    /// A slot is reserved in the bucket when a caller joins the line, and nobody polls. Who leaves
    /// the line, by a dropped future of [`acquire_async`](Self::acquire_async), lets those behind
    /// move up. So do tokens that come back by [`settle`](Self::settle), [`credit`](Self::credit) or
    /// a reservation's [`cancel`](crate::Reservation::cancel). A [`hold`](Self::hold) of this limiter
    /// reaches those who wait at once, and one of another process within 100 ms.
    ///
    /// Waiting is in real time, whatever the limiter's clock. With a
    /// [`ManualClock`](crate::ManualClock), use [`reserve`](Self::reserve) and move the clock.
    ///
    /// ```
    /// use core::time::Duration;
    /// use tidegate::{Error, Limiter};
    /// let limiter = Limiter::builder().limit("100/s burst 1").build()?;
    /// for _ in 0..3 {
    ///     assert!(limiter.acquire("vendor", 1, None)?.allowed);
    /// }
    /// limiter.hold("vendor", Duration::from_secs(60))?; // the vendor said: Retry-After
    /// let error = limiter.acquire("vendor", 1, Some(Duration::from_secs(1)));
    /// assert!(matches!(error, Err(Error::RateLimited { .. })));
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::RateLimited`] when the tokens would come later than `timeout`, or when
    /// [`max_waiting`](crate::LimiterBuilder::max_waiting) callers wait already; [`Error::Store`]
    /// when the limiter is closed meanwhile; and those of [`reserve`](Self::reserve).
    pub fn acquire<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        timeout: Option<Duration>,
    ) -> Result<Decision, Error> {
        let (keys, cost) = (keys.into(), cost.into());
        if let Some(decision) = self.try_acquire(keys, cost)? {
            return Ok(decision);
        }
        let (sender, receiver) = oneshot();
        let waiter = self.start_acquire(keys, cost, timeout, |answer| sender.send(answer));
        if let Some(longest) = self.longest_wait() {
            match receiver.wait_for(longest + SPARE) {
                Some(answer) => return answer.map(|granted| granted.claim().into()),
                None if waiter.is_unanswered() => {
                    waiter.leave();
                    return Err(Error::timeout(longest));
                }
                None => {}
            }
        }
        receiver.wait().map(|granted| granted.claim().into())
    }

    /// [`acquire`](Self::acquire) as a future, for any executor. A future that is dropped leaves
    /// the line, and those behind it move up.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_async<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let (keys, cost) = (keys.into(), cost.into());
        let (sender, receiver) = future::channel();
        let waiter = match self.try_acquire(keys, cost) {
            Ok(Some(decision)) => {
                let charge = Some((self.clone(), Arc::new(keys.to_owned()), cost));
                _ = sender.send(Ok(Granted { decision, charge }));
                None
            }
            Ok(None) => {
                // An answer that finds nobody is dropped, and its tokens go to the next.
                let done = |answer| _ = sender.send(answer);
                Some(LeaveOnDrop(self.start_acquire(keys, cost, timeout, done)))
            }
            Err(error) => {
                _ = sender.send(Err(error));
                None
            }
        };
        async move {
            let _waiter = waiter;
            let granted: Granted = receiver.await.unwrap_or_else(|_| Err(lost()))?;
            Ok(granted.claim().into())
        }
    }

    /// The callers that wait for a key in [`acquire`](Self::acquire) in this process, on this limiter.
    ///
    /// ```
    /// use tidegate::Limiter;
    /// let limiter = Limiter::builder().limit("100/s burst 1").build()?;
    /// limiter.acquire("vendor", 1, None)?;
    /// assert_eq!(limiter.waiting("vendor")?.callers, 0);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of a wrong number or length, and [`Error::Store`] when
    /// the limiter is closed.
    pub fn waiting<'k>(&self, keys: impl Into<Keys<'k>>) -> Result<Waiting, Error> {
        let keys = self.admit(keys.into(), &Operation::Check { cost: 0.into() })?;
        Ok(self.0.lines.waiting(&keys.to_owned()))
    }

    /// Spends tokens that are there now and that nobody waits for; `None` if the caller must join
    /// the line. Costs what a check costs.
    #[inline]
    pub(crate) fn try_acquire<A: Answer>(
        &self,
        keys: Keys<'_>,
        cost: Cost,
    ) -> Result<Option<A>, Error> {
        if !self.0.lines.is_empty() && self.has_waiters(keys) {
            return Ok(None);
        }
        let decision = match &self.0.buckets {
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) | Buckets::Fixed(_) => {
                Some(self.check_as::<A>(keys, cost)?)
            }
            Buckets::WithoutUnlimited(_) if !self.is_remote() => Some(self.check_as(keys, cost)?),
            Buckets::WithoutUnlimited(rest) => rest.acquire_leased(keys, cost).map(A::from),
            Buckets::Redis(_) => self.acquire_leased(keys, cost).map(A::from),
        };
        Ok(decision.filter(A::is_allowed))
    }

    #[cold]
    fn has_waiters(&self, keys: Keys<'_>) -> bool {
        self.0.lines.has_waiters(&keys.to_owned())
    }

    /// Joins the line of a key. `done` is called once: before this returns for an error in the
    /// arguments, otherwise on any thread; it should do little.
    pub(crate) fn start_acquire<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: impl Into<Cost>,
        timeout: Option<Duration>,
        done: impl FnOnce(Result<Granted, Error>) + Send + 'static,
    ) -> Waiter {
        let (keys, cost) = (keys.into(), cost.into());
        let max_wait = timeout.map_or(u64::MAX, saturating_nanos);
        let own = Arc::new(keys.to_owned());
        let mut waiter = Waiter { limiter: self.clone(), keys: own, id: 0, cost };
        let keys = match self.admit(keys, &Operation::Reserve { cost, max_wait, min_wait: 0 }) {
            Ok(keys) => keys,
            Err(error) => {
                done(Err(error));
                return waiter;
            }
        };
        // One key for the only limit means the same bucket in both forms.
        waiter.keys = Arc::new(keys.to_owned());
        if cost.is_zero() {
            self.dispatch(keys, Operation::Check { cost: 0.into() }, |outcome| {
                done(tiered(outcome).map(Granted::free));
            });
            return waiter;
        }
        let (limiter, own) = (self.clone(), Arc::clone(&waiter.keys));
        let answered = move |answer: Result<TieredDecision, Error>| {
            done(match answer {
                Ok(decision) if decision.allowed => {
                    Ok(Granted { decision, charge: Some((limiter, own, cost)) })
                }
                Ok(decision) => {
                    let key = own.lend(|keys| {
                        String::from_utf8_lossy(keys.of_tier(decision.tier)).into_owned()
                    });
                    Err(Error::RateLimited { decision: decision.into(), key })
                }
                Err(error) => Err(error),
            });
        };
        waiter.id = self.feed_line(&waiter.keys, |line, now| {
            line.arrive(now, cost, max_wait, Box::new(answered))
        });
        if self.is_closed() {
            // It was closed meanwhile, and its lines with it.
            self.close_lines();
        }
        waiter
    }
}

/// A caller in a line, by which it can leave.
#[doc(hidden)]
pub struct Waiter {
    limiter: Limiter,
    keys: Arc<OwnedKeys>,
    id: u64,
    cost: Cost,
}

impl Waiter {
    /// Leaves the line, so that those behind move up. Does nothing once the caller has been answered.
    pub fn leave(&self) {
        if self.id != 0 {
            let left = self.limiter.feed_line(&self.keys, |line, now| line.leave(now, self.id));
            // What the line has left is dropped here, without its lock.
            drop(left);
        }
    }

    /// The caller has claimed its tokens and will not spend them: they go to the next.
    pub fn hand_on(&self) {
        if self.id != 0 {
            hand_on(&self.limiter, &self.keys, self.cost);
        }
    }

    /// Whether the store has yet to answer a reservation of this line.
    fn is_unanswered(&self) -> bool {
        self.limiter.feed_line(&self.keys, |line, _| line.line.is_asking())
    }
}

struct LeaveOnDrop(Waiter);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Tokens that a caller has waited for. Unless they are claimed, they go to the next in the line, or
/// back to the bucket if nobody waits.
#[doc(hidden)]
pub struct Granted {
    decision: TieredDecision,
    /// What is to be handed on: the tokens of a key.
    charge: Option<(Limiter, Arc<OwnedKeys>, Cost)>,
}

impl Granted {
    /// A decision that has charged nothing to be handed on.
    const fn free(decision: TieredDecision) -> Self {
        Self { decision, charge: None }
    }

    /// The caller has them.
    pub fn claim(mut self) -> TieredDecision {
        self.charge = None;
        self.decision
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if let Some((limiter, keys, cost)) = self.charge.take()
            && self.decision.source != Source::Fallback
        {
            hand_on(&limiter, &keys, cost);
        }
    }
}

/// Gives tokens to those who wait, and what nobody waits for to the bucket.
fn hand_on(limiter: &Limiter, keys: &Arc<OwnedKeys>, tokens: Cost) {
    let left = limiter.feed_line(keys, |line, now| line.line.unclaimed(now, tokens));
    if !left.is_zero() {
        let credit = Operation::Credit { tokens: left };
        keys.lend(|keys| limiter.dispatch(keys, credit, |_| ()));
    }
}
