//! The replies that the filter sends in place of the upstream.

use tidegate_core::{Decision, Limit};

use crate::config::{Config, Refusals};
use crate::cost::BadCost;
use crate::host::{Host, LocalReply, Status};
use crate::names::Names;
use crate::pairs::Pair;
use crate::rls::{DescriptorStatus, Response};
use crate::source::{Described, HEADERS, is_token_byte};
use crate::text::Text;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Headers of a service beyond this number are left out.
const MAX_SERVICE_HEADERS: usize = 16;
/// Headers of a service above this many bytes, name and value together, are left out.
const MAX_SERVICE_HEADER: usize = 256;

const GRPC_INVALID_ARGUMENT: u32 = 3;
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
const GRPC_UNAVAILABLE: u32 = 14;

const REFUSED: &[u8] = b"too many requests\n";

/// The numbers that an answer shows of its limit; times are whole seconds, rounded up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quota {
    /// The tokens of the limit's period.
    limit: Option<u64>,
    /// The limit's period.
    period: Option<u64>,
    remaining: Option<u64>,
    reset_after: Option<u64>,
    retry_after: Option<u64>,
}

impl Quota {
    /// No numbers. All its bytes may be zero.
    pub(crate) const NONE: Self =
        Self { limit: None, period: None, remaining: None, reset_after: None, retry_after: None };

    /// The numbers of a local bucket; `limit` is the one that binds, unless it is `none` or `unlimited`.
    pub(crate) fn local(limit: Option<&Limit>, decision: &Decision) -> Self {
        // Never has no number, and the header is left out.
        let seconds = |nanos: u64| (nanos != u64::MAX).then(|| nanos.div_ceil(NANOS_PER_SECOND));
        Self {
            limit: Some(limit.map_or(decision.limit, Limit::tokens)),
            period: limit.map(|limit| limit.period().div_ceil(NANOS_PER_SECOND)),
            remaining: Some(decision.remaining),
            reset_after: seconds(decision.reset_after),
            retry_after: seconds(decision.retry_after),
        }
    }

    /// The numbers that the service has answered.
    pub(crate) fn service(status: Option<DescriptorStatus>) -> Self {
        status.map_or(Self::NONE, |status| Self {
            limit: status.limit,
            period: status.period,
            remaining: Some(status.remaining),
            reset_after: status.retry_or_reset,
            retry_after: status.retry_or_reset,
        })
    }

    /// The numbers of tokens that were taken ahead.
    pub(crate) const fn ahead(limit: Option<u32>, remaining: u32) -> Self {
        let limit = match limit {
            Some(limit) => Some(limit as u64),
            None => None,
        };
        Self { limit, remaining: Some(remaining as u64), ..Self::NONE }
    }

    /// Takes the place of one of which more remains, or of none.
    pub(crate) fn merge(&mut self, other: Self) {
        let is_less = match (self.remaining, other.remaining) {
            (Some(known), Some(other)) => other < known,
            (known, other) => known.is_none() && other.is_some(),
        };
        if is_less {
            *self = other;
        }
    }
}

/// A refusal by a limit.
struct Refusal<'a> {
    details: &'static str,
    quota: Quota,
    /// The service's response, if the service has refused.
    response: Option<&'a Response<'a>>,
}

/// Refuses a request by a local bucket; `limit` is the one that refused, unless it was `none`.
pub(crate) fn refused_locally(
    host: &impl Host,
    stream: u32,
    config: &Config,
    limit: Option<&Limit>,
    decision: &Decision,
) -> Result<(), Status> {
    let quota = Quota::local(limit, decision);
    let details = "tidegate_limited_local";
    refused(host, stream, config, &Refusal { details, quota, response: None })
}

/// Refuses a request that the service has refused.
pub(crate) fn refused_by_service(
    host: &impl Host,
    stream: u32,
    config: &Config,
    response: &Response<'_>,
) -> Result<(), Status> {
    let quota = Quota::service(response.status);
    let details = "tidegate_limited_service";
    refused(host, stream, config, &Refusal { details, quota, response: Some(response) })
}

/// Refuses a request by what the service has answered to earlier ones.
pub(crate) fn refused_ahead(
    host: &impl Host,
    stream: u32,
    config: &Config,
    limit: Option<u32>,
    retry_after: u64,
) -> Result<(), Status> {
    let seconds = Some(retry_after.div_ceil(NANOS_PER_SECOND));
    let quota = Quota { reset_after: seconds, retry_after: seconds, ..Quota::ahead(limit, 0) };
    let details = "tidegate_limited_service";
    refused(host, stream, config, &Refusal { details, quota, response: None })
}

/// Refuses a request that the service has refused, without anything of the service's response.
pub(crate) fn refused_briefly(host: &impl Host, stream: u32, status: u32) -> Result<(), Status> {
    let reply = bare(status, "tidegate_limited_service", GRPC_RESOURCE_EXHAUSTED, REFUSED);
    host.reply(stream, &reply)
}

pub(crate) fn missing_key(
    host: &impl Host,
    stream: u32,
    source: &Described<'_>,
) -> Result<(), Status> {
    let body =
        Text::<384>::format(format_args!("{source} is missing: it is the key of a rate limit\n"));
    let reply = bare(400, "tidegate_missing_key", GRPC_INVALID_ARGUMENT, body.as_bytes());
    host.reply(stream, &reply)
}

pub(crate) fn bad_key(
    host: &impl Host,
    stream: u32,
    source: &Described<'_>,
    problem: &str,
) -> Result<(), Status> {
    let body =
        Text::<384>::format(format_args!("{source} {problem}: it is the key of a rate limit\n"));
    let reply = bare(400, "tidegate_bad_key", GRPC_INVALID_ARGUMENT, body.as_bytes());
    host.reply(stream, &reply)
}

/// Refuses a request that does not tell its cost.
pub(crate) fn bad_cost(
    host: &impl Host,
    stream: u32,
    names: &Names,
    problem: BadCost,
) -> Result<(), Status> {
    let (status, body) = match problem {
        BadCost::Header(property) => {
            let name = names.text(property);
            let name = name.strip_prefix(HEADERS).unwrap_or(name);
            let body = Text::<192>::format(format_args!(
                "the header {name} is not one whole number within its bounds: it is a cost\n"
            ));
            (400, body)
        }
        BadCost::BadLength => (400, Text::literal("content-length is not a number\n")),
        BadCost::NoLength => {
            (411, Text::literal("content-length is missing: it is the cost of the request\n"))
        }
    };
    let reply = bare(status, "tidegate_bad_cost", GRPC_INVALID_ARGUMENT, body.as_bytes());
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

/// A reply without headers of its own.
fn bare<'a>(
    status: u32,
    details: &'static str,
    grpc_status: u32,
    body: &'a [u8],
) -> LocalReply<'a> {
    LocalReply { status, details, body, headers: &[], grpc_status }
}

#[inline(never)]
fn refused(
    host: &impl Host,
    stream: u32,
    config: &Config,
    refusal: &Refusal<'_>,
) -> Result<(), Status> {
    let Refusal { details, quota, response } = *refusal;
    let form = &config.refusals;
    let names = &config.descriptors.names;
    let shown = config.headers;
    let content_type = form.content_type.filter(|_| form.body.is_some()).map(|it| names.get(it));
    let numbers = numbers(form, &quota, shown);
    let more = [
        ("retry-after", quota.retry_after.filter(|_| shown).map(decimal)),
        ("x-envoy-ratelimited", shown.then(|| Text::literal("true"))),
    ];
    let ours = numbers
        .iter()
        .chain(&more)
        .filter_map(|(name, value)| Some((name.as_bytes(), value.as_ref()?.as_bytes())));
    let ours = ours.chain(content_type.map(|value| (&b"content-type"[..], value)));

    let mut headers: [Pair<'_>; MAX_SERVICE_HEADERS + 8] = [(b"", b""); _];
    let mut count = 0;
    let mut add = |pair| {
        if let Some(free) = headers.get_mut(count) {
            *free = pair;
            count += 1;
        }
    };
    for (name, value) in ours {
        // A header of the service takes precedence over the filter's own.
        let is_given = |response: &Response<'_>| {
            service_headers(response).any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        if !response.is_some_and(is_given) {
            add((name, value));
        }
    }
    response.into_iter().flat_map(service_headers).for_each(add);

    let body = match response {
        Some(response) if !response.body.is_empty() => response.body,
        _ => form.body.map_or(REFUSED, |body| names.get(body)),
    };
    let headers = headers.get(..count).unwrap_or_default();
    let (status, grpc_status) = (config.status, form.grpc_status);
    host.reply(stream, &LocalReply { status, details, body, headers, grpc_status })
}

/// The headers of a limit, in the configured form; none unless they are shown.
#[inline(never)]
fn numbers(form: &Refusals, quota: &Quota, shown: bool) -> [(&'static str, Option<Text<64>>); 5] {
    let [policy, state] = ietf(quota).map(|text| text.filter(|_| shown && form.has_ietf_headers));
    let number = |number: Option<u64>| number.filter(|_| shown && form.has_x_headers).map(decimal);
    [
        ("x-ratelimit-limit", number(quota.limit)),
        ("x-ratelimit-remaining", number(quota.remaining)),
        ("x-ratelimit-reset", number(quota.reset_after)),
        ("ratelimit-policy", policy),
        ("ratelimit", state),
    ]
}

/// Adds to the current stream's response what is known of its limit, and the headers of the service.
pub(crate) fn add_to_allowed(
    host: &impl Host,
    config: &Config,
    quota: &Quota,
    response: Option<&Response<'_>>,
) -> Result<(), Status> {
    let mut result = Ok(());
    let numbers = numbers(&config.refusals, quota, config.refusals.on_allowed);
    for (name, value) in &numbers {
        if let Some(value) = value {
            let set = host.set_response_header((name.as_bytes(), value.as_bytes()), true);
            result = result.and(set);
        }
    }
    for header in response.into_iter().flat_map(service_headers) {
        // It takes precedence over the filter's own, and the service may give several of another name.
        let is_ours =
            numbers.iter().any(|(name, _)| header.0.eq_ignore_ascii_case(name.as_bytes()));
        let set = host.set_response_header(header, is_ours);
        result = result.and(set);
    }
    result
}

/// `RateLimit-Policy` and `RateLimit` of the IETF's draft 10, of a limit whose numbers are known.
fn ietf(quota: &Quota) -> [Option<Text<64>>; 2] {
    let add = |text: &mut Text<64>, name: &str, number: Option<u64>| {
        if let Some(number) = number {
            text.append(format_args!(";{name}={number}"));
        }
    };
    let (mut policy, mut state) = (Text::literal("\"default\""), Text::literal("\"default\""));
    add(&mut policy, "q", quota.limit);
    add(&mut policy, "w", quota.period);
    add(&mut state, "r", quota.remaining);
    add(&mut state, "t", quota.reset_after);
    [quota.limit.map(|_| policy), quota.remaining.map(|_| state)]
}

/// The headers of the service that HTTP allows and that fit.
fn service_headers<'a>(response: &Response<'a>) -> impl Iterator<Item = Pair<'a>> + use<'a> {
    let is_value_byte = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    response
        .headers()
        .filter(move |(name, value)| {
            !name.is_empty()
                && name.iter().all(|&byte| is_token_byte(byte))
                && value.iter().all(is_value_byte)
                && name.len() + value.len() <= MAX_SERVICE_HEADER
        })
        .take(MAX_SERVICE_HEADERS)
}

fn decimal(number: u64) -> Text<64> {
    Text::format(format_args!("{number}"))
}
