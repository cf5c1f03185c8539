//! Drives calls to vendors: the machine of one call, and the retries that calls share.

use tidegate_core::{CallEvent, CallStep, CallTerms, Profile, RetryPolicy, TransportFailure};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::signal::{ReadSignal, Response};

/// The retries that the calls of one limit save for each other.
#[wasm_bindgen]
#[derive(Debug)]
pub struct RetryBudget(tidegate_core::RetryBudget);

#[wasm_bindgen]
impl RetryBudget {
    /// A budget of `percent` retries for a hundred calls, which has `reserve` retries at first.
    #[wasm_bindgen(constructor)]
    pub fn new(percent: u32, reserve: u32) -> Self {
        Self(tidegate_core::RetryBudget::new(percent, reserve))
    }

    /// The retries that could be made now.
    pub fn retries(&self) -> u64 {
        self.0.retries()
    }
}

/// A call to a vendor. Times are in nanoseconds on the clock of the caller; the largest value is any
/// time. After each event, `step`, `amount` and `word` say what is done next.
#[wasm_bindgen]
#[derive(Debug)]
pub struct OutboundCall {
    call: tidegate_core::OutboundCall,
    step: (&'static str, u64, &'static str),
}

#[wasm_bindgen]
impl OutboundCall {
    /// A call that has not begun.
    #[wasm_bindgen(constructor)]
    #[allow(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        reason = "JavaScript passes no struct"
    )]
    pub fn new(
        attempts: u32,
        base: u64,
        longest: u64,
        deadline: u64,
        attempt_timeout: u64,
        needs_permit: bool,
        is_repeatable: bool,
        is_idempotent: bool,
    ) -> Self {
        let terms = CallTerms {
            policy: RetryPolicy { attempts, base, longest },
            deadline,
            attempt_timeout,
            needs_permit,
            is_repeatable,
            is_idempotent,
        };
        Self { call: tidegate_core::OutboundCall::new(terms), step: ("", 0, "") }
    }

    /// Begins the call.
    pub fn start(&mut self, now: u64) {
        self.step = written(self.call.start(now));
    }

    /// The tokens or the permit are there.
    pub fn granted(&mut self, now: u64, budget: &RetryBudget) {
        self.next(CallEvent::Granted, now, 0, budget);
    }

    /// The tokens or the permit will not be there in time.
    pub fn denied(&mut self, now: u64, budget: &RetryBudget) {
        self.next(CallEvent::Denied, now, 0, budget);
    }

    /// The hold is stored, the permit given back, or the sleep over.
    pub fn done(&mut self, now: u64, budget: &RetryBudget) {
        self.next(CallEvent::Done, now, 0, budget);
    }

    /// The caller left.
    pub fn cancelled(&mut self, now: u64, budget: &RetryBudget) {
        self.next(CallEvent::Cancelled, now, 0, budget);
    }

    /// The vendor responded. Answers the signal, or the failure to understand the profile, after which
    /// the call is where it was.
    #[allow(clippy::too_many_arguments, reason = "JavaScript passes no struct")]
    pub fn responded(
        &mut self,
        status: u16,
        headers: &str,
        fields: &str,
        profile: &str,
        wall: u64,
        max_hold: u64,
        now: u64,
        random: u64,
        budget: &RetryBudget,
    ) -> ReadSignal {
        let response = Response { status, headers, fields, profile, now: wall, max_hold };
        response.read(|signal| self.next(CallEvent::Response(signal), now, random, budget))
    }

    /// There is no response; `kind` is a name of a `TransportFailure`, and any other one is "broken".
    pub fn failed(&mut self, kind: &str, now: u64, random: u64, budget: &RetryBudget) {
        let failure = TransportFailure::parse(kind).unwrap_or(TransportFailure::Broken);
        self.next(CallEvent::Failed(failure), now, random, budget);
    }

    /// What is done next: "permit", "acquire", "send", "hold", "release", "sleep", "return" or "give_up".
    #[wasm_bindgen(getter)]
    pub fn step(&self) -> String {
        self.step.0.to_owned()
    }

    /// For how long, in nanoseconds.
    #[wasm_bindgen(getter)]
    pub fn amount(&self) -> u64 {
        self.step.1
    }

    /// The scope of a hold, or the reason to give up.
    #[wasm_bindgen(getter)]
    pub fn word(&self) -> String {
        self.step.2.to_owned()
    }
}

impl OutboundCall {
    fn next(&mut self, event: CallEvent<'_>, now: u64, random: u64, budget: &RetryBudget) {
        self.step = written(self.call.next(event, now, random, &budget.0));
    }
}

const fn written(step: CallStep) -> (&'static str, u64, &'static str) {
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
#[wasm_bindgen]
pub fn profile_of_host(host: &str) -> String {
    Profile::of_host(host).unwrap_or(&Profile::GENERIC).name.to_owned()
}

/// Whether a request may take effect twice.
#[wasm_bindgen]
pub fn is_idempotent(method: &str, has_key: bool) -> bool {
    CallTerms::is_idempotent_method(method, has_key)
}
