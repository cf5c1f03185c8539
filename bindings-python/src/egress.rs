//! `_Egress`: the machine between a queue and a vendor, for `tidegate.egress`. Times are in
//! nanoseconds.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use tidegate::SignalKind;
use tidegate::bindings::{
    Admission, Egress as Machine, EgressAction, EgressMessage, EgressOrder, EgressPartition,
    EgressResponse, EgressTerms, HeldMessage,
};

use crate::errors::invalid_argument;

/// Each kind of a signal, to find one by its name.
const KINDS: [SignalKind; 9] = [
    SignalKind::Ok,
    SignalKind::Rate,
    SignalKind::Concurrency,
    SignalKind::Quota,
    SignalKind::Overload,
    SignalKind::Abuse,
    SignalKind::Auth,
    SignalKind::Fault,
    SignalKind::Refused,
];

#[pyclass(name = "_Egress", module = "tidegate")]
pub(crate) struct Egress(Machine<Vec<HeldMessage>, Vec<EgressPartition>>);

#[pymethods]
impl Egress {
    #[new]
    #[pyo3(signature = (*, concurrency, batch, ahead, max_attempts, visibility, max_visibility, keep, jitter, blind_hold, back_off, max_back_off, interval, order, slots, partitions))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn new(
        py: Python<'_>,
        concurrency: u32,
        batch: u32,
        ahead: u32,
        max_attempts: u32,
        visibility: u64,
        max_visibility: u64,
        keep: u64,
        jitter: u64,
        blind_hold: u64,
        back_off: u64,
        max_back_off: u64,
        interval: u64,
        order: &str,
        slots: usize,
        partitions: usize,
    ) -> PyResult<Self> {
        let Some(order) = EgressOrder::parse(order) else {
            return Err(invalid_argument(py, "order", format!("there is none named {order:?}")));
        };
        let terms = EgressTerms {
            concurrency,
            batch,
            ahead,
            max_attempts,
            visibility,
            max_visibility,
            keep,
            jitter,
            blind_hold,
            back_off,
            max_back_off,
            interval,
            order,
        };
        let slots = vec![HeldMessage::FREE; slots];
        Ok(Self(Machine::new(terms, slots, vec![EgressPartition::FREE; partitions])))
    }

    fn permits_granted(&mut self, now: u64, count: u32) {
        self.0.permits_granted(now, count);
    }

    fn permits_lost(&mut self, now: u64, count: u32, asked: bool) {
        self.0.permits_lost(now, count, asked);
    }

    #[pyo3(signature = (now, id, *, received_at, sent_at, deadline, attempts, key, random, partition=0, offset=0, generation=0))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn message(
        &mut self,
        now: u64,
        id: u64,
        received_at: u64,
        sent_at: u64,
        deadline: Option<u64>,
        attempts: u32,
        key: u64,
        random: u64,
        partition: u32,
        offset: u64,
        generation: u64,
    ) -> &'static str {
        let message = EgressMessage {
            id,
            received_at,
            sent_at,
            deadline: deadline.unwrap_or(u64::MAX),
            attempts,
            key,
            random,
            partition,
            offset,
            generation,
        };
        match self.0.message(now, message) {
            Admission::Held => "held",
            Admission::Duplicate => "duplicate",
            Admission::Fenced => "fenced",
            Admission::NotTaken => "not_taken",
        }
    }

    fn received(&mut self, now: u64, count: u32) {
        self.0.received(now, count);
    }

    fn granted(&mut self, now: u64, id: u64) -> bool {
        self.0.granted(now, id)
    }

    #[pyo3(signature = (now, id, name, hold=0, retry=None))]
    fn response(
        &mut self,
        py: Python<'_>,
        now: u64,
        id: u64,
        name: &str,
        hold: u64,
        retry: Option<u64>,
    ) -> PyResult<()> {
        let response = match name {
            "done" => EgressResponse::Done,
            "held" => EgressResponse::Held { hold },
            "busy" => EgressResponse::Busy,
            "failed" => EgressResponse::Failed { retry },
            "refused" => EgressResponse::Refused,
            _ => return Err(invalid_argument(py, "response", format!("there is no {name:?}"))),
        };
        self.0.response(now, id, response);
        Ok(())
    }

    /// What the fields of a `Signal` mean: a name for `response`.
    #[staticmethod]
    fn meaning(
        py: Python<'_>,
        kind: &str,
        hold: u64,
        should_retry: bool,
    ) -> PyResult<&'static str> {
        let Some(kind) = KINDS.into_iter().find(|each| each.as_str() == kind) else {
            return Err(invalid_argument(py, "kind", format!("there is no {kind:?}")));
        };
        Ok(match EgressResponse::from_parts(kind, hold, should_retry, None) {
            EgressResponse::Done => "done",
            EgressResponse::Held { .. } => "held",
            EgressResponse::Busy => "busy",
            EgressResponse::Failed { .. } => "failed",
            EgressResponse::Refused => "refused",
        })
    }

    fn dead_lettered(&mut self, now: u64, id: u64, is_there: bool) {
        self.0.dead_lettered(now, id, is_there);
    }

    fn held(&mut self, now: u64, until: u64) {
        self.0.held(now, until);
    }

    fn breaker(&mut self, now: u64, probes: Option<u32>) {
        self.0.breaker(now, probes);
    }

    fn store(&mut self, now: u64, is_up: bool) {
        self.0.store(now, is_up);
    }

    fn assign(&mut self, now: u64, partition: u32, generation: u64, position: u64) -> bool {
        self.0.assign(now, partition, generation, position)
    }

    fn revoke(&mut self, now: u64, partition: u32) {
        self.0.revoke(now, partition);
    }

    fn stop(&mut self, now: u64) {
        self.0.stop(now);
    }

    fn set_interval(&mut self, interval: u64) {
        self.0.set_interval(interval);
    }

    /// Everything there is to do now, each as a tuple of a name and its parameters.
    fn poll<'py>(&mut self, py: Python<'py>, now: u64) -> PyResult<Bound<'py, PyList>> {
        let actions = PyList::empty(py);
        while let Some(action) = self.0.poll(now) {
            actions.append(tuple_of(py, action)?)?;
        }
        Ok(actions)
    }

    fn wake_at(&self) -> Option<u64> {
        self.0.wake_at()
    }

    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    fn drain_time(&self, backlog: u64) -> u64 {
        self.0.drain_time(backlog)
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.0.counts();
        let dict = PyDict::new(py);
        for (name, count) in [
            ("received", counts.received),
            ("dispatched", counts.dispatched),
            ("acked", counts.acked),
            ("returned", counts.returned),
            ("dropped", counts.dropped),
            ("throttled", counts.throttled),
            ("failed", counts.failed),
            ("stale", counts.stale),
            ("permanent", counts.permanent),
            ("exhausted", counts.exhausted),
        ] {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    fn gauges<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let gauges = self.0.gauges();
        let dict = PyDict::new(py);
        dict.set_item("waiting", gauges.waiting)?;
        dict.set_item("in_flight", gauges.in_flight)?;
        dict.set_item("permits", gauges.permits)?;
        dict.set_item("oldest", gauges.oldest)?;
        dict.set_item("held_until", gauges.held_until)?;
        dict.set_item("is_blocked", gauges.is_blocked)?;
        dict.set_item("p50", gauges.p50)?;
        Ok(dict)
    }
}

fn tuple_of(py: Python<'_>, action: EgressAction) -> PyResult<Bound<'_, PyTuple>> {
    match action {
        EgressAction::AcquirePermits(count) => ("acquire_permits", count).into_pyobject(py),
        EgressAction::ReleasePermits(count) => ("release_permits", count).into_pyobject(py),
        EgressAction::Receive(count) => ("receive", count).into_pyobject(py),
        EgressAction::Acquire(id) => ("acquire", id).into_pyobject(py),
        EgressAction::GiveBack(id) => ("give_back", id).into_pyobject(py),
        EgressAction::Dispatch(id) => ("dispatch", id).into_pyobject(py),
        EgressAction::Ack(id) => ("ack", id).into_pyobject(py),
        EgressAction::Return { id, delay, counted } => {
            ("return", id, delay, counted).into_pyobject(py)
        }
        EgressAction::DeadLetter { id, reason } => {
            ("dead_letter", id, reason.as_str()).into_pyobject(py)
        }
        EgressAction::Drop(id) => ("drop", id).into_pyobject(py),
        EgressAction::Extend { id, by } => ("extend", id, by).into_pyobject(py),
        EgressAction::Hold(wait) => ("hold", wait).into_pyobject(py),
        EgressAction::Commit { partition, offset } => {
            ("commit", partition, offset).into_pyobject(py)
        }
        EgressAction::Seek { partition, offset } => ("seek", partition, offset).into_pyobject(py),
        EgressAction::Pause(partition) => ("pause", partition).into_pyobject(py),
        EgressAction::Resume(partition) => ("resume", partition).into_pyobject(py),
    }
}
