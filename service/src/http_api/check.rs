//! The bodies of `POST /v1/check`.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::google::protobuf::UInt64Value;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Value, json};
use tidegate::TierDecision;
use tonic::Status;

use crate::response::ERROR_METADATA;
use crate::ruling::{Answer, Ruling, Verdict};

const NANOS_PER_MILLISECOND: u64 = 1_000_000;

/// The domain of a body without one, which only rules for any domain match.
const DEFAULT_DOMAIN: &str = "default";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    domain: Option<String>,
    key: Option<String>,
    descriptors: Option<Vec<DescriptorBody>>,
    #[serde(default = "one")]
    hits: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescriptorBody {
    entries: Vec<EntryBody>,
    hits: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryBody {
    key: String,
    value: String,
}

const fn one() -> u64 {
    1
}

/// The request of a body.
///
/// # Errors
/// What is wrong with the body, and where.
pub(super) fn read(body: &[u8]) -> Result<RateLimitRequest, serde_json::Error> {
    let CheckBody { domain, key, descriptors, hits } = serde_json::from_slice(body)?;
    let descriptors = match (key, descriptors) {
        (Some(value), None) => {
            let entries = vec![EntryBody { key: "key".to_owned(), value }];
            vec![DescriptorBody { entries, hits: None }]
        }
        (None, Some(descriptors)) => descriptors,
        _ => return Err(serde_json::Error::custom("give either `key` or `descriptors`")),
    };
    let entry = |EntryBody { key, value }| Entry { key, value };
    let descriptor = |DescriptorBody { entries, hits: own }| RateLimitDescriptor {
        entries: entries.into_iter().map(entry).collect(),
        hits_addend: Some(UInt64Value { value: own.unwrap_or(hits) }),
        ..RateLimitDescriptor::default()
    };
    Ok(RateLimitRequest {
        domain: domain.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
        descriptors: descriptors.into_iter().map(descriptor).collect(),
        hits_addend: 0,
    })
}

/// The body of an answer.
pub(super) fn write(answer: &Answer) -> Value {
    let descriptors: Vec<Value> = answer.descriptors.iter().map(descriptor).collect();
    let retry_after = retry_after(answer).map(milliseconds);
    json!({
        "allowed": !answer.is_over,
        // Without a time, no wait is long enough.
        "retry_after_ms": if answer.is_over { json!(retry_after) } else { json!(0) },
        "descriptors": descriptors,
    })
}

/// The whole seconds after which the request would be allowed, at least 1; `None` if it is allowed, or if
/// no wait is long enough.
pub(super) fn retry_after_seconds(answer: &Answer) -> Option<u64> {
    let retry_after = retry_after(answer).filter(|_| answer.is_over)?;
    Some(milliseconds(retry_after).div_ceil(1000).max(1))
}

/// The longest wait of those that refuse, in nanoseconds; `None` if no wait is long enough.
fn retry_after(answer: &Answer) -> Option<u64> {
    let refusals = answer.descriptors.iter().flatten().flatten().filter(|it| it.refuses());
    refusals.map(retry_after_of).collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn retry_after_of(ruling: &Ruling) -> Option<u64> {
    match &ruling.verdict {
        Verdict::Decided(decision) => Some(decision.retry_after).filter(|wait| *wait < u64::MAX),
        Verdict::Never { .. } => None,
        Verdict::Unchecked => Some(0),
    }
}

fn descriptor(rulings: &Result<Vec<Ruling>, Status>) -> Value {
    match rulings {
        Ok(rulings) => json!({
            "allowed": !rulings.iter().any(Ruling::refuses),
            "rules": rulings.iter().map(ruling).collect::<Vec<_>>(),
        }),
        Err(error) => {
            let code = error.metadata().get(ERROR_METADATA).and_then(|code| code.to_str().ok());
            json!({ "error": code, "message": error.message() })
        }
    }
}

fn ruling(ruling: &Ruling) -> Value {
    let limits: Vec<Value> = match &ruling.verdict {
        Verdict::Decided(decision) => decision.tiers().iter().map(|it| limit(ruling, it)).collect(),
        Verdict::Never { .. } | Verdict::Unchecked => Vec::new(),
    };
    json!({
        "rule": ruling.rule,
        "allowed": !ruling.is_exceeded(),
        "shadow": ruling.shadow,
        "retry_after_ms": retry_after_of(ruling).map(milliseconds),
        "limits": limits,
    })
}

fn limit(ruling: &Ruling, tier: &TierDecision) -> Value {
    let named = ruling.limiter.limits().get(usize::from(tier.tier));
    // `unlimited` has neither a burst nor an end of what is left.
    let bounded = |number: u64| (number < u64::MAX).then_some(number);
    json!({
        "limit": named.map(|named| named.name.as_str()),
        "burst": bounded(tier.limit),
        "remaining": bounded(tier.remaining),
        "retry_after_ms": bounded(tier.retry_after).map(milliseconds),
        "reset_after_ms": bounded(tier.reset_after).map(milliseconds),
    })
}

/// The milliseconds of a wait, rounded up, so that whoever waits for them is not too early.
fn milliseconds(nanos: u64) -> u64 {
    nanos.div_ceil(NANOS_PER_MILLISECOND)
}
