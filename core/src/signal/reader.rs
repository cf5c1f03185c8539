//! Reads headers and body fields one by one, in any order.

use super::fields::{
    Number, Time, items, milliseconds, strip_prefix, strip_suffix, time, trim, without_parameters,
};
use super::profile::{Meaning, Profile, Row, Unit};
use super::profiles::{MESSAGE, STANDARD_BODY, USUAL};
use super::reasons::reason;
use super::windows::{Rank, Times, Windows};
use super::{HoldScope, SignalKind, dates, structured};

/// Reads a response's headers and body fields one by one, in any order, for the [`Signal`] that they
/// amount to. It allocates nothing, and no input makes it panic.
///
/// ```
/// use tidegate_core::{DEFAULT_MAX_HOLD, HoldScope, Profile, SignalReader};
/// let discord = Profile::named("discord").unwrap();
/// let mut reader = SignalReader::new(429, discord);
/// reader.header(b"X-RateLimit-Bucket", b"abcd1234");
/// reader.body(b"retry_after", b"0.75");
/// let signal = reader.finish(0, DEFAULT_MAX_HOLD);
/// assert_eq!((signal.hold, signal.scope), (750_000_000, HoldScope::Bucket));
/// assert_eq!(signal.bucket, b"abcd1234");
/// ```
///
/// [`Signal`]: super::Signal
#[derive(Clone, Debug)]
pub struct SignalReader<'a> {
    pub(super) status: u16,
    pub(super) profile: &'a Profile<'a>,
    /// The time at which the response was made, in nanoseconds since 1970.
    pub(super) date: Option<u64>,
    /// For how long it has been in a cache, in nanoseconds.
    pub(super) age: Option<u64>,
    /// gRPC's wait, which goes before all others.
    pub(super) pushback: Times<'a>,
    /// Waits in milliseconds, which go before `Retry-After`.
    pub(super) precise: Times<'a>,
    pub(super) retry_after: Times<'a>,
    /// Waits under names of the vendor.
    pub(super) vendor: Times<'a>,
    pub(super) windows: Windows<'a>,
    pub(super) bucket: &'a [u8],
    pub(super) violated: &'a [u8],
    pub(super) should_retry: Option<bool>,
    pub(super) kind: Option<SignalKind>,
    pub(super) scope: Option<HoldScope>,
}

impl<'a> SignalReader<'a> {
    /// A reader of a response with the given status; 0 stands for an unknown one.
    pub const fn new(status: u16, profile: &'a Profile<'a>) -> Self {
        const NONE: Times<'_> = Times::none();
        Self {
            status,
            profile,
            date: None,
            age: None,
            pushback: NONE,
            precise: NONE,
            retry_after: NONE,
            vendor: NONE,
            windows: Windows::new(),
            bucket: b"",
            violated: b"",
            should_retry: None,
            kind: None,
            scope: None,
        }
    }

    /// Reads a header. Its name is compared without case. One that means nothing is ignored, and so is
    /// a value that cannot be read.
    pub fn header(&mut self, name: &'a [u8], value: &'a [u8]) {
        let is_it = |row: &&Row<'_>| row.header.as_bytes().eq_ignore_ascii_case(name);
        let source = core::str::from_utf8(name).unwrap_or_default();
        if let Some(row) = self.profile.rows.iter().find(is_it) {
            self.take(Rank::Profile, row, source, value);
        } else if let Some(suffix) = usual_suffix(name) {
            self.take_usual(suffix, source, value);
        } else if let Some((_, header)) =
            STANDARD.iter().find(|(standard, _)| standard.as_bytes().eq_ignore_ascii_case(name))
        {
            self.take_standard(*header, source, value);
        }
    }

    /// Reads a field of the body: its path, which is its name after those of the objects that it is
    /// in, with dots; and its value, a number or a text. The elements of a list have the path of the
    /// list, and `[]` stands for a list that is the whole body. What is no limit is ignored.
    pub fn body(&mut self, path: &'a [u8], value: &'a [u8]) {
        let source = core::str::from_utf8(path).unwrap_or_default();
        let is_it = |row: &&Row<'_>| is_field(row.header.as_bytes(), path);
        if let Some(row) = self.profile.rows.iter().find(is_it) {
            self.take(Rank::Profile, row, source, value);
        } else if let Some(row) = STANDARD_BODY.iter().find(is_it)
            && (row.meaning != Meaning::Reason || self.is_refusal(row, path, value))
        {
            self.take(Rank::Usual, row, source, value);
        }
    }

    /// Whether a field of the body, which the profile does not know, tells a kind of refusal. A success
    /// carries what was asked for, such as a list of jobs with their errors, so its words count only
    /// where APIs put the error of the call itself. A text may quote what the call sent, so it counts
    /// only with the statuses of GitHub's secondary limit.
    fn is_refusal(&self, row: &Row<'_>, path: &[u8], value: &[u8]) -> bool {
        let is_text = row.header == MESSAGE || trim(value).contains(&b' ');
        let counts = if is_text {
            matches!(self.status, 403 | 429)
        } else {
            self.status >= 400 || is_error_of_call(path)
        };
        counts && matches!(reason(value), Some((Some(_), _)))
    }

    /// Reads one of the names with `RateLimit`, which so many vendors use, without that prefix.
    fn take_usual(&mut self, suffix: &'a [u8], source: &'a str, value: &'a [u8]) {
        if suffix.is_empty() || suffix.eq_ignore_ascii_case(b"-policy") {
            self.take_structured(source, value);
            return;
        }
        let is_time = |row: &Row<'_>| matches!(row.meaning, Meaning::Reset | Meaning::RetryAfter);
        let in_milliseconds = || {
            let (row, group) = usual_row(strip_suffix(suffix, b"-ms")?)?;
            is_time(row).then_some((row.unit(milliseconds(value)), group))
        };
        let as_it_is = || usual_row(suffix).map(|(row, group)| (*row, group));
        if let Some((row, group)) = in_milliseconds().or_else(as_it_is) {
            self.take_in_group(Rank::Usual, &row, group, source, value);
        }
    }

    fn take(&mut self, rank: Rank, row: &Row<'a>, source: &'a str, value: &'a [u8]) {
        self.take_in_group(rank, row, row.group.as_bytes(), source, value);
    }

    fn take_in_group(
        &mut self,
        rank: Rank,
        row: &Row<'_>,
        group: &'a [u8],
        source: &'a str,
        value: &'a [u8],
    ) {
        let text = trim(value);
        match row.meaning {
            Meaning::RetryAfter => add_times(&mut self.vendor, source, value, row.unit),
            Meaning::Bucket if self.bucket.is_empty() => self.bucket = text,
            Meaning::Bucket => {}
            Meaning::Violated if self.violated.is_empty() => self.violated = text,
            Meaning::Violated => {}
            Meaning::Global if text.eq_ignore_ascii_case(b"true") => {
                self.scope = Some(HoldScope::Credential);
            }
            Meaning::Global => {}
            Meaning::Reason => self.take_reason(text),
            Meaning::ShouldRetry => self.take_should_retry(text),
            Meaning::Limit
            | Meaning::Remaining
            | Meaning::Reset
            | Meaning::Window
            | Meaning::UsedOfLimit
            | Meaning::Cost
            | Meaning::RestoreRate => self.take_window(rank, row, group, source, value),
        }
    }

    fn take_window(
        &mut self,
        rank: Rank,
        row: &Row<'_>,
        group: &'a [u8],
        source: &'a str,
        value: &'a [u8],
    ) {
        for item in items(value) {
            let (bare, length) = without_parameters(item);
            let time = time(bare, row.unit);
            let number = Number::parse(bare);
            let used = || {
                let slash = bare.iter().position(|&byte| byte == b'/')?;
                let (used, limit) = bare.split_at_checked(slash)?;
                Some((Number::parse(trim(used))?, Number::parse(trim(limit.get(1..)?))?))
            };
            let is_window = matches!(row.meaning, Meaning::Reset | Meaning::Window);
            let is_used = row.meaning == Meaning::UsedOfLimit;
            if (is_window && time.is_none()) || (!is_window && !is_used && number.is_none()) {
                continue;
            }
            let count = number.map_or(0, |number| number.floor());
            if is_used && used().is_none() {
                continue;
            }
            let Some(window) = self.windows.entry(rank, group) else { return };
            match (row.meaning, time) {
                (Meaning::Reset, Some(time)) => window.reset.add(time, source),
                (Meaning::Window, Some(Time::After(nanos))) => window.add_length(nanos),
                (Meaning::Limit, _) => window.add_limit(count, length),
                (Meaning::Remaining, _) => window.add_remaining(count, source),
                (Meaning::Cost, _) => window.cost = window.cost.max(Some(count)),
                (Meaning::RestoreRate, _) => window.restore_rate = Some(count),
                _ => {}
            }
            if let (true, Some((used, limit))) = (is_used, used()) {
                window.add_used(used, limit, source);
            }
        }
    }

    fn take_structured(&mut self, source: &'a str, value: &'a [u8]) {
        structured::read(value, |parameter| {
            let Some(window) = self.windows.entry(Rank::Standard, parameter.policy) else { return };
            let number = parameter.number;
            match parameter.name {
                b"r" | b"remaining" => window.add_remaining(number.floor(), source),
                b"t" | b"reset" => window.reset.add(Time::After(number.shifted(9)), source),
                b"q" | b"limit" => window.add_limit(number.floor(), None),
                b"w" => window.add_length(number.shifted(9)),
                _ => {}
            }
        });
    }

    fn take_standard(&mut self, header: Standard, source: &'a str, value: &'a [u8]) {
        let text = trim(value);
        match header {
            Standard::Date => self.date = self.date.or_else(|| items(value).find_map(dates::parse)),
            Standard::Age => {
                let number = items(value).find_map(Number::parse);
                self.age = self.age.or_else(|| Some(number?.shifted(9)));
            }
            Standard::Pushback => {
                match Number::parse(text).filter(|number| !number.is_negative()) {
                    Some(number) => self.pushback.add(Time::After(number.shifted(6)), source),
                    None => self.should_retry = Some(false),
                }
            }
            Standard::Milliseconds => {
                add_times(&mut self.precise, source, value, Unit::Milliseconds);
            }
            Standard::RetryAfter => add_times(&mut self.retry_after, source, value, Unit::Auto),
            Standard::ShouldRetry => self.take_should_retry(text),
        }
    }

    fn take_reason(&mut self, text: &[u8]) {
        if let Some((kind, scope)) = reason(text) {
            self.kind = kind.or(self.kind);
            self.scope = scope.or(self.scope);
        }
    }

    /// A vendor that says once that the call should not be made again means it.
    fn take_should_retry(&mut self, text: &[u8]) {
        if text.eq_ignore_ascii_case(b"false") {
            self.should_retry = Some(false);
        } else if text.eq_ignore_ascii_case(b"true") {
            self.should_retry = self.should_retry.or(Some(true));
        }
    }
}

/// The headers that mean the same everywhere.
#[derive(Clone, Copy)]
enum Standard {
    Date,
    Age,
    Pushback,
    Milliseconds,
    RetryAfter,
    ShouldRetry,
}

const STANDARD: &[(&str, Standard)] = &[
    ("date", Standard::Date),
    ("age", Standard::Age),
    ("retry-after", Standard::RetryAfter),
    ("retry-after-ms", Standard::Milliseconds),
    ("x-ms-retry-after-ms", Standard::Milliseconds),
    ("x-amz-retry-after", Standard::Milliseconds),
    ("x-should-retry", Standard::ShouldRetry),
    ("grpc-retry-pushback-ms", Standard::Pushback),
];

/// What follows `RateLimit` in a name, in any of its spellings.
fn usual_suffix(name: &[u8]) -> Option<&[u8]> {
    let name = strip_prefix(name, b"x-").unwrap_or(name);
    strip_prefix(name, b"ratelimit").or_else(|| strip_prefix(name, b"rate-limit"))
}

/// The meaning of a usual name after its prefix, and the name of the limit in it.
fn usual_row(suffix: &[u8]) -> Option<(&'static Row<'static>, &[u8])> {
    let found = USUAL.iter().find_map(|row| {
        let rest = strip_prefix(suffix, row.header.as_bytes())?;
        let group = match rest {
            [] => rest,
            [b'-', group @ ..] => group,
            _ => return None,
        };
        (group.is_empty() || row.group.is_empty()).then_some((row, group))
    });
    let by_group = || {
        // Some put the limit's name first: `X-RateLimit-Requests-Reset`.
        let end = suffix.iter().rposition(|&byte| byte == b'-')?;
        let (group, last) = suffix.split_at_checked(end)?;
        let row = USUAL
            .iter()
            .find(|row| row.group.is_empty() && row.header.as_bytes().eq_ignore_ascii_case(last))?;
        Some((row, group.strip_prefix(b"-")?))
    };
    found.or_else(by_group)
}

/// Whether the row is about the field of this path, or of one that ends with the row's.
fn is_field(row: &[u8], path: &[u8]) -> bool {
    let Some(wanted) = row.strip_prefix(b"body.") else { return false };
    let Some(start) = path.len().checked_sub(wanted.len()) else { return false };
    let (before, end) = path.split_at(start);
    end.eq_ignore_ascii_case(wanted) && matches!(before, [] | [.., b'.'])
}

/// Whether APIs that answer errors with the status of a success put the error of the call here:
/// `error`, or a field of `error`, of `errors` or of GraphQL's `errors.extensions`.
fn is_error_of_call(path: &[u8]) -> bool {
    let end = path.iter().rposition(|&byte| byte == b'.').unwrap_or(path.len());
    let place = path.get(..end).unwrap_or(path);
    let places: [&[u8]; 3] = [b"error", b"errors", b"errors.extensions"];
    places.iter().any(|known| known.eq_ignore_ascii_case(place))
}

fn add_times<'a>(times: &mut Times<'a>, source: &'a str, value: &[u8], unit: Unit) {
    for item in items(value) {
        if let Some(time) = time(without_parameters(item).0, unit) {
            times.add(time, source);
        }
    }
}
