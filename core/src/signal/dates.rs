//! Dates in the forms that vendors write: RFC 3339 and ISO 8601, and all those with the month's name
//! (IMF-fixdate, RFC 850, asctime, and what JavaScript's `Date` prints).

use super::SECOND;
use super::fields::{Number, strip_prefix};

/// The date that is all of the text, in nanoseconds since 1970: 0 for an earlier one, the largest
/// number for one that is later than numbers can say (the year 2554).
pub(super) fn parse(text: &[u8]) -> Option<u64> {
    let date = match text {
        [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|it| it.is_ascii_digit()) => iso(text)?,
        _ => with_month_name(text)?,
    };
    date.nanos()
}

/// A date and a time of day, as they are written.
#[derive(Default)]
struct Date {
    year: u32,
    month: u32,
    day: u32,
    /// The seconds since midnight, as they are written.
    seconds: u32,
    /// The part of a second, in nanoseconds.
    nanos: u32,
    /// By how many seconds the time is ahead of UTC.
    ahead: i32,
}

impl Date {
    fn nanos(&self) -> Option<u64> {
        let is_leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            2 => 28 + u32::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&self.day) || !(1..=9_999).contains(&self.year) {
            return None;
        }
        let days =
            days_since_1970(i64::from(self.year), i64::from(self.month), i64::from(self.day));
        let seconds = days * 86_400 + i64::from(self.seconds) - i64::from(self.ahead);
        let Ok(seconds) = u64::try_from(seconds) else { return Some(0) };
        Some(seconds.saturating_mul(SECOND).saturating_add(u64::from(self.nanos)))
    }
}

/// Counts days of the proleptic Gregorian calendar, with years that begin in March so that the leap
/// day is the last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let before_year = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before_year + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Reads `2026-01-01T10:00Z` with or without seconds, a fraction and a zone. Without one it is UTC.
fn iso(text: &[u8]) -> Option<Date> {
    let mut date = Date::default();
    let (year, rest) = digits(text, 4, 4)?;
    let (month, rest) = digits(rest.strip_prefix(b"-")?, 2, 2)?;
    let (day, rest) = digits(rest.strip_prefix(b"-")?, 2, 2)?;
    (date.year, date.month, date.day) = (year, month, day);
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let rest = date.read_time(rest)?.trim_ascii();
    if rest.is_empty() {
        return Some(date);
    }
    date.read_zone(rest)?.is_empty().then_some(date)
}

/// Reads a date with the month's name: the day of the month, the year and the time may come in any
/// order, as they do in the forms that are in use.
fn with_month_name(text: &[u8]) -> Option<Date> {
    let mut date = Date::default();
    let (mut has_time, mut has_year) = (false, false);
    let mut rest = text;
    loop {
        rest = skip_separators(rest, !has_time);
        let Some(first) = rest.first() else { break };
        if *first == b'(' {
            // JavaScript names the zone at the end.
            return (rest.ends_with(b")") && has_time).then_some(date).filter(|_| has_year);
        }
        if first.is_ascii_digit() {
            let (number, after) = digits(rest, 1, 4)?;
            let length = rest.len() - after.len();
            if after.first() == Some(&b':') && !has_time {
                rest = date.read_time(rest)?;
                has_time = true;
                continue;
            }
            match length {
                4 if !has_year => (date.year, has_year) = (number, true),
                1 | 2 if date.day == 0 => date.day = number,
                // RFC 850 has two digits.
                2 if !has_year => {
                    let century = if number < 70 { 2_000 } else { 1_900 };
                    (date.year, has_year) = (century + number, true);
                }
                _ => return None,
            }
            rest = after;
        } else if has_time {
            rest = date.read_zone(rest)?;
        } else {
            let end = rest.iter().position(|it| !it.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            match month(word) {
                Some(month) if date.month == 0 => date.month = month,
                _ if rest.len() == text.len() && is_day(word) => {}
                _ => return None,
            }
            rest = after;
        }
    }
    (has_time && has_year).then_some(date)
}

impl Date {
    /// Reads `10:00`, `10:00:00` or `10:00:00.5`, and answers what follows.
    fn read_time<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let (hour, rest) = digits(text, 1, 2)?;
        let (minute, mut rest) = digits(rest.strip_prefix(b":")?, 2, 2)?;
        let mut second = 0;
        if let Some(after) = rest.strip_prefix(b":") {
            (second, rest) = digits(after, 2, 2)?;
            if rest.first() == Some(&b'.') {
                let (number, after) = fraction(rest)?;
                self.nanos = number;
                rest = after;
            }
        }
        // 60 is a leap second.
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        self.seconds = hour * 3_600 + minute * 60 + second;
        Some(rest)
    }

    /// Reads `Z`, `GMT`, `UTC`, `UT`, an offset such as `+01:00`, or `GMT` and an offset, and answers
    /// what follows.
    fn read_zone<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let names: [&[u8]; 4] = [b"GMT", b"UTC", b"UT", b"Z"];
        let named = names.iter().find_map(|name| strip_prefix(text, name));
        let rest = named.unwrap_or(text);
        let (sign, rest) = match rest {
            [b'+', rest @ ..] => (1, rest),
            [b'-', rest @ ..] => (-1, rest),
            _ => return named,
        };
        // Hours and minutes may come without a colon.
        let (hours, rest) = rest.split_at_checked(2)?;
        let (hours, _) = digits(hours, 2, 2)?;
        let (minutes, rest) = digits(rest.strip_prefix(b":").unwrap_or(rest), 2, 2)?;
        if hours > 23 || minutes > 59 {
            return None;
        }
        self.ahead = sign * i32::try_from(hours * 3_600 + minutes * 60).ok()?;
        Some(rest)
    }
}

/// The fraction of a second that begins with its point, in nanoseconds, cut after nine digits.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.get(1..)?;
    let end = digits.iter().position(|it| !it.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let padded = digits.iter().copied().chain(core::iter::repeat(b'0')).take(9);
    Some((padded.fold(0, |number, digit| number * 10 + u32::from(digit - b'0')), rest))
}

/// Reads the digits at the start, of which there must be so many.
fn digits(text: &[u8], least: usize, most: usize) -> Option<(u32, &[u8])> {
    let end = text.iter().position(|it| !it.is_ascii_digit()).unwrap_or(text.len());
    if !(least..=most).contains(&end) {
        return None;
    }
    let (digits, rest) = text.split_at(end);
    Some((u32::try_from(Number::parse(digits)?.floor()).ok()?, rest))
}

fn month(word: &[u8]) -> Option<u32> {
    const MONTHS: &[u8] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let found = MONTHS.chunks(3).position(|month| month.eq_ignore_ascii_case(word))?;
    u32::try_from(found + 1).ok()
}

fn is_day(word: &[u8]) -> bool {
    const DAYS: &[u8] = b"montuewedthufrisatsun";
    word.get(..3).is_some_and(|start| DAYS.chunks(3).any(|day| day.eq_ignore_ascii_case(start)))
}

fn skip_separators(text: &[u8], skips_hyphen: bool) -> &[u8] {
    let is_separator = |it: &u8| matches!(it, b' ' | b'\t' | b',');
    let start = text.iter().position(|it| !is_separator(it)).unwrap_or(text.len());
    let rest = text.get(start..).unwrap_or_default();
    // RFC 850 has hyphens between day, month and year. After the time it is the sign of a zone.
    match rest {
        [b'-', after @ ..] if skips_hyphen && start == 0 => after,
        _ => rest,
    }
}
