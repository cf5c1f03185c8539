//! The messages of `envoy.service.ratelimit.v3`: those fields that the filter uses.

use tidegate_core::MAX_KEY;

use crate::config::MAX_NAME;
use crate::cost::Costs;
use crate::descriptors::{Descriptors, MAX_DESCRIPTORS, MAX_ENTRIES};
use crate::protobuf::{Fields, Malformed, Message, Value, field_size, varint_size};
use crate::request_keys::RequestKeys;

pub(crate) const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
pub(crate) const METHOD: &str = "ShouldRateLimit";

/// Whether a gRPC status says that something is wrong with the request, or with the bucket of its key,
/// and not with the service: `INVALID_ARGUMENT`, `NOT_FOUND`, `ALREADY_EXISTS`, `FAILED_PRECONDITION`,
/// `OUT_OF_RANGE` and `DATA_LOSS`.
pub(crate) fn is_about_the_request(status: u32) -> bool {
    matches!(status, 3 | 5 | 6 | 9 | 11 | 15)
}

/// The longest request: each of its texts at its bound, and at most 24 bytes around an entry.
pub(crate) const MAX_REQUEST: usize =
    MAX_NAME + MAX_ENTRIES * (MAX_NAME + MAX_KEY + 24) + MAX_DESCRIPTORS * 24 + 24;

/// Writes a `RateLimitRequest` for those descriptors of a request that `asked` has a bit for, which take
/// these costs, or without hits; returns `None` when it does not fit.
pub(crate) fn request<'b>(
    room: &'b mut [u8],
    domain: &[u8],
    descriptors: &Descriptors,
    asked: u8,
    keys: &RequestKeys<'_>,
    costs: Option<&Costs>,
) -> Option<&'b [u8]> {
    let asked = keys.applying(descriptors).filter(|(place, _)| asked >> place & 1 == 1);
    let cost_of = |place: usize| costs?.get(place).copied();
    let mut asked_costs = asked.clone().filter_map(|(place, _)| cost_of(place));
    // Every service knows the cost of a whole request, and not every one that of a descriptor.
    let first = asked_costs.next();
    let is_same = asked_costs.all(|cost| Some(cost) == first);
    let mut message = Message::new(room);
    message.bytes(1, domain)?;
    for (place, descriptor) in asked {
        let cost = u64::from(cost_of(place).unwrap_or(1));
        let entries = keys.entries(descriptors, descriptor);
        let sizes = entries.clone().map(|(key, value)| field_size(entry_size(key, value)));
        let hits = if is_same { 0 } else { field_size(1 + varint_size(cost)) };
        message.begin(2, sizes.sum::<usize>() + hits)?;
        for (key, value) in entries {
            message.begin(1, entry_size(key, value))?;
            message.bytes(1, key)?;
            message.bytes(2, value)?;
        }
        if !is_same {
            // `hits_addend`, a `UInt64Value`.
            message.begin(3, 1 + varint_size(cost))?;
            message.number(1, cost)?;
        }
    }
    if costs.is_some() {
        message.number(3, first.filter(|_| is_same).map_or(1, u64::from))?;
    }
    Some(message.finish())
}

/// The difference between what a request was charged and what it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Correction {
    pub(crate) hits: u32,
    /// Whether the hits are given back.
    pub(crate) is_credit: bool,
}

/// Writes a request that was kept without hits again, with a correction for each of its descriptors in turn;
/// those of 0 hits are left out. Returns `None` when it does not fit, or nothing is left.
pub(crate) fn correction<'b>(
    room: &'b mut [u8],
    kept: &[u8],
    corrections: impl IntoIterator<Item = Correction>,
) -> Option<&'b [u8]> {
    let mut message = Message::new(room);
    let mut corrections = corrections.into_iter();
    let mut fields = Fields::new(kept);
    let mut is_empty = true;
    while let Some((field, Value::Bytes(bytes))) = fields.next().ok()? {
        if field != 2 {
            message.bytes(field, bytes)?;
            continue;
        }
        let Correction { hits, is_credit } = corrections.next()?;
        if hits == 0 {
            continue;
        }
        is_empty = false;
        let hits = u64::from(hits);
        let addend = 1 + varint_size(hits);
        message.begin(2, bytes.len() + field_size(addend) + if is_credit { 2 } else { 0 })?;
        message.append(bytes)?;
        message.begin(3, addend)?;
        message.number(1, hits)?;
        if is_credit {
            // `is_negative_hits`.
            message.number(4, 1)?;
        }
    }
    (!is_empty).then(|| message.finish())
}

fn entry_size(key: &[u8], value: &[u8]) -> usize {
    field_size(key.len()) + field_size(value.len())
}

/// A `RateLimitResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub(crate) allowed: bool,
    /// The first status that is over its limit, or else the first one of which least remains.
    pub(crate) status: Option<DescriptorStatus>,
    /// The body for a refused client; empty when the service gives none.
    pub(crate) body: &'a [u8],
    message: &'a [u8],
}

/// The state of one descriptor's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescriptorStatus {
    pub(crate) over_limit: bool,
    /// Requests per unit of time, when the service states its limit.
    pub(crate) limit: Option<u64>,
    /// The unit of time, in seconds.
    pub(crate) period: Option<u64>,
    pub(crate) remaining: u64,
    /// The `duration_until_reset`, in whole seconds, rounded up. The protocol has one field for
    /// two times: on a refusal `tidegate serve` sends the time after which the same request
    /// would be allowed; other services send the time until their window ends.
    pub(crate) retry_or_reset: Option<u64>,
    /// The same time in nanoseconds.
    pub(crate) retry_nanos: Option<u64>,
    /// The tokens of the `quota`, when the service gives one.
    pub(crate) quota: Option<u64>,
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const OK: u64 = 1;
const OVER_LIMIT: u64 = 2;

impl<'a> Response<'a> {
    /// Parses a response. One whose code is unknown is malformed. With `is_cut`, the message may end
    /// anywhere: what is missing of it is left out.
    pub(crate) fn parse(message: &'a [u8], is_cut: bool) -> Result<Self, Malformed> {
        let mut code = 0;
        let mut response = Self { allowed: false, status: None, body: b"", message };
        let mut fields = Fields::new(message);
        loop {
            let rest = fields;
            let field = match fields.next() {
                Ok(Some(field)) => field,
                Ok(None) => break,
                Err(_) if is_cut => {
                    response.body = rest.cut_bytes(5).unwrap_or(response.body);
                    break;
                }
                Err(malformed) => return Err(malformed),
            };
            match field {
                (1, Value::Varint(number)) => code = number,
                (2, Value::Bytes(bytes)) => {
                    let status = descriptor_status(bytes)?;
                    let least =
                        |known: DescriptorStatus| match (status.over_limit, known.over_limit) {
                            (true, true) => false,
                            (false, false) => status.remaining < known.remaining,
                            (is_over, _) => is_over,
                        };
                    if response.status.is_none_or(least) {
                        response.status = Some(status);
                    }
                }
                (3, Value::Bytes(bytes)) => drop(header(bytes)?),
                (5, Value::Bytes(bytes)) => response.body = bytes,
                _ => {}
            }
        }
        match code {
            OK => Ok(Self { allowed: true, ..response }),
            OVER_LIMIT => Ok(response),
            _ => Err(Malformed),
        }
    }

    /// The message itself.
    pub(crate) fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The status of the descriptor at this place of the request.
    pub(crate) fn status_of(&self, position: u8) -> Option<DescriptorStatus> {
        let mut fields = Fields::new(self.message);
        let mut left = position;
        while let Ok(Some(field)) = fields.next() {
            if let (2, Value::Bytes(bytes)) = field {
                if left == 0 {
                    return descriptor_status(bytes).ok();
                }
                left -= 1;
            }
        }
        None
    }

    /// The names and values of `response_headers_to_add`.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut fields = Fields::new(self.message);
        core::iter::from_fn(move || {
            // `parse` has read the whole message, so it is well formed up to where it was cut.
            while let Ok(Some(field)) = fields.next() {
                if let (3, Value::Bytes(bytes)) = field {
                    return header(bytes).ok();
                }
            }
            None
        })
    }
}

fn descriptor_status(message: &[u8]) -> Result<DescriptorStatus, Malformed> {
    let mut status = DescriptorStatus::default();
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(code)) => status.over_limit = code == OVER_LIMIT,
            (2, Value::Bytes(limit)) => (status.limit, status.period) = rate_limit(limit)?,
            (3, Value::Varint(remaining)) => status.remaining = remaining,
            (4, Value::Bytes(duration)) => {
                status.retry_nanos = nanoseconds(duration)?;
                let seconds = |nanos: u64| nanos.div_ceil(NANOS_PER_SECOND);
                status.retry_or_reset = status.retry_nanos.map(seconds);
            }
            (5, Value::Bytes(quota)) => status.quota = first_number(quota)?,
            _ => {}
        }
    }
    Ok(status)
}

/// The `requests_per_unit` of a `RateLimit`, and its unit in seconds.
fn rate_limit(message: &[u8]) -> Result<(Option<u64>, Option<u64>), Malformed> {
    const DAY: u64 = 86_400;
    // SECOND, MINUTE, HOUR, DAY, MONTH, YEAR and WEEK, from 1 on.
    const UNITS: [u64; 7] = [1, 60, 3600, DAY, 30 * DAY, 365 * DAY, 7 * DAY];
    let mut unit = None;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        if let (2, Value::Varint(found)) = field {
            unit = usize::try_from(found).ok().and_then(|unit| UNITS.get(unit.checked_sub(1)?));
        }
    }
    Ok((first_number(message)?, unit.copied()))
}

/// The first field of a `RateLimit`, `requests_per_unit`, or of a `Quota`, `requests`.
fn first_number(message: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut number = None;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        if let (1, Value::Varint(found)) = field {
            number = Some(found);
        }
    }
    Ok(number)
}

/// The nanoseconds of a `google.protobuf.Duration`; `None` when it is negative.
fn nanoseconds(message: &[u8]) -> Result<Option<u64>, Malformed> {
    let mut seconds = 0;
    let mut nanos = 0;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(found)) => seconds = found,
            (2, Value::Varint(found)) => nanos = found,
            _ => {}
        }
    }
    let negative = |number: u64| number > i64::MAX as u64;
    if negative(seconds) || negative(nanos) {
        return Ok(None);
    }
    Ok(Some(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos)))
}

/// The name of a `HeaderValue`, and its `value` or `raw_value`, whichever is set.
fn header(message: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut name: &[u8] = b"";
    let mut value: &[u8] = b"";
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2 | 3, Value::Bytes(bytes)) if !bytes.is_empty() => value = bytes,
            _ => {}
        }
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::Response;
    use crate::protobuf::{Malformed, Message};

    fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
        assert!(value.len() < 128);
        [&[field << 3 | 2, value.len() as u8], value].concat()
    }

    fn number(field: u64, number: u64) -> Vec<u8> {
        let mut room = [0; 16];
        let mut message = Message::new(&mut room);
        assert!(message.number(field, number).is_some());
        message.finish().to_vec()
    }

    fn status(code: u64, limit: u64, remaining: u64, seconds: u64, nanos: u64) -> Vec<u8> {
        let duration = [number(1, seconds), number(2, nanos)].concat();
        let rate = bytes(2, &number(1, limit));
        [number(1, code), rate, number(3, remaining), bytes(4, &duration)].concat()
    }

    #[test]
    fn every_field_of_a_response_is_read() {
        let message = [
            number(1, 2),
            bytes(2, &status(1, 10, 3, 1, 0)),
            bytes(2, &status(2, 50, 0, 2, 1)),
            bytes(3, b"\x0a\x01a\x12\x01b"),
            bytes(4, b"ignored"),
            bytes(3, b"\x0a\x01c\x1a\x01d"),
            bytes(5, b"slow down"),
        ]
        .concat();
        let response = Response::parse(&message, false);
        let Ok(response) = response else { panic!("{response:?}") };
        assert_eq!((response.allowed, response.body), (false, &b"slow down"[..]));
        let status = response.status.map(|s| (s.limit, s.remaining, s.retry_or_reset));
        assert_eq!(status, Some((Some(50), 0, Some(3))));
        let headers: Vec<_> = response.headers().collect();
        assert_eq!(headers, [(&b"a"[..], &b"b"[..]), (b"c", b"d")]);
    }

    #[test]
    fn a_bare_ok_is_enough_and_no_code_is_not() {
        assert_eq!(Response::parse(b"\x08\x01", false).map(|response| response.allowed), Ok(true));
        assert_eq!(Response::parse(b"\x08\x02", false).map(|response| response.allowed), Ok(false));
        assert_eq!(Response::parse(b"", false), Err(Malformed));
        assert_eq!(Response::parse(b"\x08\x03", false), Err(Malformed));
        assert_eq!(Response::parse(b"\x08\x01\x12\x01\x08", false), Err(Malformed));
        assert_eq!(Response::parse(b"\x08\x01\x1a\x01\x0a", false), Err(Malformed));
    }

    #[test]
    fn a_response_that_was_cut_is_read_up_to_there() {
        let message = b"\x08\x02\x1a\x06\x0a\x01a\x12\x01b\x2a\x05hello";
        let parse =
            |length: usize| Response::parse(message.get(..length).unwrap_or_default(), true);
        let read = |length| parse(length).map(|it| (it.headers().count(), it.body));
        assert_eq!(read(17), Ok((1, &b"hello"[..])));
        assert_eq!(read(15), Ok((1, &b"hel"[..])));
        assert_eq!(read(11), Ok((1, &b""[..])));
        assert_eq!(read(7), Ok((0, &b""[..])));
        assert_eq!(read(1), Err(Malformed));
        assert_eq!(Response::parse(b"\x08\x02\x2a\x05hel", false), Err(Malformed));
    }

    #[test]
    fn a_negative_duration_is_ignored() {
        let message = [number(1, 2), bytes(2, &status(2, 1, 0, u64::MAX, 0))].concat();
        let response = Response::parse(&message, false);
        assert_eq!(response.map(|r| r.status.and_then(|s| s.retry_or_reset)), Ok(None));
    }
}
