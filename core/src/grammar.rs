//! The text form of limits: one grammar for every language and for Envoy.
//!
//! ```text
//! any      = limit | "unlimited" | "none"         read by `AnyLimit`
//! limit    = count "/" [count] unit option*      10/s   1_000/15min
//!          | count "in any" count unit option*   10 in any 1s
//! option   = "burst" count                       default: the count per period; 1 for "in any"
//!          | "stepped" | "window"                 refill at once, on multiples of the period
//!          | "jitter" count unit                  only with "in any"
//! unit     = ns | us | ms | s | m | h | d | w, or sec, second(s), min, minute(s),
//!            hr, hour(s), day(s), week(s)
//! count    = digits, with "_" between them where it helps
//! ```
//!
//! Words are separated by spaces; around "/" spaces are free.

use core::{fmt, str::FromStr};

use crate::bounds::NANOS_PER_SECOND;
use crate::error::{Error, Field};
use crate::limit::{Limit, Shape};

const MINUTE: u64 = 60 * NANOS_PER_SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

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

impl Limit {
    /// Reads the text form, such as `"10/s"`, `"100/min burst 20"`, `"5000/h window"`,
    /// `"100/min burst 300 stepped"` or `"10 in any 1s jitter 50ms"`.
    ///
    /// # Errors
    /// An error that names the byte at which the text stops making sense, or the bound that the limit
    /// breaks.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut reader = Reader { text, at: 0 };
        let count = reader.count(Field::Tokens)?;
        if reader.take("/") {
            rate(&mut reader, count)
        } else if reader.word() == "in" {
            reader.skip_word();
            in_any(&mut reader, count)
        } else {
            Err(reader.expected("\"/\" or \"in any\""))
        }
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
        let (count, unit) = largest_unit(self.period());
        write!(f, "{}/", self.tokens())?;
        if count != 1 {
            write!(f, "{count}")?;
        }
        f.write_str(unit)?;
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

/// A period as a whole number of the largest unit that divides it.
fn largest_unit(period: u64) -> (u64, &'static str) {
    for (name, nanos) in UNITS {
        if period.is_multiple_of(nanos) {
            return (period / nanos, name);
        }
    }
    (period, "ns")
}

fn rate(reader: &mut Reader<'_>, tokens: u64) -> Result<Limit, Error> {
    let period = reader.duration(Field::Period, true)?;
    let mut burst = None;
    let mut shape = None;
    loop {
        match reader.word() {
            "" if reader.at_end() => break,
            "burst" if burst.is_none() && shape != Some("window") => {
                reader.skip_word();
                burst = Some(reader.count(Field::Burst)?);
            }
            word @ "stepped" if shape.is_none() => {
                shape = Some(word);
                reader.skip_word();
            }
            word @ "window" if shape.is_none() && burst.is_none() => {
                shape = Some(word);
                reader.skip_word();
            }
            _ => {
                return Err(reader.expected(
                    "\"burst\", \"stepped\" or \"window\", each at most once, \
                     \"window\" without \"burst\", or the end",
                ));
            }
        }
    }
    match shape {
        Some(_) => Limit::stepped(tokens, period, burst.unwrap_or(tokens)),
        None => Limit::smooth(tokens, period, burst.unwrap_or(tokens)),
    }
}

fn in_any(reader: &mut Reader<'_>, count: u64) -> Result<Limit, Error> {
    if reader.word() != "any" {
        return Err(reader.expected("\"any\""));
    }
    reader.skip_word();
    let window = reader.duration(Field::Period, true)?;
    let mut burst = None;
    let mut jitter = None;
    loop {
        match reader.word() {
            "" if reader.at_end() => break,
            "burst" if burst.is_none() => {
                reader.skip_word();
                burst = Some(reader.count(Field::Burst)?);
            }
            "jitter" if jitter.is_none() => {
                reader.skip_word();
                jitter = Some(reader.duration(Field::Period, false)?);
            }
            _ => {
                return Err(
                    reader.expected("\"burst\" or \"jitter\", each at most once, or the end")
                );
            }
        }
    }
    Limit::in_any(count, window, jitter.unwrap_or(0), burst.unwrap_or(1))
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

    fn expected(&self, expected: &'static str) -> Error {
        Error::Syntax { at: self.at, expected }
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

    fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn count(&mut self, field: Field) -> Result<u64, Error> {
        if self.take("-") {
            return Err(Error::NotPositive { field });
        }
        let start = self.at;
        let mut value: u64 = 0;
        for byte in self.rest().bytes() {
            match byte {
                b'0'..=b'9' => {
                    value = value
                        .checked_mul(10)
                        .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                        .ok_or(Error::NumberTooLarge { at: start })?;
                }
                b'_' if self.at > start => {}
                b'.' => return Err(self.expected("a whole number, without a fraction")),
                _ => break,
            }
            self.at += 1;
        }
        match self.at - start {
            0 => Err(self.expected("a whole number")),
            _ if value == 0 => Err(Error::NotPositive { field }),
            _ => Ok(value),
        }
    }

    /// A number and a unit. If `positive`, the number must be, and may be left out for one unit.
    fn duration(&mut self, field: Field, positive: bool) -> Result<u64, Error> {
        self.skip_spaces();
        let start = self.at;
        let count = match self.rest().as_bytes() {
            [byte, ..] if byte.is_ascii_alphabetic() && positive => 1,
            [b'-', ..] => return Err(Error::NotPositive { field }),
            _ => match self.count(field) {
                Err(Error::NotPositive { .. }) if !positive => 0,
                count => count?,
            },
        };
        let unit = self.word();
        let nanos = match unit {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" | "sec" | "second" | "seconds" => NANOS_PER_SECOND,
            "m" | "min" | "minute" | "minutes" => MINUTE,
            "h" | "hr" | "hour" | "hours" => HOUR,
            "d" | "day" | "days" => DAY,
            "w" | "week" | "weeks" => WEEK,
            "" => return Err(self.expected("a unit of time: ns, us, ms, s, min, h, d or w")),
            _ => return Err(Error::UnknownUnit { at: self.at }),
        };
        self.skip_word();
        count.checked_mul(nanos).ok_or(Error::NumberTooLarge { at: start })
    }
}

fn leading(text: &str, matches: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&byte| matches(byte)).count()
}
