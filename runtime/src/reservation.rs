//! The handle of a reservation.

use core::fmt;
use core::time::Duration;
use std::time::Instant;

use tidegate_core::{Cost, Decision, Operation, Outcome, Reserved, TieredDecision};
use tidegate_protocol::OwnedKeys;
use tokio::sync::oneshot;

use crate::Error;
use crate::answer::{Answer, answer_as, lost, unexpected};
use crate::clock::saturating_nanos;
use crate::limiter::Limiter;

/// Tokens charged ahead of time, to be spent once [`delay`](Self::delay) has passed.
///
/// If it is not [`allowed`](Self::allowed), the slot was too far away and nothing was charged.
///
/// [`Limiter::reserve`] makes it. Dropping it gives nothing back: the tokens count as spent.
///
/// ```
/// use tidegate::Limiter;
/// let limiter = Limiter::builder().limit("100_000/d").build()?;
/// let reservation = limiter.reserve("model", 4_000, None)?;
/// std::thread::sleep(reservation.delay());
/// let used = 1_500; // what the call turned out to cost
/// assert_eq!(reservation.settle(used)?.remaining, 98_500);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[must_use = "a slot that is not used should be cancelled"]
pub struct Reservation {
    limiter: Limiter,
    keys: OwnedKeys,
    cost: Cost,
    reserved: Reserved,
    made: Instant,
}

impl Reservation {
    #[expect(clippy::disallowed_methods, reason = "the delay counts from here, in real time")]
    pub(crate) fn new(
        limiter: Limiter,
        keys: OwnedKeys,
        cost: Cost,
        outcome: Result<Outcome, Error>,
    ) -> Result<Self, Error> {
        match outcome? {
            Outcome::Reserved(reserved) => {
                Ok(Self { limiter, keys, cost, reserved, made: Instant::now() })
            }
            _ => Err(unexpected()),
        }
    }

    /// Whether the tokens were charged.
    pub const fn allowed(&self) -> bool {
        matches!(self.reserved, Reserved::Slot(_))
    }

    /// How long to wait before spending, counted from when the reservation was made.
    /// [`Duration::MAX`] if it is refused.
    pub const fn delay(&self) -> Duration {
        match &self.reserved {
            Reserved::Slot(slot) => Duration::from_nanos(slot.delay),
            Reserved::TooFar(_) => Duration::MAX,
        }
    }

    /// The buckets after the charge, as an allowed check would report them. If the reservation is
    /// refused, `retry_after` is the shortest wait after which the same call, with the same
    /// `max_wait`, would get a slot if nobody else came.
    pub const fn decision(&self) -> &Decision {
        match &self.reserved {
            Reserved::Slot(slot) => slot.decision.decision(),
            Reserved::TooFar(decision) => decision.decision(),
        }
    }

    /// The [`decision`](Self::decision), with what each limit says: what its bucket holds after the
    /// charge, or how long it alone keeps a refused caller.
    pub const fn tiers(&self) -> &TieredDecision {
        match &self.reserved {
            Reserved::Slot(slot) => &slot.decision,
            Reserved::TooFar(decision) => decision,
        }
    }

    /// The tokens that were asked for.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Gives an unused slot back, and says whether all of it came back. Those who wait for the key
    /// in [`Limiter::acquire`] get it first. A bucket that nobody has
    /// charged since becomes what it was. If others have charged it since, nothing comes back,
    /// because their slots are fixed; use [`credit`](Limiter::credit) where tokens must return
    /// all the same. False for a refused reservation, which holds nothing.
    ///
    /// # Errors
    /// [`Error::Store`] when the limiter is closed, and for a remote store its errors.
    pub fn cancel(self) -> Result<bool, Error> {
        match self.reserved {
            Reserved::TooFar(_) => Ok(false),
            Reserved::Slot(slot) => {
                if self.hand_on(&slot) {
                    return Ok(true);
                }
                let cancel = Operation::Cancel(slot.charge);
                cancelled(self.keys.lend(|keys| self.limiter.run_and_wait(keys, cancel)))
            }
        }
    }

    /// [`cancel`](Self::cancel) as a future.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub fn cancel_async(self) -> impl Future<Output = Result<bool, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_cancel(move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`cancel`](Self::cancel) with a callback, which runs when and where that of
    /// [`Limiter::start`] does.
    pub(crate) fn start_cancel(self, done: impl FnOnce(Result<bool, Error>) + Send + 'static) {
        match self.reserved {
            Reserved::TooFar(_) => done(Ok(false)),
            Reserved::Slot(slot) if self.hand_on(&slot) => done(Ok(true)),
            Reserved::Slot(slot) => self.keys.lend(|keys| {
                let cancel = Operation::Cancel(slot.charge);
                self.limiter.start(keys, cancel, |outcome| done(cancelled(outcome)));
            }),
        }
    }

    /// Corrects the charge once its true size is known, as [`Limiter::settle`] does.
    /// If the store fails, [`Limiter::settle`] with its [cost](Self::cost) can be called instead.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a refused reservation, which has charged nothing, and
    /// those of [`Limiter::settle`].
    pub fn settle(self, actual: impl Into<Cost>) -> Result<Decision, Error> {
        self.settle_as(actual.into())
    }

    pub(crate) fn settle_as<A: Answer>(self, actual: Cost) -> Result<A, Error> {
        let operation = self.settling(actual)?;
        answer_as(self.keys.lend(|keys| self.limiter.run_and_wait(keys, operation)))
    }

    /// [`settle`](Self::settle) as a future.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn settle_async(
        self,
        actual: impl Into<Cost>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + 'static {
        let (sender, receiver) = oneshot::channel();
        self.start_settle(actual, move |answer| _ = sender.send(answer));
        async move { receiver.await.unwrap_or_else(|_| Err(lost())) }
    }

    /// [`settle`](Self::settle) with a callback, which runs when and where that of
    /// [`Limiter::start`] does.
    pub(crate) fn start_settle<A: Answer>(
        self,
        actual: impl Into<Cost>,
        done: impl FnOnce(Result<A, Error>) + Send + 'static,
    ) {
        match self.settling(actual.into()) {
            Err(error) => done(Err(error)),
            Ok(operation) => self.keys.lend(|keys| {
                self.limiter.start(keys, operation, |outcome| done(answer_as(outcome)));
            }),
        }
    }

    /// The same reservation once more, for a caller whose first attempt to end it fails.
    #[cfg(feature = "__bindings")]
    pub(crate) fn again(&self) -> Self {
        let Self { ref limiter, ref keys, cost, reserved, made } = *self;
        Self { limiter: limiter.clone(), keys: keys.clone(), cost, reserved, made }
    }

    /// The part of the delay that has not passed: a future may be polled long after its slot was
    /// taken.
    pub(crate) fn delay_left(&self) -> Duration {
        self.delay().saturating_sub(self.made.elapsed())
    }

    /// Gives the slot to those who wait for the same key, if somebody does.
    fn hand_on(&self, slot: &tidegate_core::Reservation) -> bool {
        let delay = saturating_nanos(self.delay_left());
        self.limiter.hand_on(&self.keys, delay, slot.charge)
    }

    fn settling(&self, actual: Cost) -> Result<Operation, Error> {
        match self.reserved {
            Reserved::Slot(slot) => Ok(Operation::Settle { charged: slot.charge.cost, actual }),
            Reserved::TooFar(_) => {
                let message = "it was refused, so it has charged nothing to settle";
                Err(Error::argument("reservation", message))
            }
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("allowed", &self.allowed())
            .field("delay", &self.delay())
            .field("cost", &self.cost)
            .field("decision", self.decision())
            .finish_non_exhaustive()
    }
}

/// Whether everything came back when a reservation was cancelled.
fn cancelled(outcome: Result<Outcome, Error>) -> Result<bool, Error> {
    match outcome? {
        Outcome::Cancelled(all) => Ok(all),
        _ => Err(unexpected()),
    }
}

/// A guard around a reservation that its caller has not received yet, or still waits for. It
/// cancels the reservation when it is dropped, unless that has been claimed.
pub struct CancelOnDrop(Option<Reservation>);

impl CancelOnDrop {
    /// Takes the reservation out.
    ///
    /// # Errors
    /// None in practice: the guard holds its reservation until it is claimed or dropped.
    pub fn claim(mut self) -> Result<Reservation, Error> {
        self.0.take().ok_or_else(lost)
    }
}

impl From<Reservation> for CancelOnDrop {
    fn from(reservation: Reservation) -> Self {
        Self(Some(reservation))
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.start_cancel(|_| ());
        }
    }
}
