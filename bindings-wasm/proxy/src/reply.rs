//! The answers that the filter gives in the place of the upstream.

use tidegate_core::{Decision, MAX_KEY};

use crate::host::{Host, Reply, Status};
use crate::key::{KeySource, is_token_byte};
use crate::pairs::Pair;
use crate::rls::Answer;
use crate::text::Text;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Headers of a service beyond these, or above this many bytes, are left out.
const MAX_SERVICE_HEADERS: usize = 16;
const MAX_SERVICE_HEADER: usize = 256;

const GRPC_INVALID_ARGUMENT: u32 = 3;
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
const GRPC_UNAVAILABLE: u32 = 14;

const REFUSED: &[u8] = b"too many requests\n";

/// What a refusal tells of its limit; seconds are whole, rounded up.
#[derive(Clone, Copy, Debug, Default)]
struct Quota {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset_after: Option<u64>,
    retry_after: Option<u64>,
}

pub(crate) fn refused_locally(
    host: &impl Host,
    stream: u32,
    status: u32,
    decision: Option<&Decision>,
) -> Result<(), Status> {
    let quota = decision.map_or(Quota::default(), |decision| Quota {
        limit: Some(decision.limit),
        remaining: Some(decision.remaining),
        reset_after: Some(decision.reset_after.div_ceil(NANOS_PER_SECOND)),
        retry_after: Some(decision.retry_after)
            .filter(|&nanos| nanos != u64::MAX)
            .map(|nanos| nanos.div_ceil(NANOS_PER_SECOND)),
    });
    refused(host, stream, status, "tidegate_limited_local", REFUSED, &quota, None)
}

pub(crate) fn refused_by_service(
    host: &impl Host,
    stream: u32,
    status: u32,
    tell_quota: bool,
    answer: &Answer<'_>,
) -> Result<(), Status> {
    let quota = answer.status.filter(|_| tell_quota).map_or(Quota::default(), |status| Quota {
        limit: status.limit,
        remaining: Some(status.remaining),
        reset_after: status.reset_after,
        retry_after: status.reset_after,
    });
    let body = if answer.body.is_empty() { REFUSED } else { answer.body };
    refused(host, stream, status, "tidegate_limited_service", body, &quota, Some(answer))
}

pub(crate) fn missing_key(host: &impl Host, stream: u32, source: &KeySource) -> Result<(), Status> {
    let body =
        Text::<256>::of(format_args!("{source} is missing: it is the key of a rate limit\n"));
    let reply = bare(400, "tidegate_missing_key", GRPC_INVALID_ARGUMENT, body.as_bytes());
    host.reply(stream, &reply)
}

pub(crate) fn bad_key(
    host: &impl Host,
    stream: u32,
    source: &KeySource,
    problem: &str,
) -> Result<(), Status> {
    let body = Text::<256>::of(format_args!(
        "{source} {problem}: as the key of a rate limit \
         it must be valid UTF-8 of at most {MAX_KEY} bytes\n"
    ));
    let reply = bare(400, "tidegate_bad_key", GRPC_INVALID_ARGUMENT, body.as_bytes());
    host.reply(stream, &reply)
}

pub(crate) fn service_error(host: &impl Host, stream: u32) -> Result<(), Status> {
    let body = b"the rate limit service is not available\n";
    host.reply(stream, &bare(503, "tidegate_service_error", GRPC_UNAVAILABLE, body))
}

pub(crate) fn not_configured(host: &impl Host, stream: u32) -> Result<(), Status> {
    let body = b"the rate limit filter is not configured\n";
    host.reply(stream, &bare(503, "tidegate_not_configured", GRPC_UNAVAILABLE, body))
}

fn bare<'a>(status: u32, details: &'static str, grpc_status: u32, body: &'a [u8]) -> Reply<'a> {
    Reply { status, details, body, headers: &[], grpc_status }
}

fn refused(
    host: &impl Host,
    stream: u32,
    status: u32,
    details: &'static str,
    body: &[u8],
    quota: &Quota,
    answer: Option<&Answer<'_>>,
) -> Result<(), Status> {
    let ours = [
        ("x-ratelimit-limit", quota.limit),
        ("x-ratelimit-remaining", quota.remaining),
        ("x-ratelimit-reset", quota.reset_after),
        ("retry-after", quota.retry_after),
    ]
    .map(|(name, number)| (name, number.map(decimal)));

    let mut headers: [Pair<'_>; MAX_SERVICE_HEADERS + 4] = [(b"", b""); _];
    let mut count = 0;
    let mut add = |pair| {
        if let Some(place) = headers.get_mut(count) {
            *place = pair;
            count += 1;
        }
    };
    for (name, value) in &ours {
        // What the service itself says of a header holds.
        let said = |answer: &Answer<'_>| {
            service_headers(answer).any(|(said, _)| said.eq_ignore_ascii_case(name.as_bytes()))
        };
        if let Some(value) = value
            && !answer.is_some_and(said)
        {
            add((name.as_bytes(), value.as_bytes()));
        }
    }
    answer.into_iter().flat_map(service_headers).for_each(add);

    let headers = headers.get(..count).unwrap_or_default();
    let grpc_status = GRPC_RESOURCE_EXHAUSTED;
    host.reply(stream, &Reply { status, details, body, headers, grpc_status })
}

/// The service's headers that HTTP allows.
fn service_headers<'a>(answer: &Answer<'a>) -> impl Iterator<Item = Pair<'a>> + use<'a> {
    let is_value_byte = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    answer
        .headers()
        .filter(move |(name, value)| {
            !name.is_empty()
                && name.iter().all(|&byte| is_token_byte(byte))
                && value.iter().all(is_value_byte)
                && name.len() + value.len() <= MAX_SERVICE_HEADER
        })
        .take(MAX_SERVICE_HEADERS)
}

fn decimal(number: u64) -> Text<20> {
    Text::of(format_args!("{number}"))
}
