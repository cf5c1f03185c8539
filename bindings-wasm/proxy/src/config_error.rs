//! Errors of a configuration: the field, the value found, and the bound.

use core::fmt;

use tidegate_core::MAX_TIERS;

use crate::config_fields::Field;
use crate::json::Syntax;
use crate::names::NAMES;

/// The reason why a configuration is refused.
#[derive(Clone, Copy, Debug)]
pub struct ConfigError<'a> {
    /// The path of the field, outermost step first.
    steps: [Step<'a>; DEEPEST],
    problem: Problem<'a>,
}

/// The most steps of a path: `descriptors[0].actions[0].header_value_match.headers[0].string_match.exact`.
const DEEPEST: usize = 9;

/// The path of a value in the configuration, such as `local.limits[1]`, innermost step first.
#[derive(Clone, Copy)]
pub(crate) struct FieldPath<'p, 'a> {
    before: Option<&'p Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(u16),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Problem<'a> {
    NotUtf8,
    Syntax(Syntax),
    NoSection,
    Unknown {
        known: &'static [Field],
    },
    Missing {
        wanted: &'static str,
    },
    Twice,
    SecondSource,
    FifthLimit,
    /// There are more than this many.
    TooMany {
        what: &'static str,
        most: usize,
    },
    /// The texts of the configuration take more memory than there is.
    TooMuchText,
    /// The field is meaningless together with this one.
    Excluded {
        by: &'static str,
    },
    /// The value needs this field.
    Needs {
        what: &'static str,
    },
    Mismatch {
        found: &'a str,
        wanted: &'static str,
    },
    Range {
        found: &'a str,
        least: u32,
        most: u32,
    },
    Limit {
        found: &'a str,
        error: tidegate_core::Error,
    },
}

impl<'p, 'a> FieldPath<'p, 'a> {
    pub(crate) const ROOT: Self = Self { before: None, step: Step::Root };

    pub(crate) const fn field<'q>(&'q self, name: &'a str) -> FieldPath<'q, 'a> {
        FieldPath { before: Some(self), step: Step::Field(name) }
    }

    pub(crate) fn item<'q>(&'q self, index: usize) -> FieldPath<'q, 'a> {
        let step = Step::Item(u16::try_from(index).unwrap_or(u16::MAX));
        FieldPath { before: Some(self), step }
    }
}

impl<'a> ConfigError<'a> {
    #[cold]
    #[inline(never)]
    pub(crate) fn new(path: &FieldPath<'_, 'a>, problem: Problem<'a>) -> Self {
        let mut depth = 0;
        let mut at = path;
        while let Some(before) = at.before {
            depth += 1;
            at = before;
        }
        let mut steps = [Step::Root; DEEPEST];
        let mut at = path;
        while let Some(before) = at.before {
            depth -= 1;
            if let Some(place) = steps.get_mut(depth) {
                *place = at.step;
            }
            at = before;
        }
        Self { steps, problem }
    }
}

impl fmt::Display for ConfigError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.steps.iter().enumerate() {
            match step {
                Step::Root if place == 0 => f.write_str("configuration")?,
                Step::Root => break,
                Step::Field(name) => {
                    f.write_str(if place == 0 { "" } else { "." })?;
                    f.write_str(name)?;
                }
                Step::Item(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, ": {}", self.problem)
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotUtf8 => f.write_str("not valid UTF-8"),
            Self::Syntax(Syntax { at, expected }) => {
                write!(f, "not JSON at byte {at}: expected {expected}")
            }
            Self::NoSection => {
                f.write_str("neither local nor service is given; at least one of them must be")
            }
            Self::Unknown { known } => {
                f.write_str("unknown field; known here: ")?;
                for (index, field) in known.iter().enumerate() {
                    f.write_str(match known.len() - index {
                        _ if index == 0 => "",
                        1 => " and ",
                        _ => ", ",
                    })?;
                    f.write_str(field.name)?;
                }
                if known.is_empty() { f.write_str("none") } else { Ok(()) }
            }
            Self::Missing { wanted } => write!(f, "missing; wanted {wanted}"),
            Self::Twice => f.write_str("given twice"),
            Self::SecondSource => f.write_str("a second source; give exactly one"),
            Self::FifthLimit => write!(f, "a limiter holds 1 to {MAX_TIERS} limits"),
            Self::TooMany { what, most } => write!(f, "more than {most} {what}"),
            Self::TooMuchText => write!(f, "the texts of the configuration exceed {NAMES} bytes"),
            Self::Excluded { by } => write!(f, "not together with {by}"),
            Self::Needs { what } => write!(f, "needs {what}"),
            Self::Mismatch { found, wanted } => write!(f, "found {found}, wanted {wanted}"),
            Self::Range { found, least, most } => {
                write!(f, "found {found}, wanted a whole number from {least} to {most}")
            }
            Self::Limit { found, error } => write!(f, "found {found}: {error}"),
        }
    }
}
