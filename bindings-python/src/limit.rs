//! `Limit`: how many tokens per period, read from a text or from numbers.

use core::hash::{Hash as _, Hasher as _};
use std::hash::DefaultHasher;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString};
use tidegate::NamedLimit;

use crate::arguments::{text, wrong_type};
use crate::errors::exception;
use crate::seconds::{exact_nanos, from_nanos};

/// How many tokens per period, and how many may be spent at once.
///
/// It is written as text, `Limit("100/min burst 20")`, or as numbers,
/// `Limit(100, per=60, burst=20)` with `per` in seconds (a whole number of
/// nanoseconds). The burst is the count per period unless given. `name` is what
/// decisions call the limit; unless given, the text as written, or the
/// canonical text of the numbers.
///
/// `Limit("unlimited")` allows every call, and `Limit("none")` refuses every call with a cost
/// above 0. No store is asked for either, and "unlimited" among other limits is as if it were not
/// there.
///
/// Equal limits have the same numbers, shape and name. `str()` gives the
/// canonical text.
///
/// Raises InvalidLimit when the text does not follow the grammar or the limit
/// breaks a bound; its `reason` names the bound.
///
/// >>> from tidegate import Limit
/// >>> limit = Limit("100/min burst 20", name="user")
/// >>> limit.tokens, limit.period, limit.burst, limit.shape, limit.name
/// (100, 60.0, 20, 'smooth', 'user')
/// >>> Limit(100, per=60, burst=20, name="user") == limit
/// True
/// >>> str(Limit("5000 / hour window"))
/// '5000/h window'
#[pyclass(frozen, module = "tidegate")]
pub(crate) struct Limit(pub(crate) NamedLimit);

#[pymethods]
impl Limit {
    #[new]
    #[pyo3(signature = (tokens, /, per=None, burst=None, name=None))]
    fn new(
        tokens: &Bound<'_, PyAny>,
        per: Option<&Bound<'_, PyAny>>,
        burst: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let name = name.map(|name| text("name", name)).transpose()?;
        if !tokens.is_instance_of::<PyString>() {
            let mut limit = Self::parse(tokens.py(), &text_of_numbers(tokens, per, burst)?, name)?;
            if name.is_none() {
                limit.0.name = limit.0.limit.to_string();
            }
            return Ok(limit);
        }
        if per.is_some() || burst.is_some() {
            let message = "per and burst go with a number of tokens; write them into the text";
            return Err(PyTypeError::new_err(message));
        }
        Self::parse(tokens.py(), text("limit", tokens)?, name)
    }

    /// Tokens per period; 2**64 - 1 for "unlimited", and 0 for "none".
    #[getter]
    fn tokens(&self) -> u64 {
        self.0.limit.tokens()
    }

    /// The period, in seconds; 0.0 for "unlimited" and "none".
    #[getter]
    fn period(&self) -> f64 {
        from_nanos(self.0.limit.period())
    }

    /// The most tokens that can be spent at once; 2**64 - 1 for "unlimited", and 0 for "none".
    #[getter]
    fn burst(&self) -> u64 {
        self.0.limit.burst()
    }

    /// How tokens come back: "smooth", evenly, one at a time; or "stepped", all tokens of a
    /// period at once. For "unlimited" and "none" it is that word.
    #[getter]
    fn shape(&self) -> &'static str {
        self.0.limit.shape_name()
    }

    /// The name of this limit in decisions.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    fn __str__(&self) -> String {
        self.0.limit.to_string()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = PyString::new(py, &self.0.name).repr()?;
        if NamedLimit::parse(&self.0.name, None).is_ok_and(|named| named == self.0) {
            return Ok(format!("Limit({name})"));
        }
        Ok(format!("Limit('{}', name={name})", self.0.limit))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.limit.hash(&mut hasher);
        self.0.name.hash(&mut hasher);
        hasher.finish()
    }

    fn __getnewargs__(&self) -> (String, Option<()>, Option<()>, &str) {
        (self.__str__(), None, None, &self.0.name)
    }
}

impl Limit {
    /// Reads one of a limiter's `limits`: a limit, or the text of one.
    pub(crate) fn of(argument: &Bound<'_, PyAny>) -> PyResult<NamedLimit> {
        if let Ok(limit) = argument.cast::<Self>() {
            return Ok(limit.get().0.clone());
        }
        if !argument.is_instance_of::<PyString>() {
            let is_several = !argument.is_instance_of::<PyBytes>() && argument.try_iter().is_ok();
            return Err(match is_several {
                true => PyTypeError::new_err(format!(
                    "each limit is an argument of its own, str or Limit: Limiter(\"10/s\", \"1000/d\"), or \
                     Limiter(*limits) for a {}",
                    argument.get_type().name()?
                )),
                false => wrong_type("each of limits", "str or Limit", argument),
            });
        }
        Self::parse(argument.py(), text("limits", argument)?, None).map(|limit| limit.0)
    }

    fn parse(py: Python<'_>, text: &str, name: Option<&str>) -> PyResult<Self> {
        NamedLimit::parse(text, name).map(Self).map_err(|error| exception(py, &error))
    }
}

/// Writes numbers as the text of a limit, so that the grammar alone checks limits.
fn text_of_numbers(
    tokens: &Bound<'_, PyAny>,
    per: Option<&Bound<'_, PyAny>>,
    burst: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let tokens = digits("tokens", tokens)?;
    let Some(per) = per else {
        return Err(PyTypeError::new_err("a number of tokens needs per, a number of seconds"));
    };
    let period = exact_nanos("per", per)?;
    match burst {
        None => Ok(format!("{tokens}/{period}ns")),
        Some(burst) => Ok(format!("{tokens}/{period}ns burst {}", digits("burst", burst)?)),
    }
}

fn digits(name: &str, number: &Bound<'_, PyAny>) -> PyResult<String> {
    if number.is_instance_of::<PyInt>() && !number.is_instance_of::<PyBool>() {
        return Ok(number.str()?.to_string());
    }
    Err(wrong_type(name, "a whole number", number))
}
