//! `Limits`: the limits of a call, and how an argument is read as such.

use core::hash::{Hash as _, Hasher as _};
use std::collections::HashMap;
use std::hash::DefaultHasher;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use tidegate::bindings::{PerProcess, generation, lock::Mutex};

use crate::arguments::{text, wrong_type};
use crate::errors::exception;
use crate::limit::Limit;

/// One to four limits that all must allow, parsed once: the plan of a customer, say.
///
/// Each is a text, such as "100/min burst 20", or a Limit. The methods of a limiter take it as
/// `limits`, and so decide a call under these limits instead of the limiter's own. It is small and
/// quick to make, so there can be one for each of many customers.
///
/// Equal limits have the same numbers, shapes and names. They can be iterated over and pickled.
///
/// Raises InvalidLimit for a limit that cannot be kept, and for a number of limits other than one to
/// four.
///
/// >>> from tidegate import Limiter, Limits
/// >>> limiter = Limiter("10/min")
/// >>> paid = Limits("100/min", "5000/d")
/// >>> limiter.check("user:42", 4).remaining
/// 6
/// >>> limiter.check("user:42", limits=paid).remaining  # the same bucket, which owes four tokens
/// 95
/// >>> [limit.name for limit in paid], len(paid)
/// (['100/min', '5000/d'], 2)
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Limits(tidegate::Limits);

#[pymethods]
impl Limits {
    #[new]
    #[pyo3(signature = (*limits), text_signature = "(*limits)")]
    fn new(limits: &Bound<'_, PyTuple>) -> PyResult<Self> {
        of_each(limits.as_any()).map(Self)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.tuple(py)?.try_iter()?.into_any())
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        at: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.tuple(py)?.as_any().get_item(at)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let tuple = self.tuple(py)?;
        let mut shown = Vec::with_capacity(tuple.len());
        for limit in &tuple {
            let named = limit.cast::<Limit>()?.get();
            let text = named.0.limit.to_string();
            shown.push(if named.0.name == text {
                PyString::new(py, &text).repr()?.to_string()
            } else {
                limit.repr()?.to_string()
            });
        }
        Ok(format!("Limits({})", shown.join(", ")))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    fn __getnewargs__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.tuple(py)
    }
}

impl Limits {
    fn tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.named().into_iter().map(Limit))
    }
}

/// How many texts are kept parsed. When there are more, all are forgotten: programs with more plans
/// than that make `Limits`.
const MAX_TEXTS: usize = 1024;

static TEXTS: PerProcess<Mutex<HashMap<String, tidegate::Limits>>> = PerProcess::new(generation);

/// The `limits` argument of a call: `Limits`, a limit or its text, or a sequence of these.
pub(crate) fn limits(argument: &Bound<'_, PyAny>) -> PyResult<Option<tidegate::Limits>> {
    if argument.is_none() {
        return Ok(None);
    }
    if let Ok(limits) = argument.cast::<Limits>() {
        return Ok(Some(limits.get().0.clone()));
    }
    if argument.is_instance_of::<PyString>() {
        return of_text(argument.py(), text("limits", argument)?).map(Some);
    }
    if argument.is_instance_of::<Limit>() {
        return of_each(PyTuple::new(argument.py(), [argument])?.as_any()).map(Some);
    }
    if argument.is_instance_of::<PyTuple>() || argument.is_instance_of::<PyList>() {
        return of_each(argument).map(Some);
    }
    Err(wrong_type("limits", "Limits, str, Limit, or a list or tuple of str and Limit", argument))
}

fn of_text(py: Python<'_>, text: &str) -> PyResult<tidegate::Limits> {
    let texts = TEXTS.get_or_default();
    if let Some(known) = texts.lock().get(text) {
        return Ok(known.clone());
    }
    let parsed = tidegate::Limits::parse(&[text]).map_err(|error| exception(py, &error))?;
    let mut texts = texts.lock();
    if texts.len() >= MAX_TEXTS {
        texts.clear();
    }
    texts.insert(text.to_owned(), parsed.clone());
    Ok(parsed)
}

fn of_each(limits: &Bound<'_, PyAny>) -> PyResult<tidegate::Limits> {
    let mut named = Vec::with_capacity(1);
    for limit in limits.try_iter()? {
        named.push(Limit::of(&limit?)?);
    }
    tidegate::Limits::new(&named).map_err(|error| exception(limits.py(), &error))
}
