//! The messages of Envoy's rate limit quota service, with ids that may be any bytes.
//!
//! Envoy puts the bytes of headers into the ids of buckets, which the protocol declares as maps of texts. The
//! generated codec refuses a message with a text that is not UTF-8, so that one header of a client would
//! end the reports of all buckets. A map is the same on the wire as its entries, repeated.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::bucket_action::{
    AbandonAction, QuotaAssignmentAction,
};
use envoy_types::pb::envoy::r#type::v3::rate_limit_strategy::{BlanketRule, Strategy};
use envoy_types::pb::envoy::r#type::v3::{RateLimitStrategy, TokenBucket};
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use prost::{Message, Oneof};
use tidegate::quota::{Quota, RefillRate};

use crate::grpc::into_text;

/// The most entries of an id, and the most bytes of all of them. They are kept while the bucket is in use.
const MAX_ENTRIES: usize = 20;
const MAX_ID: usize = 1024;

/// What a proxy has used since its last report.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reports {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) usages: Vec<Usage>,
}

/// The use of one bucket.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Usage {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<BucketId>,
    #[prost(message, optional, tag = "2")]
    elapsed: Option<Duration>,
    #[prost(uint64, tag = "3")]
    pub(crate) allowed: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) denied: u64,
}

/// The name of a bucket, as its proxy wrote it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BucketId {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<IdEntry>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
struct IdEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// What a proxy is to do.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Actions {
    #[prost(message, repeated, tag = "1")]
    pub(crate) actions: Vec<Action>,
}

/// What a proxy is to do with one bucket.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Action {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<BucketId>,
    #[prost(oneof = "Kind", tags = "2, 3")]
    pub(crate) kind: Option<Kind>,
}

/// The kind of an action.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "2")]
    Assign(QuotaAssignmentAction),
    #[prost(message, tag = "3")]
    Abandon(AbandonAction),
}

impl Usage {
    /// The time that the proxy says has passed, in nanoseconds; 0 for none or a negative one.
    pub(crate) fn elapsed(&self) -> u64 {
        let Some(elapsed) = &self.elapsed else { return 0 };
        let seconds = u64::try_from(elapsed.seconds).unwrap_or(0);
        let nanos = u64::try_from(elapsed.nanos).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    }
}

impl BucketId {
    /// The id with its entries in the order of their keys, in which an id is always the same; `None` if it is
    /// empty, too large, has a key twice, or is not UTF-8. Envoy could not read an answer about such an id, and
    /// would end the stream of all its buckets.
    pub(crate) fn sorted(mut self) -> Option<Self> {
        self.entries.sort_unstable();
        let size: usize = self.entries.iter().map(|it| it.key.len() + it.value.len()).sum();
        let is_bounded = (1..=MAX_ENTRIES).contains(&self.entries.len()) && size <= MAX_ID;
        let is_map =
            self.entries.iter().zip(self.entries.iter().skip(1)).all(|(a, b)| a.key != b.key);
        let is_text = |bytes: &[u8]| core::str::from_utf8(bytes).is_ok();
        let all_text = self.entries.iter().all(|it| is_text(&it.key) && is_text(&it.value));
        (is_bounded && is_map && all_text).then_some(self)
    }

    /// The descriptor that rules match: the entries in the order of their keys.
    pub(crate) fn descriptor(&self) -> Vec<Entry> {
        let entry = |it: &IdEntry| Entry {
            key: into_text(it.key.clone()),
            value: into_text(it.value.clone()),
        };
        self.entries.iter().map(entry).collect()
    }
}

impl Action {
    /// Gives the bucket a quota for a time.
    pub(crate) fn assign(id: BucketId, quota: Quota, seconds: u64) -> Self {
        match quota {
            Quota::Nothing => Self::blanket(id, BlanketRule::DenyAll, seconds),
            Quota::Bucket { max_tokens, refill: RefillRate { tokens, seconds: interval } } => {
                let fill_interval = Some(whole(u64::from(interval)));
                let tokens_per_fill = Some(UInt32Value { value: tokens });
                let bucket = TokenBucket { max_tokens, tokens_per_fill, fill_interval };
                Self::of(id, Strategy::TokenBucket(bucket), seconds)
            }
        }
    }

    /// Allows or denies all requests of the bucket for a time.
    pub(crate) fn blanket(id: BucketId, rule: BlanketRule, seconds: u64) -> Self {
        Self::of(id, Strategy::BlanketRule(rule.into()), seconds)
    }

    /// Lets the proxy forget the bucket.
    pub(crate) const fn abandon(id: BucketId) -> Self {
        Self { id: Some(id), kind: Some(Kind::Abandon(AbandonAction {})) }
    }

    fn of(id: BucketId, strategy: Strategy, seconds: u64) -> Self {
        let assignment = QuotaAssignmentAction {
            assignment_time_to_live: Some(whole(seconds)),
            rate_limit_strategy: Some(RateLimitStrategy { strategy: Some(strategy) }),
        };
        Self { id: Some(id), kind: Some(Kind::Assign(assignment)) }
    }
}

/// Envoy takes whole seconds only.
fn whole(seconds: u64) -> Duration {
    Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::rate_limit_quota::v3 as pb;

    use super::*;

    fn id(pairs: &[(&[u8], &[u8])]) -> BucketId {
        let entry =
            |&(key, value): &(&[u8], &[u8])| IdEntry { key: key.to_vec(), value: value.to_vec() };
        BucketId { entries: pairs.iter().map(entry).collect() }
    }

    #[test]
    fn reports_are_read_as_the_generated_codec_reads_them() -> Result<(), prost::DecodeError> {
        let bucket = [("b", "2"), ("a", "1")];
        let bucket = bucket.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let reports = pb::RateLimitQuotaUsageReports {
            domain: "edge".to_owned(),
            bucket_quota_usages: vec![pb::rate_limit_quota_usage_reports::BucketQuotaUsage {
                bucket_id: Some(pb::BucketId { bucket }),
                time_elapsed: Some(Duration { seconds: 2, nanos: 500 }),
                num_requests_allowed: 7,
                num_requests_denied: 9,
            }],
        };
        let read = Reports::decode(&*reports.encode_to_vec())?;
        assert_eq!(read.domain, b"edge");
        let usage = read.usages.first().cloned().unwrap_or_default();
        assert_eq!((usage.elapsed(), usage.allowed, usage.denied), (2_000_000_500, 7, 9));
        let sorted = usage.id.and_then(BucketId::sorted);
        assert_eq!(sorted, Some(id(&[(b"a", b"1"), (b"b", b"2")])));
        Ok(())
    }

    #[test]
    fn actions_are_written_as_the_generated_codec_writes_them() -> Result<(), prost::DecodeError> {
        let refill = RefillRate { tokens: 33, seconds: 2 };
        let quota = Quota::Bucket { max_tokens: 4, refill };
        let own = || id(&[(b"a", b"1")]);
        let actions = vec![
            Action::assign(own(), quota, 3),
            Action::assign(own(), Quota::Nothing, 1),
            Action::abandon(own()),
        ];
        let bytes = Actions { actions }.encode_to_vec();
        let read = pb::RateLimitQuotaResponse::decode(&*bytes)?;
        assert_eq!(read.encode_to_vec(), bytes);
        let ids = read.bucket_action.iter().filter_map(|action| action.bucket_id.as_ref());
        assert_eq!(
            ids.filter(|id| id.bucket.get("a").is_some_and(|value| value == "1")).count(),
            3
        );
        Ok(())
    }

    #[test]
    fn ids_are_bounded_maps_of_texts() {
        assert_eq!(id(&[]).sorted(), None);
        assert_eq!(id(&[(b"a", b"1"), (b"a", b"2")]).sorted(), None);
        assert_eq!(id(&[(b"a", &[b'x'; 1024])]).sorted(), None);
        let keys: Vec<[u8; 1]> = (0..21).map(|key| [key]).collect();
        let many: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &b""[..])).collect();
        assert_eq!(id(&many).sorted(), None);
        assert!(id(many.get(1..).unwrap_or_default()).sorted().is_some());
        let strange = id(&[(b"z", "é".as_bytes()), (b"a", b"")]).sorted();
        assert_eq!(id(&[(b"z", b"\xFF")]).sorted(), None);
        assert_eq!(id(&[(b"\xFF", b"")]).sorted(), None);
        let entries = strange.map(|id| id.descriptor()).unwrap_or_default();
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["a", "z"]);
        assert!(entries.iter().any(|entry| entry.value == "é"));
    }
}
