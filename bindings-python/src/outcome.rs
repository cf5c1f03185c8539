//! `Outcome`: the answer of any operation, on its way to Python.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyList};
use tidegate::TieredDecision;
use tidegate::bindings::{CancelOnDrop, Granted};

use crate::errors::rate_limited;
use crate::limiter::Limiter;
use crate::reservation::Reservation;

/// The answer to any operation of a limiter.
pub(crate) enum Outcome {
    Decision(TieredDecision),
    Decisions(Vec<TieredDecision>),
    Reservation(CancelOnDrop),
    Cancelled(bool),
    /// The store has answered a ping.
    Served,
    Granted(Granted),
    /// The tokens that were to be acquired would come too late; with the key that was given.
    TooLate(tidegate::Decision, Py<PyAny>),
}

impl Outcome {
    /// The Python object of the answer; `limiter` is the one that was asked.
    pub(crate) fn into_python(self, py: Python<'_>, limiter: &Py<Limiter>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::Decision(decided) => limiter.get().tiered(py, decided)?.into_any(),
            Self::Decisions(all) => {
                let decisions = all.into_iter().map(|decided| limiter.get().tiered(py, decided));
                PyList::new(py, decisions.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind()
            }
            Self::Reservation(made) => {
                Py::new(py, Reservation::new(py, limiter, made)?)?.into_any()
            }
            Self::Granted(granted) => limiter.get().tiered(py, granted.claim())?.into_any(),
            Self::TooLate(decided, key) => {
                let decision = Py::new(py, limiter.get().decision(py, decided))?;
                return Err(rate_limited(decision, key.bind(py), &decided));
            }
            Self::Served => py.None(),
            Self::Cancelled(all) => PyBool::new(py, all).to_owned().into_any().unbind(),
        })
    }
}
