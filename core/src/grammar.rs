//! The text form of limits: one grammar for every language and for Envoy.
//!
//! ```text
//! any      = limit | "unlimited" | "none"         read by `AnyLimit`
//! limit    = count [noun] per [count] unit option*        10/s   1_000/15min   10 requests per second
//!          | count [noun] "in any" [count] unit option*   10 in any 1s
//! per      = "/" | "per"
//! noun     = request(s) | req(s) | call(s) | hit(s) | token(s)
//! option   = "burst" count                       default: the count per period; 1 for "in any"
//!          | "stepped" | "window"                 refill at once, on multiples of the period
//!          | "jitter" count unit                  only with "in any"
//! unit     = ns | us | ms | s | m | h | d | w, or nanosecond(s), microsecond(s), millisecond(s),
//!            sec(s), second(s), min(s), minute(s), hr(s), hour(s), day(s), week(s)
//! count    = digits, with "_" between them where it helps
//! ```
//!
//! Words are separated by spaces; around "/", and between a count and a word, spaces are free. Letters
//! are of either case, but a lone `M` is no unit, because it may be a minute or a month. White space
//! around the text is ignored.
//!
//! A form that can be read in one way only is accepted. Where a text is outside the grammar but can be
//! understood, the error says what to write instead.

use core::{fmt, str::FromStr};

use crate::bounds::NANOS_PER_SECOND;
use crate::error::{Error, Field};
use crate::limit::{Limit, Shape};
use crate::spelling::{Instead, Mistake};

const MINUTE: u64 = 60 * NANOS_PER_SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// What a unit that is missing is expected to be.
const EXPECTED_UNIT: &str = "a unit of time: ns, us, ms, s, min, h, d or w";

/// The canonical names of the units, the largest first.
const UNITS: [(&str, u64); 8] = [
    ("w", WEEK),
    ("d", DAY),
    ("h", HOUR),
    ("min", MINUTE),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// What the tokens may be called, in the singular. The name has no effect.
const NOUNS: [&str; 5] = ["request", "req", "call", "hit", "token"];

impl Limit {
    /// Reads the text form, such as `"10/s"`, `"100/min burst 20"`, `"5000/h window"`,
    /// `"100/min burst 300 stepped"`, `"10 requests per second"` or `"10 in any 1s jitter 50ms"`.
    ///
    /// # Errors
    /// An error that names the byte at which the text stops making sense and, where it can be
    /// understood, what to write instead; or the bound that the limit breaks.
    ///
    /// ```
    /// use tidegate_core::Limit;
    /// assert_eq!(Limit::parse("100 Requests / Min"), Limit::parse("100/min"));
    /// let error = Limit::parse("0.5/s").unwrap_err();
    /// assert_eq!(error.to_string(), "at byte 0: counts are whole numbers; write 1/2s");
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let start = text.len() - text.trim_ascii_start().len();
        let mut reader = Reader { text: text.trim_ascii_end(), at: start };
        let number = reader.number(true, "a count, as in 10/s")?.of(Field::Tokens)?;
        if NOUNS.iter().any(|noun| reader.is_plural(noun)) {
            reader.skip_word();
        }
        if reader.take("/") || reader.take_word("per") {
            return rate(&mut reader, &number);
        }
        if reader.take_word("in") {
            return in_any(&mut reader, number.count()?);
        }
        Err(reader.expected("\"/\", \"per\" or \"in any\", as in 10/s"))
    }
}

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// The canonical text, which parses back to an equal limit.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tokens(), Duration(self.period()))?;
        if self.burst() != self.tokens() {
            write!(f, " burst {}", self.burst())?;
        }
        match self.shape() {
            Shape::Smooth => Ok(()),
            Shape::Stepped if self.burst() == self.tokens() => f.write_str(" window"),
            Shape::Stepped => f.write_str(" stepped"),
        }
    }
}

/// A duration in nanoseconds, whose text is a whole number of the largest unit that divides it.
pub(crate) struct Duration(pub(crate) u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |(_, nanos): &&(&str, u64)| self.0.is_multiple_of(*nanos);
        let (name, nanos) = UNITS.iter().find(divides).copied().unwrap_or(("ns", 1));
        match self.0 / nanos {
            1 => f.write_str(name),
            count => write!(f, "{count}{name}"),
        }
    }
}

fn rate(reader: &mut Reader<'_>, number: &Number) -> Result<Limit, Error> {
    if number.mistake.is_some() {
        let period = reader.duration(Field::Period, true).ok();
        return Err(number.instead_with(period));
    }
    let tokens = number.count()?;
    let period = reader.duration(Field::Period, true)?;
    let mut burst = None;
    // The word of the shape; `true` for "window".
    let mut shape = None;
    loop {
        if reader.is_done() {
            break;
        } else if burst.is_none() && shape != Some(true) && reader.take_word("burst") {
            burst = Some(reader.count(Field::Burst)?);
        } else if shape.is_none() && reader.take_word("stepped") {
            shape = Some(false);
        } else if shape.is_none() && burst.is_none() && reader.take_word("window") {
            shape = Some(true);
        } else {
            return Err(reader.expected_option(
                "\"burst\", \"stepped\" or \"window\", each at most once, \
                 \"window\" without \"burst\", or the end",
            ));
        }
    }
    match shape {
        Some(_) => Limit::stepped(tokens, period, burst.unwrap_or(tokens)),
        None => Limit::smooth(tokens, period, burst.unwrap_or(tokens)),
    }
}

fn in_any(reader: &mut Reader<'_>, count: u64) -> Result<Limit, Error> {
    if !reader.take_word("any") {
        return Err(reader.expected("\"any\""));
    }
    let window = reader.duration(Field::Period, true)?;
    let mut burst = None;
    let mut jitter = None;
    loop {
        if reader.is_done() {
            break;
        } else if burst.is_none() && reader.take_word("burst") {
            burst = Some(reader.count(Field::Burst)?);
        } else if jitter.is_none() && reader.take_word("jitter") {
            jitter = Some(reader.duration(Field::Period, false)?);
        } else {
            return Err(
                reader.expected_option("\"burst\" or \"jitter\", each at most once, or the end")
            );
        }
    }
    Limit::in_any(count, window, jitter.unwrap_or(0), burst.unwrap_or(1))
}

/// A number as the text has it: `numerator / denominator`, and what is wrong with its spelling.
struct Number {
    at: usize,
    numerator: u64,
    denominator: u64,
    mistake: Option<Mistake>,
}

impl Number {
    /// The same number, unless it is zero.
    fn of(self, field: Field) -> Result<Self, Error> {
        if self.numerator == 0 { Err(Error::NotPositive { field }) } else { Ok(self) }
    }

    /// The count, if it is one and spelt as one.
    fn count(&self) -> Result<u64, Error> {
        if self.mistake.is_some() { Err(self.instead_with(None)) } else { Ok(self.numerator) }
    }

    /// The error that says what to write for this misspelt count, or for the rate of this count per
    /// `period`.
    fn instead_with(&self, period: Option<u64>) -> Error {
        let divisor = greatest_common_divisor(self.numerator, self.denominator);
        let (tokens, parts) = (self.numerator / divisor, self.denominator / divisor);
        let period = period.and_then(|period| period.checked_mul(parts)).filter(|&period| {
            Limit::smooth(tokens, period, tokens).is_ok()
                || Limit::stepped(tokens, period, tokens).is_ok()
        });
        let instead = match period {
            Some(period) => Instead::rate(tokens, period),
            None if parts == 1 => Instead::count(tokens),
            None => return Error::Syntax { at: self.at, expected: "a whole number" },
        };
        let mistake = self.mistake.unwrap_or(Mistake::Fraction);
        Error::Spelling { at: self.at, mistake, instead }
    }

    /// This number of units of `nanos` nanoseconds, in nanoseconds.
    fn times(&self, nanos: u64) -> Result<u64, Error> {
        let divisor = greatest_common_divisor(nanos, self.denominator);
        let parts = self.denominator / divisor;
        if !self.numerator.is_multiple_of(parts) {
            return Err(Error::Syntax { at: self.at, expected: "a whole number of nanoseconds" });
        }
        let product = (self.numerator / parts).checked_mul(nanos / divisor);
        product.ok_or(Error::DurationTooLong { at: self.at })
    }
}

const fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    // At least 1, because callers divide by it.
    if one == 0 { 1 } else { one }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_spaces(&mut self) {
        self.at += leading(self.rest(), |byte| byte == b' ');
    }

    fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    /// Whether nothing but spaces is left.
    fn is_done(&mut self) -> bool {
        self.skip_spaces();
        self.at_end()
    }

    fn expected(&self, expected: &'static str) -> Error {
        Error::Syntax { at: self.at, expected }
    }

    /// The error where an option or the end should be. What follows may be another limit.
    fn expected_option(&self, expected: &'static str) -> Error {
        let rest = self.rest();
        let other = match after_separator(rest) {
            Some(other) => other,
            None => rest,
        };
        if other.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            Error::SeveralLimits { at: self.at }
        } else {
            self.expected(expected)
        }
    }

    /// The letters that come next after spaces, without taking them.
    fn word(&mut self) -> &'a str {
        self.skip_spaces();
        let rest = self.rest();
        rest.get(..leading(rest, |byte| byte.is_ascii_alphabetic())).unwrap_or("")
    }

    fn skip_word(&mut self) {
        self.at += self.word().len();
    }

    /// Whether the next word is `singular`, or that and an `s`.
    fn is_plural(&mut self, singular: &str) -> bool {
        is_plural(self.word(), singular)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.word().eq_ignore_ascii_case(word);
        if found {
            self.skip_word();
        }
        found
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn count(&mut self, field: Field) -> Result<u64, Error> {
        self.number(true, "a whole number")?.of(field)?.count()
    }

    /// The byte that is `ahead` bytes further on, or 0.
    fn peek(&self, ahead: usize) -> u8 {
        self.rest().as_bytes().get(ahead).copied().unwrap_or(0)
    }

    /// Reads a number in any spelling that can be understood. With `suffixes`, `k`, `M` and `G` after
    /// it multiply it; after the number of a duration they would be units. A negative number is 0.
    fn number(&mut self, suffixes: bool, expected: &'static str) -> Result<Number, Error> {
        if self.take("-") {
            return Ok(Number { at: self.at, numerator: 0, denominator: 1, mistake: None });
        }
        self.skip_spaces();
        let at = self.at;
        let mut number = Number { at, numerator: 0, denominator: 1, mistake: None };
        if self.peek(0) == b'+' {
            number.mistake = Some(Mistake::Sign);
            self.at += 1;
        }
        let too_large = Error::NumberTooLarge { at };
        if self.peek(0) == b'0' && self.peek(1) | 0x20 == b'x' && self.peek(2).is_ascii_hexdigit() {
            number.mistake = Some(Mistake::Radix);
            self.at += 2;
            let length = leading(self.rest(), |byte| byte.is_ascii_hexdigit());
            let digits = self.rest().get(..length).unwrap_or("");
            self.at += length;
            number.numerator = u64::from_str_radix(digits, 16).map_err(|_| too_large)?;
            return Ok(number);
        }
        let mut is_fraction = false;
        let mut after_digit = false;
        loop {
            let before_digit = self.peek(1).is_ascii_digit();
            match self.peek(0) {
                byte @ b'0'..=b'9' => {
                    let tens = number.numerator.checked_mul(10);
                    let digit = u64::from(byte - b'0');
                    number.numerator =
                        tens.and_then(|tens| tens.checked_add(digit)).ok_or(too_large)?;
                    if is_fraction {
                        number.denominator = number.denominator.checked_mul(10).ok_or(too_large)?;
                    }
                }
                b'_' if after_digit && self.separates_digits() => {}
                b'_' if after_digit => number.mistake = Some(Mistake::Separator),
                b',' if after_digit && self.groups_thousands() => {
                    number.mistake = Some(Mistake::Separator);
                }
                b'.' if before_digit && !is_fraction => {
                    is_fraction = true;
                    number.mistake = Some(Mistake::Fraction);
                }
                b'.' => return Err(self.expected("a whole number, without a fraction")),
                _ => break,
            }
            after_digit |= self.peek(0).is_ascii_digit();
            self.at += 1;
        }
        if !after_digit {
            self.at = at;
            return Err(self.expected(expected));
        }
        if let Some(zeros) = self.take_exponent(suffixes) {
            number.mistake = Some(Mistake::Digits);
            let power = 10_u64.checked_pow(zeros).ok_or(too_large)?;
            number.numerator = number.numerator.checked_mul(power).ok_or(too_large)?;
        }
        Ok(number)
    }

    /// Whether the `_` that come next are followed by a digit.
    fn separates_digits(&self) -> bool {
        self.peek(leading(self.rest(), |byte| byte == b'_')).is_ascii_digit()
    }

    /// Whether a comma is followed by three digits and no more.
    fn groups_thousands(&self) -> bool {
        let digits = leading(self.rest().get(1..).unwrap_or(""), |byte| byte.is_ascii_digit());
        digits == 3
    }

    /// Takes `e3`, or with `suffixes` also `k`, `M` or `G`, directly after a number; the zeros that it
    /// stands for.
    fn take_exponent(&mut self, suffixes: bool) -> Option<u32> {
        let digits = leading(self.rest().get(1..).unwrap_or(""), |byte| byte.is_ascii_digit());
        if self.peek(0) | 0x20 == b'e' && digits > 0 {
            let zeros = self.rest().get(1..=digits).and_then(|digits| digits.parse().ok());
            self.at += 1 + digits;
            return Some(zeros.unwrap_or(u32::MAX));
        }
        let zeros = match self.peek(0) {
            _ if !suffixes || self.peek(1).is_ascii_alphanumeric() => return None,
            b'k' | b'K' => 3,
            b'M' => 6,
            b'G' => 9,
            _ => return None,
        };
        self.at += 1;
        Some(zeros)
    }

    /// A number and a unit. If `positive`, the number must be, and may be left out for one unit.
    fn duration(&mut self, field: Field, positive: bool) -> Result<u64, Error> {
        self.skip_spaces();
        let at = self.at;
        let one = Number { at, numerator: 1, denominator: 1, mistake: None };
        let first = match self.peek(0) {
            byte if byte.is_ascii_alphabetic() && positive => one,
            b'-' => return Err(Error::NotPositive { field }),
            _ if positive => self.number(false, EXPECTED_UNIT)?.of(field)?,
            _ => self.number(false, "a whole number and a unit of time")?,
        };
        let (unit, mistake_of_unit) = self.unit()?;
        let mut mistake = mistake_of_unit.or(first.mistake);
        let mut nanos = first.times(unit)?;
        while let Some((number, unit)) = self.take_further_part() {
            mistake = Some(Mistake::SeveralUnits);
            let sum = nanos.checked_add(number.times(unit)?);
            nanos = sum.ok_or(Error::DurationTooLong { at })?;
        }
        match mistake {
            Some(mistake) => {
                Err(Error::Spelling { at, mistake, instead: Instead::duration(nanos) })
            }
            None => Ok(nanos),
        }
    }

    /// A unit of time, in nanoseconds, and what is wrong with it.
    fn unit(&mut self) -> Result<(u64, Option<Mistake>), Error> {
        let word = self.word();
        if word.is_empty() {
            return Err(self.expected(EXPECTED_UNIT));
        }
        let unit = unit_of(word).ok_or(Error::UnknownUnit { at: self.at })?;
        self.skip_word();
        Ok(unit)
    }

    /// Takes a further part of a duration such as `1h30m`: its number, and its unit in nanoseconds.
    fn take_further_part(&mut self) -> Option<(Number, u64)> {
        let start = self.at;
        let number = self.number(false, "").ok();
        let part = number.and_then(|number| Some((number, unit_of(self.word())?.0)));
        match part {
            Some(_) => self.skip_word(),
            None => self.at = start,
        }
        part
    }
}

/// What separates limits in the texts of other limiters.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b';' | b',' | b'&' | b'+' | b'|' | b'\n' | b'\r')
}

/// The text after what may separate two limits, if it begins so.
fn after_separator(text: &str) -> Option<&str> {
    let length = match leading(text, is_separator) {
        0 if text.get(..4)?.eq_ignore_ascii_case("and ") => 4,
        0 => return None,
        length => length,
    };
    text.get(length..).map(str::trim_ascii_start)
}

/// The limits of a text that holds several, where the second begins after byte `at`.
pub(crate) fn limits_of(text: &str, at: usize) -> impl Iterator<Item = &str> {
    let (first, rest) = text.split_at_checked(at).unwrap_or((text, ""));
    let rest = after_separator(rest).unwrap_or(rest);
    let is_separator = |of: char| u8::try_from(of).is_ok_and(is_separator);
    let limits = core::iter::once(first).chain(rest.split(is_separator));
    limits.map(str::trim_ascii).filter(|limit| !limit.is_empty())
}

/// The long names of the units in the singular, in nanoseconds, and why a unit should be written
/// differently.
const LONG_UNITS: [(&str, u64, Option<Mistake>); 15] = [
    ("sec", NANOS_PER_SECOND, None),
    ("second", NANOS_PER_SECOND, None),
    ("min", MINUTE, None),
    ("minute", MINUTE, None),
    ("hr", HOUR, None),
    ("hour", HOUR, None),
    ("day", DAY, None),
    ("week", WEEK, None),
    ("nanosecond", 1, None),
    ("microsecond", 1_000, None),
    ("millisecond", 1_000_000, None),
    ("mo", 30 * DAY, Some(Mistake::Month)),
    ("month", 30 * DAY, Some(Mistake::Month)),
    ("yr", 365 * DAY, Some(Mistake::Year)),
    ("year", 365 * DAY, Some(Mistake::Year)),
];

/// The unit that a word names, in nanoseconds, and why it should be written differently.
fn unit_of(word: &str) -> Option<(u64, Option<Mistake>)> {
    match word {
        "M" => return Some((MINUTE, Some(Mistake::MinuteOrMonth))),
        "m" => return Some((MINUTE, None)),
        _ => {}
    }
    let short = UNITS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let long = || LONG_UNITS.iter().find(|(name, ..)| is_plural(word, name));
    match short {
        Some(&(_, nanos)) => Some((nanos, None)),
        None => long().map(|&(_, nanos, mistake)| (nanos, mistake)),
    }
}

/// Whether `word` is `singular`, or that and an `s`, in letters of either case.
fn is_plural(word: &str, singular: &str) -> bool {
    let has_s =
        word.len() == singular.len() + 1 && matches!(word.as_bytes().last(), Some(b's' | b'S'));
    let stem = if has_s { word.get(..singular.len()).unwrap_or(word) } else { word };
    stem.eq_ignore_ascii_case(singular)
}

fn leading(text: &str, matches: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&byte| matches(byte)).count()
}
