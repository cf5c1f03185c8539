//! Tests of requests and their responses, on memory.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::google::protobuf::UInt64Value;
use tonic::Code as Grpc;

use crate::TestResult;
use crate::process::{Service, ask, check, descriptor, request, tidegate_error};

const MEMORY: [&str; 2] = ["--store", "memory://"];

async fn on_memory(limits: &[&str]) -> Result<Service, crate::process::Failed> {
    Service::start(&[&MEMORY[..], limits].concat()).await
}

#[tokio::test]
async fn a_bucket_allows_until_it_is_spent_and_then_refuses() -> TestResult {
    let service = on_memory(&["--limit", "10/h burst 3"]).await?;
    let client = &mut service.client().await?;
    let (code, status) = check(client, "user", 0).await?;
    assert_eq!((code, status.code(), status.limit_remaining), (Code::Ok, Code::Ok, 2));
    let limit = status.current_limit.ok_or("no limit")?;
    assert_eq!(
        (limit.name.as_str(), limit.requests_per_unit, limit.unit()),
        ("10/h burst 3", 10, Unit::Hour)
    );
    let full = status.duration_until_reset.ok_or("no time")?;
    assert_eq!((full.seconds, full.nanos), (360, 0));

    assert_eq!(check(client, "user", 2).await?.0, Code::Ok);
    let (code, status) = check(client, "user", 1).await?;
    assert_eq!(
        (code, status.code(), status.limit_remaining),
        (Code::OverLimit, Code::OverLimit, 0)
    );
    let retry = status.duration_until_reset.ok_or("no time")?.seconds;
    assert!((350..360).contains(&retry), "{retry}");

    assert_eq!(check(client, "other", 1).await?.0, Code::Ok);
    let response = ask(client, request("third", 1)).await?;
    assert!(response.response_headers_to_add.is_empty());
    assert!(response.request_headers_to_add.is_empty());
    assert!(response.raw_body.is_empty() && response.quota.is_none());
    Ok(())
}

#[tokio::test]
async fn a_limit_with_another_period_is_not_shown() -> TestResult {
    let service = on_memory(&["--limit", "10/2s"]).await?;
    let (_, status) = check(&mut service.client().await?, "user", 1).await?;
    assert_eq!((status.current_limit, status.limit_remaining), (None, 9));
    Ok(())
}

#[tokio::test]
async fn the_tier_that_binds_is_reported() -> TestResult {
    let service = on_memory(&["--limit", "100/s", "--limit", "5/d"]).await?;
    let (_, status) = check(&mut service.client().await?, "user", 2).await?;
    let limit = status.current_limit.ok_or("no limit")?;
    assert_eq!((limit.unit(), status.limit_remaining), (Unit::Day, 3));
    Ok(())
}

#[tokio::test]
async fn hits_come_from_the_descriptor_then_the_request_then_one() -> TestResult {
    let service = on_memory(&["--limit", "10/h"]).await?;
    let client = &mut service.client().await?;
    let with_own = |own: Option<u64>, request: u32| {
        let mut descriptor = descriptor(&[("api_key", "user")]);
        descriptor.hits_addend = own.map(|value| UInt64Value { value });
        RateLimitRequest {
            domain: "edge".to_owned(),
            descriptors: vec![descriptor],
            hits_addend: request,
        }
    };
    for (own, in_request, remaining) in
        [(None, 0, 9), (None, 3, 6), (Some(2), 3, 4), (Some(0), 3, 4), (Some(4), 0, 0)]
    {
        let response = ask(client, with_own(own, in_request)).await?;
        assert_eq!(response.statuses[0].limit_remaining, remaining, "{own:?} {in_request}");
    }
    let peek = ask(client, with_own(Some(0), 0)).await?;
    assert_eq!(peek.overall_code(), Code::Ok);
    Ok(())
}

#[tokio::test]
async fn each_descriptor_spends_from_its_own_bucket_and_any_can_refuse() -> TestResult {
    let service = on_memory(&["--limit", "2/h"]).await?;
    let client = &mut service.client().await?;
    let both = || RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors: vec![descriptor(&[("k", "a")]), descriptor(&[("k", "b")])],
        hits_addend: 1,
    };
    check(client, "a", 2).await?;
    let response = ask(client, both()).await?;
    let codes: Vec<_> = response.statuses.iter().map(|status| status.code()).collect();
    assert_eq!(codes, [Code::OverLimit, Code::Ok]);
    assert_eq!(response.overall_code(), Code::OverLimit);
    // Descriptors are not all or nothing: b is charged although a has refused.
    assert_eq!(check(client, "b", 1).await?.1.limit_remaining, 0);
    Ok(())
}

#[tokio::test]
async fn bad_requests_name_the_field_and_the_bound_and_spend_nothing() -> TestResult {
    let service = on_memory(&["--limit", "10/h"]).await?;
    let client = &mut service.client().await?;
    let good = || descriptor(&[("k", "good")]);
    let with =
        |descriptors| RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 1 };
    let mut overridden = good();
    overridden.limit = Some(RateLimitOverride { requests_per_unit: 1, unit: 99 });
    for (request, said) in [
        (
            RateLimitRequest { domain: String::new(), ..with(vec![good()]) },
            "domain: it must not be empty",
        ),
        (with(vec![]), "descriptors: there must be 1 to 100, but there are 0"),
        (with(vec![good(); 101]), "1 to 100, but there are 101"),
        (with(vec![good(), descriptor(&[])]), "descriptors[1].entries: there must be at least 1"),
        (with(vec![good(), overridden]), "descriptors[1].limit: 99 is not a unit of time"),
    ] {
        let error = ask(client, request).await.err().ok_or(said)?;
        let code = (error.code(), tidegate_error(&error));
        assert_eq!(code, (Grpc::InvalidArgument, "invalid_argument"));
        assert!(error.message().contains(said), "{} is not {said}", error.message());
    }
    // Two requests had a good descriptor beside the bad one.
    assert_eq!(check(client, "good", 0).await?.1.limit_remaining, 7, "the good ones were charged");
    let too_large = "x".repeat(1 << 20);
    let error = ask(client, request(&too_large, 1)).await.err().ok_or("taken")?;
    assert_eq!(error.code(), Grpc::OutOfRange);
    let (_, metrics) = service.get("/metrics")?;
    let undecodable = "tidegate_failures_total{reason=\"undecodable\",rule=\"\"} 1";
    assert!(metrics.contains(undecodable), "{metrics}");
    let invalid = "tidegate_failures_total{reason=\"invalid_argument\",rule=\"\"} 5";
    assert!(metrics.contains(invalid), "{metrics}");
    let log = service.log()?;
    for reason in ["undecodable", "invalid_argument"] {
        let line = format!("\"reason\":\"{reason}\"");
        assert_eq!(log.matches(&line).count(), 1, "one line for each reason: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_descriptor_that_cannot_be_decided_hides_no_refusal() -> TestResult {
    let service = on_memory(&["--limit", "1/h"]).await?;
    let client = &mut service.client().await?;
    let request = || RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors: vec![descriptor(&[]), descriptor(&[("k", "a")])],
        hits_addend: 1,
    };
    let error = ask(client, request()).await.err().ok_or("allowed")?;
    assert_eq!(error.code(), Grpc::InvalidArgument);
    let response = ask(client, request()).await?;
    let codes: Vec<_> = response.statuses.iter().map(|status| status.code()).collect();
    assert_eq!(response.overall_code(), Code::OverLimit, "the bucket was charged");
    assert_eq!(codes, [Code::Unknown, Code::OverLimit]);
    Ok(())
}

#[tokio::test]
async fn a_descriptor_may_bring_its_own_limit_up_to_the_largest() -> TestResult {
    let service = on_memory(&["--limit", "10/h", "--max-override", "4/h"]).await?;
    let client = &mut service.client().await?;
    let with = |requests_per_unit| {
        let mut own = descriptor(&[("k", "user")]);
        own.limit = Some(RateLimitOverride { requests_per_unit, unit: 3 });
        let descriptors = vec![own, descriptor(&[("k", "user")])];
        RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 1 }
    };
    for (own, remaining) in [(2, [1, 9]), (2, [0, 8]), (4, [3, 7]), (1_000_000, [2, 6])] {
        let response = ask(client, with(own)).await?;
        let found: Vec<_> = response.statuses.iter().map(|it| it.limit_remaining).collect();
        assert_eq!((response.overall_code(), found), (Code::Ok, remaining.to_vec()), "{own}");
    }
    let response = ask(client, with(2)).await?;
    let codes: Vec<_> = response.statuses.iter().map(|status| status.code()).collect();
    assert_eq!(codes, [Code::OverLimit, Code::Ok]);
    let limit = response.statuses[0].current_limit.as_ref().ok_or("no limit")?;
    assert_eq!((limit.requests_per_unit, limit.unit()), (2, Unit::Hour));

    // A descriptor without a rule is limited, too.
    let service = Service::with_rules("[[rules]]\nmatch = [\"other\"]\nlimits = [\"1/h\"]").await?;
    let client = &mut service.client().await?;
    assert_eq!(ask(client, with(1)).await?.overall_code(), Code::Ok);
    assert_eq!(ask(client, with(1)).await?.overall_code(), Code::OverLimit);
    Ok(())
}

#[tokio::test]
async fn any_key_and_any_hits_are_decided() -> TestResult {
    let service = on_memory(&["--limit", "10/h"]).await?;
    let client = &mut service.client().await?;
    for key in ["", &"x".repeat(1025), &"x".repeat(500_000)] {
        assert_eq!(check(client, key, 10).await?.0, Code::Ok);
        assert_eq!(check(client, key, 1).await?.0, Code::OverLimit);
    }
    let with = |value, is_negative_hits| {
        let mut costly = descriptor(&[("k", "costly")]);
        costly.hits_addend = Some(UInt64Value { value });
        costly.is_negative_hits = is_negative_hits;
        let descriptors = vec![costly, descriptor(&[("k", "other")])];
        RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 1 }
    };
    for hits in [11, u64::MAX] {
        let response = ask(client, with(hits, false)).await?;
        let codes: Vec<_> = response.statuses.iter().map(|status| status.code()).collect();
        assert_eq!(response.overall_code(), Code::OverLimit);
        assert_eq!(codes, [Code::OverLimit, Code::Ok]);
        let limit = response.statuses[0].current_limit.as_ref().ok_or("no limit")?;
        assert_eq!((limit.requests_per_unit, limit.unit()), (10, Unit::Hour));
    }
    assert_eq!(check(client, "other", 1).await?.1.limit_remaining, 7, "the others are charged");
    let response = ask(client, with(10, false)).await?;
    assert_eq!(response.statuses[0].limit_remaining, 0, "too many hits have charged nothing");
    let response = ask(client, with(4, true)).await?;
    assert_eq!(response.overall_code(), Code::Ok);
    assert_eq!(response.statuses[0].limit_remaining, 4, "negative hits are given back");
    Ok(())
}

#[tokio::test]
async fn the_first_matching_rule_decides_and_none_means_no_limit() -> TestResult {
    let service = Service::with_rules(
        r#"
        [[rules]]
        domain = "edge"
        match = [{ key = "path", value = "/login" }, "client"]
        key = "{client}"
        limits = [{ name = "logins", limit = "2/h" }]
        prefix = "login"

        [[rules]]
        domain = "edge"
        match = ["api_key"]
        limits = ["3/h"]
        "#,
    )
    .await?;
    let client = &mut service.client().await?;
    let request = |domain: &str, entries: &[(&str, &str)]| RateLimitRequest {
        domain: domain.to_owned(),
        descriptors: vec![descriptor(entries)],
        hits_addend: 1,
    };
    let login = ask(client, request("edge", &[("path", "/login"), ("client", "c")])).await?;
    let limit = login.statuses[0].current_limit.as_ref().ok_or("no limit")?;
    assert_eq!((limit.name.as_str(), login.statuses[0].limit_remaining), ("logins", 1));
    let keyed = ask(client, request("edge", &[("api_key", "c")])).await?;
    assert_eq!(keyed.statuses[0].limit_remaining, 2);
    for unmatched in [
        request("core", &[("api_key", "c")]),
        request("edge", &[("client", "c"), ("path", "/login")]),
        request("edge", &[("api_key", "c"), ("path", "/")]),
    ] {
        let response = ask(client, unmatched).await?;
        assert_eq!(response.overall_code(), Code::Ok);
        let status = &response.statuses[0];
        assert_eq!((status.code(), &status.current_limit), (Code::Ok, &None));
        assert!(status.duration_until_reset.is_none());
    }
    assert!(service.log()?.contains("\"no rule matches\""));
    Ok(())
}

#[tokio::test]
async fn a_shadow_rule_counts_but_never_refuses() -> TestResult {
    let mut service = Service::with_rules("[[rules]]\nlimits = [\"2/h\"]\nshadow = true").await?;
    let client = &mut service.client().await?;
    for remaining in [1, 0, 0] {
        let (code, status) = check(client, "user", 1).await?;
        assert_eq!((code, status.limit_remaining), (Code::Ok, remaining));
    }
    assert_eq!(check(client, "user", 3).await?.0, Code::Ok, "a cost above the burst");
    service.send("TERM")?;
    assert!(service.exited().await?.success());
    let log = service.log()?;
    assert!(log.contains("\"shadow_refused\":2,\"shadow_errors\":0"), "{log}");
    Ok(())
}

#[tokio::test]
async fn parallel_calls_admit_exactly_the_burst() -> TestResult {
    let service = on_memory(&["--limit", "40/h"]).await?;
    assert_eq!(crate::store::admitted_of(100, &service).await?, 40);
    Ok(())
}
