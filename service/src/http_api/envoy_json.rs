//! The bodies of `POST /json`: messages of Envoy's protocol in the JSON form of Protocol Buffers.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use envoy_types::pb::google::protobuf::{Duration, UInt64Value};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestBody {
    #[serde(default, deserialize_with = "or_default")]
    domain: String,
    #[serde(default, deserialize_with = "or_default")]
    descriptors: Vec<DescriptorBody>,
    #[serde(default, alias = "hitsAddend", deserialize_with = "number")]
    hits_addend: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DescriptorBody {
    #[serde(default, deserialize_with = "or_default")]
    entries: Vec<EntryBody>,
    limit: Option<OverrideBody>,
    #[serde(default, alias = "hitsAddend", deserialize_with = "number")]
    hits_addend: Option<u64>,
    #[serde(default, alias = "isNegativeHits", deserialize_with = "or_default")]
    is_negative_hits: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryBody {
    #[serde(default, deserialize_with = "or_default")]
    key: String,
    #[serde(default, deserialize_with = "or_default")]
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideBody {
    #[serde(default, alias = "requestsPerUnit", deserialize_with = "number")]
    requests_per_unit: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    unit: UnitBody,
}

/// An enum value: its name or its number.
#[derive(Default)]
struct UnitBody(i32);

impl<'de> Deserialize<'de> for UnitBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let unit = match &value {
            Value::String(name) => RateLimitUnit::from_str_name(name).map(i32::from),
            number => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        };
        unit.map(Self).ok_or_else(|| D::Error::custom(format!("{value} is not a unit of time")))
    }
}

/// A value; `null` is the default of its field, as in the JSON form of every message.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A whole number, which JavaScript writes as a text if it is large, and other languages as `1.0`.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::String(text) => text.parse().ok(),
        number => number.as_u64().or_else(|| whole(number.as_f64()?)),
    };
    let wrong = || D::Error::custom(format!("{value} is not a whole number of 0 or more"));
    number.map(Some).ok_or_else(wrong)
}

fn whole(number: f64) -> Option<u64> {
    const MOST_EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && (0.0..=MOST_EXACT).contains(&number)).then_some(number as u64)
}

/// The request of a body. Fields have the names of the protocol or those of its JSON form.
///
/// # Errors
/// What is wrong with the body, and where.
pub(super) fn read(body: &[u8]) -> Result<RateLimitRequest, serde_json::Error> {
    let RequestBody { domain, descriptors, hits_addend } = serde_json::from_slice(body)?;
    let small = |number: Option<u64>| {
        let number = u32::try_from(number.unwrap_or(0));
        number.map_err(|_| serde_json::Error::custom("a number is above 4294967295"))
    };
    let limit = |OverrideBody { requests_per_unit, unit }| {
        Ok(RateLimitOverride { requests_per_unit: small(requests_per_unit)?, unit: unit.0 })
    };
    let entry = |EntryBody { key, value }| Entry { key, value };
    let descriptor = |body: DescriptorBody| -> Result<_, serde_json::Error> {
        Ok(RateLimitDescriptor {
            entries: body.entries.into_iter().map(entry).collect(),
            limit: body.limit.map(limit).transpose()?,
            hits_addend: body.hits_addend.map(|value| UInt64Value { value }),
            is_negative_hits: body.is_negative_hits,
        })
    };
    Ok(RateLimitRequest {
        domain,
        descriptors: descriptors.into_iter().map(descriptor).collect::<Result<_, _>>()?,
        hits_addend: small(hits_addend)?,
    })
}

/// The body of a response, without the fields that have their default.
pub(super) fn write(response: &RateLimitResponse) -> Value {
    let statuses: Vec<Value> = response.statuses.iter().map(status).collect();
    json!({ "overallCode": response.overall_code().as_str_name(), "statuses": statuses })
}

fn status(status: &DescriptorStatus) -> Value {
    let mut body = Map::new();
    body.insert("code".to_owned(), json!(status.code().as_str_name()));
    if let Some(limit) = &status.current_limit {
        let mut shown = Map::new();
        if !limit.name.is_empty() {
            shown.insert("name".to_owned(), json!(limit.name));
        }
        shown.insert("requestsPerUnit".to_owned(), json!(limit.requests_per_unit));
        shown.insert("unit".to_owned(), json!(limit.unit().as_str_name()));
        body.insert("currentLimit".to_owned(), Value::Object(shown));
    }
    if status.limit_remaining != 0 {
        body.insert("limitRemaining".to_owned(), json!(status.limit_remaining));
    }
    if let Some(time) = &status.duration_until_reset {
        body.insert("durationUntilReset".to_owned(), json!(duration(time)));
    }
    Value::Object(body)
}

/// A time as `1s`, or with nine digits as `1.500000000s`.
fn duration(Duration { seconds, nanos }: &Duration) -> String {
    match nanos {
        0 => format!("{seconds}s"),
        nanos => format!("{seconds}.{nanos:09}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_in_both_spellings() -> Result<(), serde_json::Error> {
        let snake = br#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"v"}],
            "limit":{"requests_per_unit":7,"unit":"MINUTE"},"hits_addend":"3",
            "is_negative_hits":true}],"hits_addend":2}"#;
        let camel = br#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"v"}],
            "limit":{"requestsPerUnit":"7","unit":2},"hitsAddend":3,
            "isNegativeHits":true}],"hitsAddend":"2"}"#;
        let request = read(snake)?;
        assert_eq!(request, read(camel)?);
        let descriptor = &request.descriptors[0];
        assert_eq!(descriptor.limit, Some(RateLimitOverride { requests_per_unit: 7, unit: 2 }));
        assert_eq!(descriptor.hits_addend, Some(UInt64Value { value: 3 }));
        assert!(descriptor.is_negative_hits && request.hits_addend == 2);
        Ok(())
    }

    #[test]
    fn null_is_the_default_and_a_whole_number_may_have_a_fraction_of_zero()
    -> Result<(), serde_json::Error> {
        let nulls =
            br#"{"domain":null,"descriptors":[{"entries":[{"key":"k","value":null}],"limit":null,
            "hitsAddend":null,"isNegativeHits":null}],"hitsAddend":null}"#;
        assert_eq!(read(nulls)?, read(br#"{"descriptors":[{"entries":[{"key":"k"}]}]}"#)?);
        assert_eq!(read(br#"{"descriptors":null}"#)?, read(b"{}")?);
        assert_eq!(read(br#"{"hitsAddend":3.0}"#)?.hits_addend, 3);
        assert_eq!(read(br#"{"hitsAddend":2e1}"#)?.hits_addend, 20);
        Ok(())
    }

    #[test]
    fn wrong_requests_are_refused() {
        for (body, said) in [
            (r#"{"domain":1}"#, "invalid type"),
            (r#"{"other":1}"#, "unknown field `other`"),
            (r#"{"hitsAddend":-1}"#, "-1 is not a whole number"),
            (r#"{"hitsAddend":1.5}"#, "1.5 is not a whole number"),
            (r#"{"hitsAddend":1e300}"#, "is not a whole number"),
            (r#"{"descriptors":[null]}"#, "invalid type: null"),
            (r#"{"hitsAddend":4294967296}"#, "above 4294967295"),
            (r#"{"descriptors":[{"limit":{"unit":"EON"}}]}"#, "is not a unit of time"),
            ("[", "EOF"),
        ] {
            let message = read(body.as_bytes()).err().map(|it| it.to_string()).unwrap_or_default();
            assert!(message.contains(said), "{body}: {message}");
        }
    }

    #[test]
    fn times_have_no_digits_or_nine() {
        assert_eq!(duration(&Duration { seconds: 3, nanos: 0 }), "3s");
        assert_eq!(duration(&Duration { seconds: 0, nanos: 1_500_000 }), "0.001500000s");
    }
}
