//! The rate limit quota service, asked over real streams.

use core::time::Duration;
use std::time::Instant;

use envoy_types::pb::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::BucketAction;
use envoy_types::pb::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::bucket_action::BucketAction as Kind;
use envoy_types::pb::envoy::service::rate_limit_quota::v3::rate_limit_quota_service_client::RateLimitQuotaServiceClient;
use envoy_types::pb::envoy::service::rate_limit_quota::v3::rate_limit_quota_usage_reports::BucketQuotaUsage;
use envoy_types::pb::envoy::service::rate_limit_quota::v3::{
    BucketId, RateLimitQuotaResponse, RateLimitQuotaUsageReports,
};
use envoy_types::pb::envoy::r#type::v3::rate_limit_strategy::{BlanketRule, Strategy};
use envoy_types::pb::google::protobuf::Duration as PbDuration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::TestResult;
use crate::process::{Failed, Service, eventually};
use crate::redis::Redis;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A proxy: one stream, and what it was last told.
struct Proxy {
    reports: mpsc::Sender<RateLimitQuotaUsageReports>,
    actions: Streaming<RateLimitQuotaResponse>,
}

/// What a bucket was told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// The rate per second, the most tokens and the seconds for which they are given.
    Tokens(f64, u32, i64),
    Allow,
    Deny,
    Abandon,
}

impl Proxy {
    async fn connect(service: &Service) -> Result<Self, Failed> {
        let address = format!("http://127.0.0.1:{}", service.grpc);
        let mut client = RateLimitQuotaServiceClient::connect(address).await?;
        let (reports, receiver) = mpsc::channel(16);
        let receiver = futures_util::stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        });
        let actions = client.stream_rate_limit_quotas(receiver).await?.into_inner();
        Ok(Self { reports, actions })
    }

    async fn report(&self, domain: &str, usages: Vec<BucketQuotaUsage>) -> TestResult {
        let reports =
            RateLimitQuotaUsageReports { domain: domain.to_owned(), bucket_quota_usages: usages };
        Ok(self.reports.send(reports).await?)
    }

    /// The next answer about the bucket.
    async fn told(&mut self, id: &BucketId) -> Result<Told, Failed> {
        loop {
            let message = timeout(TIMEOUT, self.actions.message()).await??;
            let message = message.ok_or("the stream has ended")?;
            for action in message.bucket_action {
                if action.bucket_id.as_ref() == Some(id) {
                    return told(&action);
                }
            }
        }
    }

    async fn told_until(
        &mut self,
        id: &BucketId,
        holds: impl Fn(Told) -> bool,
    ) -> Result<Told, Failed> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let told = self.told(id).await?;
            if holds(told) {
                return Ok(told);
            }
            if Instant::now() > deadline {
                return Err(format!("still {told:?}").into());
            }
        }
    }

    async fn ended(&mut self) -> Result<Option<Status>, Failed> {
        loop {
            match timeout(TIMEOUT, self.actions.message()).await? {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(status) => return Ok(Some(status)),
            }
        }
    }
}

fn told(action: &BucketAction) -> Result<Told, Failed> {
    let assignment = match action.bucket_action.as_ref().ok_or("no action")? {
        Kind::AbandonAction(_) => return Ok(Told::Abandon),
        Kind::QuotaAssignmentAction(assignment) => assignment,
    };
    let ttl = assignment.assignment_time_to_live.as_ref().ok_or("no ttl")?;
    // Envoy takes whole seconds, and none of them would end the assignment at once.
    assert!(ttl.nanos == 0 && ttl.seconds >= 1, "{ttl:?}");
    let strategy = assignment.rate_limit_strategy.as_ref().ok_or("no strategy")?;
    Ok(match strategy.strategy.as_ref().ok_or("no strategy")? {
        Strategy::BlanketRule(rule) if *rule == i32::from(BlanketRule::AllowAll) => Told::Allow,
        Strategy::BlanketRule(_) => Told::Deny,
        Strategy::TokenBucket(bucket) => {
            let interval = bucket.fill_interval.as_ref().ok_or("no interval")?;
            assert!(interval.nanos == 0 && interval.seconds >= 1, "{interval:?}");
            let tokens = bucket.tokens_per_fill.as_ref().ok_or("no tokens")?.value;
            let seconds = f64::from(u32::try_from(interval.seconds)?);
            Told::Tokens(f64::from(tokens) / seconds, bucket.max_tokens, ttl.seconds)
        }
        Strategy::RequestsPerTimeUnit(_) => return Err("Envoy knows no such strategy".into()),
    })
}

fn id(pairs: &[(&str, &str)]) -> BucketId {
    let bucket = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    BucketId { bucket: bucket.collect() }
}

fn usage(id: &BucketId, allowed: u64, denied: u64) -> BucketQuotaUsage {
    BucketQuotaUsage {
        bucket_id: Some(id.clone()),
        time_elapsed: Some(PbDuration { seconds: 0, nanos: 0 }),
        num_requests_allowed: allowed,
        num_requests_denied: denied,
    }
}

async fn serve(store: &str, limit: &str) -> Result<Service, Failed> {
    Service::start(&["--store", store, "--limit", limit, "--rlqs"]).await
}

#[tokio::test]
async fn one_limit_is_divided_over_streams_and_comes_back_when_they_end() -> TestResult {
    let redis = Redis::start().await?;
    for store in ["memory://", redis.url().as_str()] {
        let service = serve(store, "100/s").await?;
        let bucket = id(&[("name", "all")]);
        let mut first = Proxy::connect(&service).await?;
        first.report("edge", vec![usage(&bucket, 1, 0)]).await?;
        let told = first.told(&bucket).await?;
        let Told::Tokens(rate, max_tokens, ttl) = told else { return Err("no tokens".into()) };
        assert!((90.0..=104.0).contains(&rate) && max_tokens <= 6 && ttl == 2, "{told:?}");

        // A second one gets half of it, for which the first one gives up half of its own.
        let mut second = Proxy::connect(&service).await?;
        second.report("edge", vec![usage(&bucket, 1, 0)]).await?;
        let is_half =
            |told| matches!(told, Told::Tokens(rate, ..) if (45.0..=54.0).contains(&rate));
        first.told_until(&bucket, is_half).await?;
        second.told_until(&bucket, is_half).await?;

        // The first one ends: the other has all of it again.
        drop(first);
        second
            .told_until(&bucket, |told| matches!(told, Told::Tokens(rate, ..) if rate >= 90.0))
            .await?;
        drop(second);
        eventually(async || {
            let (_, metrics) = service.get("/metrics")?;
            let is_free = ["tidegate_rlqs_streams 0\n", "tidegate_rlqs_buckets 0\n"];
            match is_free.iter().all(|line| metrics.contains(line)) {
                true => Ok(()),
                false => Err(metrics.into()),
            }
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn rules_decide_what_a_bucket_is_told() -> TestResult {
    let rules = r#"
        [[rules]]
        match = ["a", "b"]
        limits = ["5/min"]

        [[rules]]
        match = ["free"]
        limits = ["unlimited"]

        [[rules]]
        match = ["closed"]
        limits = ["none"]

        [[rules]]
        match = ["watched"]
        limits = ["1/s"]
        shadow = true

        [[rules]]
        match = ["slow"]
        limits = ["10/d"]

        [[rules]]
        match = ["costly"]
        limits = [{ limit = "10/s", cost = 2 }]
    "#;
    let service = Service::with_rules_and(rules, &["--rlqs"]).await?;
    let mut proxy = Proxy::connect(&service).await?;
    let ids = |key| id(&[(key, "1")]);
    let [free, closed, watched, unknown] = ["free", "closed", "watched", "unknown"].map(ids);
    // The order of a map's entries says nothing.
    let slow = id(&[("b", "2"), ("a", "1")]);
    let without = ["slow", "costly"].map(|key| usage(&ids(key), 1, 0));
    let all = [&free, &closed, &watched, &unknown, &slow].map(|id| usage(id, 1, 0));
    proxy.report("edge", [&without[..], &all[..]].concat()).await?;
    let message = timeout(TIMEOUT, proxy.actions.message()).await??.ok_or("no answer")?;
    assert_eq!(message.bucket_action.len(), 5, "{message:?}");
    let of = |id: &BucketId| {
        let action = message.bucket_action.iter().find(|it| it.bucket_id.as_ref() == Some(id));
        told(action.ok_or("no action")?)
    };
    assert_eq!(of(&free)?, Told::Allow);
    assert_eq!(of(&watched)?, Told::Allow);
    assert_eq!(of(&unknown)?, Told::Allow);
    assert_eq!(of(&closed)?, Told::Deny);
    let Told::Tokens(rate, max_tokens, ttl) = of(&slow)? else { return Err("no tokens".into()) };
    assert!(rate > 0.05 && rate <= 5.0 / 60.0 && max_tokens == 1 && ttl >= 58, "{rate} {ttl}");
    let (_, metrics) = service.get("/metrics")?;
    for line in [
        "tidegate_failures_total{reason=\"quota_too_slow\",rule=\"rules[4]\"} 1",
        "tidegate_failures_total{reason=\"quota_cost\",rule=\"rules[5]\"} 1",
        "tidegate_unmatched_descriptors_total 1",
        "tidegate_rlqs_streams 1",
        "tidegate_rlqs_buckets 7",
        "tidegate_rlqs_reports_total 7",
        "tidegate_rlqs_actions_total{action=\"token_bucket\"} 1",
        "tidegate_rlqs_actions_total{action=\"allow_all\"} 3",
        "tidegate_rlqs_actions_total{action=\"deny_all\"} 1",
        "tidegate_rlqs_actions_total{action=\"abandon\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }

    // A reload reaches streams that are open.
    service.write_rules("[[rules]]\nmatch = [\"closed\"]\nlimits = [\"unlimited\"]\n")?;
    service.send("HUP")?;
    proxy.told_until(&closed, |told| told == Told::Allow).await?;
    Ok(())
}

#[tokio::test]
async fn a_bad_report_harms_only_its_bucket_and_a_bad_message_only_its_stream() -> TestResult {
    let service = serve("memory://", "100/s").await?;
    let (good, long) = (id(&[("name", "all")]), id(&[("name", &"x".repeat(2000))]));
    let mut proxy = Proxy::connect(&service).await?;
    let mut other = Proxy::connect(&service).await?;
    let absurd = BucketQuotaUsage {
        time_elapsed: Some(PbDuration { seconds: -1, nanos: i32::MIN }),
        ..usage(&id(&[("name", "absurd")]), u64::MAX, u64::MAX)
    };
    let nameless = BucketQuotaUsage { bucket_id: None, ..usage(&good, 1, 0) };
    let bad = vec![usage(&id(&[]), 1, 0), usage(&long, 1, 0), nameless, absurd];
    proxy.report("edge", [bad, vec![usage(&good, 1, 0)]].concat()).await?;
    assert!(matches!(proxy.told(&good).await?, Told::Tokens(rate, ..) if rate > 90.0));
    let (_, metrics) = service.get("/metrics")?;
    let failures = "tidegate_failures_total{reason=\"bucket_id\",rule=\"\"} 3\n";
    assert!(metrics.contains(failures), "{metrics}");

    // More buckets than a stream may have.
    let many = (0..5_000).map(|number| usage(&id(&[("name", &number.to_string())]), 1, 0));
    other.report("edge", many.collect()).await?;
    other.told(&id(&[("name", "7")])).await?;
    let (_, metrics) = service.get("/metrics")?;
    let failures = "tidegate_failures_total{reason=\"too_many_buckets\",rule=\"\"} 904\n";
    assert!(metrics.contains(failures), "{metrics}");

    // Neither a stream without a domain nor one that changes it.
    let mut nowhere = Proxy::connect(&service).await?;
    nowhere.report("", vec![usage(&good, 1, 0)]).await?;
    assert_eq!(nowhere.ended().await?.map(|it| it.code()), Some(Code::InvalidArgument));
    other.report("other", vec![]).await?;
    assert_eq!(other.ended().await?.map(|it| it.code()), Some(Code::InvalidArgument));
    proxy.report("", vec![usage(&good, 10, 0)]).await?;
    proxy.told(&good).await?;
    Ok(())
}

#[tokio::test]
async fn without_redis_nothing_is_assigned_and_with_it_again_all_is() -> TestResult {
    let mut redis = Redis::start().await?;
    let service = serve(&redis.url(), "100/s").await?;
    let bucket = id(&[("name", "all")]);
    let mut proxy = Proxy::connect(&service).await?;
    proxy.report("edge", vec![usage(&bucket, 1, 0)]).await?;
    proxy.told(&bucket).await?;
    redis.kill()?;
    eventually(async || {
        proxy.report("edge", vec![usage(&bucket, 50, 0)]).await?;
        let (_, metrics) = service.get("/metrics")?;
        match metrics.contains("reason=\"store_") {
            true => Ok(()),
            false => Err(metrics.into()),
        }
    })
    .await?;
    redis.restart().await?;
    let (mut answered, deadline) = (false, Instant::now() + TIMEOUT);
    while !answered && Instant::now() < deadline {
        proxy.report("edge", vec![usage(&bucket, 50, 0)]).await?;
        let next = timeout(Duration::from_millis(200), proxy.told(&bucket)).await;
        answered = matches!(next, Ok(Ok(Told::Tokens(..))));
    }
    assert!(answered, "nothing is assigned any more");
    Ok(())
}

#[tokio::test]
async fn streams_end_when_the_service_stops_and_are_not_served_without_the_option() -> TestResult {
    let mut service = serve("memory://", "100/s").await?;
    let mut proxy = Proxy::connect(&service).await?;
    proxy.report("edge", vec![usage(&id(&[("name", "all")]), 1, 0)]).await?;
    proxy.told(&id(&[("name", "all")])).await?;
    service.send("TERM")?;
    proxy.ended().await?;
    assert!(service.exited().await?.success());
    let other = Service::start(&["--store", "memory://", "--limit", "100/s"]).await?;
    let refused = Proxy::connect(&other).await.err().map(|error| error.to_string());
    assert!(
        refused.is_some_and(
            |error| error.contains("not implemented") || error.contains("Unimplemented")
        )
    );
    Ok(())
}
