//! Converts Tidegate's decisions and errors into messages of Envoy's protocol.

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit,
};
use envoy_types::pb::google::protobuf::Duration;
use tidegate::{Decision, Error, Limiter, NamedLimit};
use tonic::Status;
use tonic::metadata::MetadataValue;

/// The name of the response metadata with the stable code of a Tidegate error.
pub(crate) const ERROR_METADATA: &str = "tidegate-error";

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The status of a descriptor without a limit.
pub(crate) fn unlimited() -> DescriptorStatus {
    DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() }
}

/// The status for a decision of `limiter`. The protocol has one field for two times: it is the
/// time until the same request would be allowed after a refusal, and otherwise the time until
/// the bucket is full.
pub(crate) fn descriptor_status(limiter: &Limiter, decision: &Decision) -> DescriptorStatus {
    let bound = limiter.limits().get(usize::from(decision.tier));
    let (code, retry_or_reset) = match decision.allowed {
        true => (Code::Ok, decision.reset_after),
        false => (Code::OverLimit, decision.retry_after),
    };
    DescriptorStatus {
        code: code.into(),
        current_limit: bound.and_then(current_limit),
        limit_remaining: u32::try_from(decision.remaining).unwrap_or(u32::MAX),
        duration_until_reset: Some(duration(retry_or_reset)),
        quota: None,
    }
}

/// The status for hits above the burst of a limit of `limiter`: no wait is long enough for them.
pub(crate) fn never(limiter: &Limiter, burst: u64) -> DescriptorStatus {
    let bound = limiter.limits().iter().find(|named| named.limit.burst() == burst);
    DescriptorStatus {
        code: Code::OverLimit.into(),
        current_limit: bound.and_then(current_limit),
        ..DescriptorStatus::default()
    }
}

/// The status of a descriptor that several rules have decided: the refusal with the longest wait, else the
/// status with the fewest tokens left.
pub(crate) fn strictest(statuses: impl Iterator<Item = DescriptorStatus>) -> DescriptorStatus {
    let strictness = |status: &DescriptorStatus| {
        let is_over = status.code == i32::from(Code::OverLimit);
        // A refusal without a time is one that no wait ends.
        let wait = status.duration_until_reset.filter(|_| is_over);
        let wait = wait.map_or((i64::MAX, 0), |time| (time.seconds, time.nanos));
        // A rule that could not be checked, and only counts, has no time.
        let is_decided = status.duration_until_reset.is_some();
        (is_over, wait, is_decided, u32::MAX - status.limit_remaining)
    };
    statuses.max_by_key(strictness).unwrap_or_else(unlimited)
}

/// The gRPC status for an error in `field` of the request, or in the whole request when `field`
/// is empty.
pub(crate) fn error_status(field: &str, error: &Error) -> Status {
    let message = if field.is_empty() { error.to_string() } else { format!("{field}: {error}") };
    let mut status = match error {
        Error::InvalidArgument { .. } | Error::CostTooLarge { .. } => {
            Status::invalid_argument(message)
        }
        Error::Store(_) => Status::unavailable(message),
        Error::StoreTimeout { .. } => Status::deadline_exceeded(message),
        // The bucket of one key, which is no reason to leave the service alone.
        Error::CorruptBucket { .. } => Status::data_loss(message),
        _ => Status::internal(message),
    };
    status.metadata_mut().insert(ERROR_METADATA, MetadataValue::from_static(error.code()));
    status
}

/// The limit as requests per second, minute, hour, day, week, month of 30 days or year of 365 days;
/// `None` for any other period, which the protocol cannot express.
fn current_limit(NamedLimit { name, limit }: &NamedLimit) -> Option<RateLimit> {
    // The protocol has no word for `unlimited`, and `none` has no unit.
    let limit = limit.rate()?;
    let unit = match limit.period() / NANOS_PER_SECOND {
        _ if !limit.period().is_multiple_of(NANOS_PER_SECOND) => return None,
        1 => Unit::Second,
        60 => Unit::Minute,
        3_600 => Unit::Hour,
        86_400 => Unit::Day,
        604_800 => Unit::Week,
        2_592_000 => Unit::Month,
        31_536_000 => Unit::Year,
        _ => return None,
    };
    let requests_per_unit = u32::try_from(limit.tokens()).ok()?;
    Some(RateLimit { name: name.clone(), requests_per_unit, unit: unit.into() })
}

fn duration(nanos: u64) -> Duration {
    Duration {
        // Both conversions succeed: 2^64 ns are 1.8e10 s.
        seconds: i64::try_from(nanos / NANOS_PER_SECOND).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos % NANOS_PER_SECOND).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration as Time;

    use tonic::Code as Grpc;

    use super::*;

    fn limit(text: &str) -> Option<(u32, Unit, String)> {
        let named = NamedLimit::parse(text, None).ok()?;
        current_limit(&named).map(|it| (it.requests_per_unit, it.unit(), it.name))
    }

    #[test]
    fn only_limits_per_unit_of_the_protocol_are_shown() {
        let shown = |count, unit, name: &str| Some((count, unit, name.to_owned()));
        assert_eq!(limit("50/s burst 5"), shown(50, Unit::Second, "50/s burst 5"));
        assert_eq!(limit("50/60s"), shown(50, Unit::Minute, "50/60s"));
        assert_eq!(limit("5000/h window"), shown(5000, Unit::Hour, "5000/h window"));
        assert_eq!(limit("1/24h"), shown(1, Unit::Day, "1/24h"));
        assert_eq!(limit("9/7d"), shown(9, Unit::Week, "9/7d"));
        assert_eq!(limit("9/30d window"), shown(9, Unit::Month, "9/30d window"));
        assert_eq!(limit("9/365d window"), shown(9, Unit::Year, "9/365d window"));
        for text in
            ["unlimited", "none", "1/500ms", "1/2s", "1/2w", "10 in any 1s", "5000000000/d window"]
        {
            assert_eq!(limit(text), None, "{text}");
        }
    }

    #[test]
    fn the_strictest_of_several_statuses_is_shown() {
        let status = |code: Code, limit_remaining, seconds| DescriptorStatus {
            code: code.into(),
            limit_remaining,
            duration_until_reset: Some(duration(seconds * NANOS_PER_SECOND)),
            ..DescriptorStatus::default()
        };
        let (few, many) = (status(Code::Ok, 3, 1), status(Code::Ok, 9, 2));
        let (short, long) = (status(Code::OverLimit, 0, 5), status(Code::OverLimit, 0, 60));
        let never = DescriptorStatus { code: Code::OverLimit.into(), ..unlimited() };
        let shown = |statuses: &[&DescriptorStatus]| strictest(statuses.iter().copied().cloned());
        assert_eq!(shown(&[&many, &few, &unlimited()]), few);
        assert_eq!(shown(&[&long, &short, &few]), long);
        assert_eq!(shown(&[&never, &long]), never);
        assert_eq!(shown(&[]), unlimited());
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        assert_eq!(duration(0), Duration { seconds: 0, nanos: 0 });
        assert_eq!(duration(1_500_000_001), Duration { seconds: 1, nanos: 500_000_001 });
        assert_eq!(duration(u64::MAX), Duration { seconds: 18_446_744_073, nanos: 709_551_615 });
    }

    #[test]
    fn errors_have_a_grpc_code_and_a_stable_code() {
        let argument = Error::InvalidArgument { name: "key", message: "too long".to_owned() };
        for (error, grpc, code) in [
            (argument, Grpc::InvalidArgument, "invalid_argument"),
            (Error::CostTooLarge { cost: 9, burst: 5 }, Grpc::InvalidArgument, "cost_too_large"),
            (Error::Store("gone".into()), Grpc::Unavailable, "store_error"),
            (Error::timeout(Time::from_millis(50)), Grpc::DeadlineExceeded, "store_timeout"),
            (Error::CorruptBucket { key: "k".to_owned() }, Grpc::DataLoss, "corrupt_bucket"),
        ] {
            let status = error_status("descriptors[1]", &error);
            let metadata = status.metadata().get(ERROR_METADATA).and_then(|it| it.to_str().ok());
            assert_eq!((status.code(), metadata), (grpc, Some(code)));
            assert_eq!(status.message(), format!("descriptors[1]: {error}"));
        }
    }
}
