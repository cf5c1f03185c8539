//! Tests of the metrics of rules, of shadow rules, and of stores that need no server.

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use crate::TestResult;
use crate::process::{Service, check};

#[tokio::test]
async fn every_rule_counts_what_it_decides() -> TestResult {
    let service = Service::with_rules(
        r#"
        [[rules]]
        name = 'a "quoted" name'
        match = [{ key = "api_key", value = "shadowed" }]
        limits = ["1/h"]
        shadow = true

        [[rules]]
        match = ["api_key"]
        limits = ["10/h"]
        "#,
    )
    .await?;
    let client = &mut service.client().await?;
    for (key, hits, count) in [("user", 1, 11), ("user", 11, 1), ("shadowed", 1, 3)] {
        for _ in 0..count {
            check(client, key, hits).await?;
        }
    }
    let (_, metrics) = service.get("/metrics")?;
    for line in [
        r#"tidegate_rule_descriptors_total{rule="rules[1]"} 12"#,
        r#"tidegate_rule_decisions_total{rule="rules[1]",result="within"} 8"#,
        r#"tidegate_rule_decisions_total{rule="rules[1]",result="near"} 2"#,
        r#"tidegate_rule_decisions_total{rule="rules[1]",result="over"} 2"#,
        r#"tidegate_failures_total{reason="cost_too_large",rule="rules[1]"} 1"#,
        r#"tidegate_rule_shadow_total{rule="rules[1]"} 0"#,
        r#"tidegate_rule_descriptors_total{rule="a \"quoted\" name"} 3"#,
        r#"tidegate_rule_decisions_total{rule="a \"quoted\" name",result="over"} 2"#,
        r#"tidegate_rule_shadow_total{rule="a \"quoted\" name"} 2"#,
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("user"), "no value of a client is in {metrics}");
    Ok(())
}

#[tokio::test]
async fn a_service_in_shadow_refuses_nothing() -> TestResult {
    let service = Service::start(&["--limit", "1/h", "--shadow"]).await?;
    let client = &mut service.client().await?;
    for hits in [1, 1, 2] {
        assert_eq!(check(client, "user", hits).await?.0, Code::Ok);
    }
    let (_, metrics) = service.get("/metrics")?;
    let line = r#"tidegate_rule_shadow_total{rule="--limit"} 2"#;
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_limit_is_all_that_a_service_by_itself_needs() -> TestResult {
    let service = Service::start(&["--limit", "1/h"]).await?;
    let client = &mut service.client().await?;
    assert_eq!(check(client, "user", 1).await?.0, Code::Ok);
    assert_eq!(check(client, "user", 1).await?.0, Code::OverLimit);
    let log = service.log()?;
    assert!(log.contains("the buckets are in the memory of this process"), "{log}");
    assert!(log.contains("\"store\":\"memory://\""), "{log}");
    Ok(())
}

#[tokio::test]
async fn services_of_one_host_share_buckets_without_a_server() -> TestResult {
    let directory = tempfile::tempdir()?;
    let url = format!("shm://shared?dir={}", directory.path().to_str().ok_or("path")?);
    let arguments = ["--store", &url, "--limit", "3/h"];
    let (one, other) = (Service::start(&arguments).await?, Service::start(&arguments).await?);
    assert_eq!(check(&mut one.client().await?, "user", 2).await?.1.limit_remaining, 1);
    assert_eq!(check(&mut other.client().await?, "user", 1).await?.1.limit_remaining, 0);
    assert_eq!(check(&mut one.client().await?, "user", 1).await?.0, Code::OverLimit);
    Ok(())
}
