//! `Reservation`: tokens charged ahead of time, for a slot that is to come.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyFloat;
use tidegate::Cost;
use tidegate::bindings::{CancelOnDrop, lock::Mutex};

use crate::arguments::{actual, cost_object};
use crate::decision::Decision;
use crate::errors::{exception, invalid_argument, rate_limited};
use crate::limiter::Limiter;
use crate::seconds::from_nanos;
use crate::waiting::{await_store, sleep};

/// Tokens charged ahead of time, to be spent once `delay` has passed. A reservation is true when
/// it is `allowed`; when its slot was too far away it is false and has charged nothing.
///
/// `Limiter.reserve` makes it. Its tokens count as spent when it is thrown away. Either `cancel`
/// or `settle` uses it up.
///
/// >>> from tidegate import FakeClock, Limiter
/// >>> limiter = Limiter("60000/min", clock=FakeClock())
/// >>> reservation = limiter.reserve("model", cost=4_000)
/// >>> reservation.allowed, reservation.delay, reservation.cost
/// (True, 0.0, 4000)
/// >>> reservation.settle(actual=1_500).remaining  # what the call turned out to cost
/// 58500
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Reservation {
    limiter: Py<Limiter>,
    /// `None` once it is used up.
    made: Arc<Mutex<Option<tidegate::Reservation>>>,
    allowed: bool,
    delay: f64,
    cost: Cost,
    decision: Py<Decision>,
    /// The time of the slot on the limiter's FakeClock; `None` with a real clock.
    fake_slot: Option<u64>,
}

#[pymethods]
impl Reservation {
    /// Whether the tokens were charged.
    #[getter]
    fn allowed(&self) -> bool {
        self.allowed
    }

    /// Seconds to wait before spending, from when it was made; infinite when it is refused.
    #[getter]
    fn delay(&self) -> f64 {
        self.delay
    }

    /// The buckets after the charge, as after an allowed check. When it is refused, `retry_after`
    /// is the least wait after which the same call, with the same `max_wait`, would get a slot if
    /// nobody else came.
    #[getter]
    fn decision(&self, py: Python<'_>) -> Py<Decision> {
        self.decision.clone_ref(py)
    }

    /// The tokens that were asked for: a number, or a tuple with one for each limit.
    #[getter]
    fn cost<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        cost_object(py, &self.cost)
    }

    /// Gives an unused slot back, and says whether all of it came back. A bucket that nobody has
    /// charged since becomes what it was. Nothing comes back when others have charged the bucket
    /// since; `Limiter.credit` returns tokens in any case. Also False when it was refused, or has
    /// been cancelled or settled before. After a StoreError it can be called again.
    ///
    /// Raises StoreError when the limiter is closed, and on Redis its errors.
    ///
    /// >>> from tidegate import FakeClock, Limiter
    /// >>> limiter = Limiter("1/min", clock=FakeClock())
    /// >>> reservation = limiter.reserve("job")
    /// >>> reservation.cancel(), limiter.peek("job", 0).remaining
    /// (True, 1)
    /// >>> reservation.cancel()
    /// False
    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(made) = self.take() else { return Ok(false) };
        let answer = if self.limiter.get().is_remote() {
            let held = Arc::clone(&self.made);
            await_store(py, |sender| {
                made.cancel_then(move |answer, again| {
                    *held.lock() = again;
                    sender.send(answer);
                });
            })?
        } else {
            made.cancel()
        };
        answer.map_err(|error| exception(py, &error))
    }

    /// Corrects the charge once its true size is known, as `Limiter.settle` does: `actual` is the
    /// number of tokens that were used, 0 to 2**63 - 1. After a StoreError it can be called again; after
    /// a StoreTimeout, the store may have carried it out.
    ///
    /// Raises InvalidArgument when it was refused, or has been cancelled or settled before,
    /// and the errors of `Limiter.settle`.
    fn settle(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = actual)] actual: Cost,
    ) -> PyResult<Py<Decision>> {
        let made = self.take_to_settle(py)?;
        let answer = if self.limiter.get().is_remote() {
            let held = Arc::clone(&self.made);
            await_store(py, |sender| {
                made.settle_then(actual, move |answer, again| {
                    *held.lock() = again;
                    sender.send(answer);
                });
            })?
        } else {
            made.settle_tiers(actual)
        };
        let decided = answer.map_err(|error| exception(py, &error))?;
        self.limiter.get().tiered(py, decided)
    }

    fn __bool__(&self) -> bool {
        self.allowed
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "Reservation(allowed={}, delay={}, cost={}, decision={})",
            if self.allowed { "True" } else { "False" },
            PyFloat::new(py, self.delay).repr()?,
            cost_object(py, &self.cost)?,
            self.decision.bind(py).repr()?,
        ))
    }

    /// Moves the FakeClock to the slot.
    fn _advance(&self) {
        if let (Some(slot), Some(clock)) = (self.fake_slot, self.limiter.get().fake_clock()) {
            clock.advance_to(slot);
        }
    }

    /// Raises RateLimited when it was refused; `key` is the key that was asked for.
    pub(crate) fn _require(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.allowed {
            return Ok(());
        }
        let decision = self.decision.clone_ref(key.py());
        Err(rate_limited(decision, key, &self.decision.get().decided()))
    }

    /// Cancels it without waiting for the store, because its caller is gone.
    fn _abandon(&self) {
        if let Some(made) = self.take() {
            made.cancel_then(|_, _| ());
        }
    }
}

impl Reservation {
    pub(crate) fn new(py: Python<'_>, limiter: &Py<Limiter>, made: CancelOnDrop) -> PyResult<Self> {
        let made = made.claim().map_err(|error| exception(py, &error))?;
        let allowed = made.allowed();
        let nanos = u64::try_from(made.delay().as_nanos()).unwrap_or(u64::MAX);
        let decided = *made.tiers();
        // The clock is read after the slot was taken, so that this time is never before the slot.
        let fake_slot = limiter.get().fake_clock().filter(|_| allowed).map(|clock| {
            use tidegate::Clock as _;
            clock.now().saturating_add(nanos)
        });
        Ok(Self {
            limiter: limiter.clone_ref(py),
            allowed,
            delay: if allowed { from_nanos(nanos) } else { f64::INFINITY },
            cost: made.cost(),
            decision: limiter.get().tiered(py, decided)?,
            fake_slot,
            made: Arc::new(Mutex::new(Some(made))),
        })
    }

    /// Waits for the slot; the reservation is cancelled if that is interrupted.
    pub(crate) fn wait(&self, py: Python<'_>) -> PyResult<Py<Decision>> {
        if self.fake_slot.is_some() {
            self._advance();
        } else if self.delay > 0.0
            && let Err(interrupt) = sleep(py, self.delay)
        {
            // The caller gets the interrupt, whether or not this succeeds.
            let _ = self.cancel(py);
            return Err(interrupt);
        }
        Ok(self.decision(py))
    }

    pub(crate) fn take(&self) -> Option<tidegate::Reservation> {
        self.made.lock().take()
    }

    pub(crate) fn take_to_settle(&self, py: Python<'_>) -> PyResult<tidegate::Reservation> {
        self.take().ok_or_else(|| {
            let message = "it has been cancelled or settled before";
            invalid_argument(py, "reservation", message.to_owned())
        })
    }

    /// Where the reservation is put back when the store fails while it is being ended.
    pub(crate) fn held(&self) -> Arc<Mutex<Option<tidegate::Reservation>>> {
        Arc::clone(&self.made)
    }

    pub(crate) fn limiter(&self) -> &Py<Limiter> {
        &self.limiter
    }
}
