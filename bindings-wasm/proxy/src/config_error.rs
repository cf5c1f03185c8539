//! Errors of a configuration: the field, the value found, and the bound.

use core::fmt;

use tidegate_core::MAX_TIERS;

use crate::json::Syntax;

/// The reason why a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigError<'a> {
    path: FieldPath<'a>,
    problem: Problem<'a>,
}

/// The path of a value in the configuration, such as `local.limits[1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldPath<'a> {
    /// The names of fields, outermost first; unused elements are empty.
    fields: [&'a str; 3],
    item: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem<'a> {
    NotUtf8,
    Syntax(Syntax),
    NoSection,
    Unknown { known: &'static str },
    Missing { wanted: &'static str },
    Twice,
    SecondSource,
    FifthLimit,
    Mismatch { found: &'a str, wanted: &'static str },
    Range { found: &'a str, least: u64, most: u64 },
    Limit { found: &'a str, error: tidegate_core::Error },
}

impl<'a> FieldPath<'a> {
    pub(crate) const ROOT: Self = Self { fields: [""; 3], item: None };

    #[inline(never)]
    pub(crate) fn field(mut self, name: &'a str) -> Self {
        if let Some(free) = self.fields.iter_mut().find(|field| field.is_empty()) {
            *free = name;
        }
        self
    }

    pub(crate) fn item(self, index: usize) -> Self {
        Self { item: Some(index), ..self }
    }

    #[inline(never)]
    pub(crate) fn once<T>(self, field: &mut Option<T>, value: T) -> Result<(), ConfigError<'a>> {
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.refuse(Problem::Twice)),
        }
    }

    pub(crate) fn unknown(self, known: &'static str) -> ConfigError<'a> {
        self.refuse(Problem::Unknown { known })
    }

    pub(crate) fn missing(self, wanted: &'static str) -> ConfigError<'a> {
        self.refuse(Problem::Missing { wanted })
    }

    pub(crate) fn mismatch(self, found: &'a str, wanted: &'static str) -> ConfigError<'a> {
        self.refuse(Problem::Mismatch { found, wanted })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(self, problem: Problem<'a>) -> ConfigError<'a> {
        ConfigError { path: self, problem }
    }
}

impl From<Syntax> for ConfigError<'_> {
    fn from(syntax: Syntax) -> Self {
        FieldPath::ROOT.refuse(Problem::Syntax(syntax))
    }
}

impl fmt::Display for ConfigError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, deeper @ ..] = self.fields;
        f.write_str(if first.is_empty() { "configuration" } else { first })?;
        for name in deeper.iter().filter(|name| !name.is_empty()) {
            write!(f, ".{name}")?;
        }
        self.item.map_or(Ok(()), |item| write!(f, "[{item}]"))
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("not valid UTF-8"),
            Self::Syntax(Syntax { at, expected }) => {
                write!(f, "not JSON at byte {at}: expected {expected}")
            }
            Self::NoSection => {
                f.write_str("neither local nor service is given; at least one of them must be")
            }
            Self::Unknown { known } => write!(f, "unknown field; known here: {known}"),
            Self::Missing { wanted } => write!(f, "missing; wanted {wanted}"),
            Self::Twice => f.write_str("given twice"),
            Self::SecondSource => f.write_str("a second source; give exactly one"),
            Self::FifthLimit => write!(f, "a limiter holds 1 to {MAX_TIERS} limits"),
            Self::Mismatch { found, wanted } => write!(f, "found {found}, wanted {wanted}"),
            Self::Range { found, least, most } => {
                write!(f, "found {found}, wanted a whole number from {least} to {most}")
            }
            Self::Limit { found, error } => write!(f, "found {found}: {error}"),
        }
    }
}
