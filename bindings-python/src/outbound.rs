//! The machine of an outbound call, for the classes of `tidegate._outbound`, which carry its steps out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use tidegate::{CallEvent, CallStep, CallTerms, Profile, RetryPolicy, TransportFailure};

use crate::errors::invalid_argument;
use crate::signal::Signal;

/// The retries that calls save for each other.
#[pyclass(name = "_RetryBudget", frozen, module = "tidegate._tidegate")]
pub(crate) struct RetryBudget(Arc<tidegate::RetryBudget>);

#[pymethods]
impl RetryBudget {
    #[new]
    fn new(percent: u32, reserve: u32) -> Self {
        Self(Arc::new(tidegate::RetryBudget::new(percent, reserve)))
    }

    /// How many retries could be made now.
    fn retries(&self) -> u64 {
        self.0.retries()
    }
}

/// A call to a vendor. Times are in nanoseconds on the clock of the caller; the largest value is any
/// time. A step is what to do, its duration, and a word: the scope of a hold or the reason to give up.
#[pyclass(name = "_OutboundCall", frozen, module = "tidegate._tidegate")]
pub(crate) struct OutboundCall {
    call: Mutex<tidegate::OutboundCall>,
    budget: Arc<tidegate::RetryBudget>,
}

type Step = (&'static str, u64, &'static str);

#[pymethods]
impl OutboundCall {
    /// `policy` is attempts, base and longest, and `needs` whether it needs a permit, is repeatable
    /// and is idempotent.
    #[new]
    fn new(
        budget: PyRef<'_, RetryBudget>,
        policy: (u32, u64, u64),
        deadline: u64,
        attempt_timeout: u64,
        needs: (bool, bool, bool),
    ) -> Self {
        let (attempts, base, longest) = policy;
        let (needs_permit, is_repeatable, is_idempotent) = needs;
        let terms = CallTerms {
            policy: RetryPolicy { attempts, base, longest },
            deadline,
            attempt_timeout,
            needs_permit,
            is_repeatable,
            is_idempotent,
        };
        let call = Mutex::new(tidegate::OutboundCall::new(terms));
        Self { call, budget: Arc::clone(&budget.0) }
    }

    /// The first step.
    fn start(&self, now: u64) -> Step {
        written(self.call().start(now))
    }

    /// The step after a "granted", "denied", "done" or "cancelled".
    fn next(&self, py: Python<'_>, event: &str, now: u64) -> PyResult<Step> {
        let event = match event {
            "granted" => CallEvent::Granted,
            "denied" => CallEvent::Denied,
            "done" => CallEvent::Done,
            "cancelled" => CallEvent::Cancelled,
            _ => return Err(invalid_argument(py, "event", format!("there is no {event:?}"))),
        };
        Ok(written(self.call().next(event, now, 0, &self.budget)))
    }

    /// The step after a response.
    fn responded(&self, signal: PyRef<'_, Signal>, now: u64, random: u64) -> Step {
        let signal = signal.of_core();
        written(self.call().next(CallEvent::Response(&signal), now, random, &self.budget))
    }

    /// The step after a failure without a response, by its name in `TransportFailure`.
    fn failed(&self, py: Python<'_>, kind: &str, now: u64, random: u64) -> PyResult<Step> {
        let Some(failure) = TransportFailure::parse(kind) else {
            return Err(invalid_argument(py, "kind", format!("there is no failure {kind:?}")));
        };
        Ok(written(self.call().next(CallEvent::Failed(failure), now, random, &self.budget)))
    }
}

impl OutboundCall {
    fn call(&self) -> MutexGuard<'_, tidegate::OutboundCall> {
        // The machine is whole at any time: no step of it is left half done.
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn written(step: CallStep) -> Step {
    match step {
        CallStep::Permit { max_wait } => ("permit", max_wait, ""),
        CallStep::Acquire { max_wait } => ("acquire", max_wait, ""),
        CallStep::Send { timeout } => ("send", timeout, ""),
        CallStep::Hold { scope, duration } => ("hold", duration, scope.as_str()),
        CallStep::Release => ("release", 0, ""),
        CallStep::Sleep(wait) => ("sleep", wait, ""),
        CallStep::Return => ("return", 0, ""),
        CallStep::GiveUp(reason) => ("give_up", 0, reason.as_str()),
    }
}

/// The name of the built-in profile of the vendor with this host; "generic" if it is not known.
#[pyfunction(name = "_profile_of_host")]
pub(crate) fn profile_of_host(host: &str) -> &'static str {
    Profile::of_host(host).unwrap_or(&Profile::GENERIC).name
}

/// Whether a request may take effect twice.
#[pyfunction(name = "_is_idempotent")]
pub(crate) fn is_idempotent(method: &str, has_key: bool) -> bool {
    CallTerms::is_idempotent_method(method, has_key)
}
