//! What is wrong with the spelling of a limit that can be understood, and what to write instead.

use core::fmt::{self, Write as _};

use crate::bounds::MAX_TIERS;
use crate::error::Error;
use crate::grammar::{Duration, limits_of};

/// Why a part of a limit's text is refused although it can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mistake {
    /// A count has a fraction.
    Fraction,
    /// A count is shortened, as in `1k` or `1e3`.
    Digits,
    /// A count is hexadecimal.
    Radix,
    /// A count has a `_` that is not between two digits, or a comma.
    Separator,
    /// A count has a sign.
    Sign,
    /// A duration has several parts, as in `1h30m`.
    SeveralUnits,
    /// A duration is in calendar months.
    Month,
    /// A duration is in calendar years.
    Year,
    /// A duration is in `M`.
    MinuteOrMonth,
}

impl Mistake {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fraction => "counts are whole numbers",
            Self::Digits => "counts are written in digits only",
            Self::Radix => "counts are written in decimal digits",
            Self::Separator => "only \"_\" may separate digits, and between them",
            Self::Sign => "counts have no sign",
            Self::SeveralUnits => "a duration is one count of one unit",
            Self::Month => "months differ in length",
            Self::Year => "years differ in length",
            Self::MinuteOrMonth => "\"M\" may also mean a month",
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to write instead of a part of a limit's text: a count, a duration or a rate, as its
/// `Display` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instead {
    /// The tokens, or 0 for a duration alone.
    tokens: u64,
    /// The period or duration in nanoseconds, or 0 for a count alone.
    period: u64,
}

impl Instead {
    pub(crate) const fn count(tokens: u64) -> Self {
        Self { tokens, period: 0 }
    }

    pub(crate) const fn duration(nanos: u64) -> Self {
        Self { tokens: 0, period: nanos }
    }

    pub(crate) const fn rate(tokens: u64, period: u64) -> Self {
        Self { tokens, period }
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { tokens, period: 0 } => write!(f, "{tokens}"),
            Self { tokens: 0, period } => Duration(period).fmt(f),
            Self { tokens, period } => write!(f, "{tokens}/{}", Duration(period)),
        }
    }
}

/// An [`Error`] with the text of the limit that it is about, so that its `Display` can quote parts
/// of it.
#[derive(Clone, Copy, Debug)]
pub struct ErrorInText<'a> {
    error: Error,
    text: &'a str,
}

impl Error {
    /// The error as a sentence that may quote `text`, the limit's text that was parsed.
    ///
    /// ```
    /// use tidegate_core::Limit;
    /// let text = "10/second; 100/hour";
    /// let error = Limit::parse(text).unwrap_err();
    /// assert_eq!(
    ///     error.in_text(text).to_string(),
    ///     r#"at byte 9: a text is one limit; give each by itself: "10/second", "100/hour""#
    /// );
    /// ```
    pub const fn in_text(self, text: &str) -> ErrorInText<'_> {
        ErrorInText { error: self, text }
    }
}

impl fmt::Display for ErrorInText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error::SeveralLimits { at } = self.error else { return self.error.fmt(f) };
        write!(f, "at byte {at}: a text is one limit; give each by itself")?;
        for (place, limit) in limits_of(self.text, at).enumerate() {
            f.write_str(if place == 0 { ": " } else { ", " })?;
            if place == MAX_TIERS {
                return f.write_str("…");
            }
            Quoted(limit).fmt(f)?;
        }
        Ok(())
    }
}

/// The text of a limit in quotes, as messages show it. A long text is cut short, because a message
/// is logged and may be about a text of any length from outside.
///
/// ```
/// use tidegate_core::Quoted;
/// assert_eq!(Quoted("10/s\n").to_string(), r#""10/s\n""#);
/// assert_eq!(Quoted(&"1".repeat(1000)).to_string(), format!(r#""{}…" (1000 bytes)"#, "1".repeat(60)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

/// The most characters of a text that are shown: more than any limit needs that is written to be read.
const MAX_QUOTED: usize = 60;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(MAX_QUOTED);
        let Some(beginning) = end.and_then(|(end, _)| self.0.get(..end)) else {
            return write!(f, "{:?}", self.0);
        };
        f.write_str("\"")?;
        for char in beginning.chars().flat_map(char::escape_debug) {
            f.write_char(char)?;
        }
        write!(f, "…\" ({} bytes)", self.0.len())
    }
}
