//! Tests of the JSON API over HTTP.

use crate::TestResult;
use crate::process::{Failed, Service, check};
use crate::redis::Redis;

/// Two limits under one name, a rule that only counts, and a limit in front of all.
const RULES: &str = r#"
[[rules]]
has = ["tried"]
limits = ["1/h"]
shadow = true
continue = true

[[rules]]
name = "plan"
limits = ["3/h", { name = "daily", limit = "100/d" }]
"#;

fn number(body: &str, field: &str) -> Result<u64, Failed> {
    let after = body.split_once(&format!("\"{field}\":")).ok_or_else(|| body.to_owned())?.1;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

#[tokio::test]
async fn a_check_says_what_every_limit_says() -> TestResult {
    let service = Service::with_rules(RULES).await?;
    let (code, head, body) = service.post("/v1/check", r#"{"key":"ann","hits":2}"#)?;
    assert_eq!(code, 200, "{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(body.contains(r#""allowed":true,"descriptors":[{"allowed":true,"rules":["#), "{body}");
    assert!(body.contains(r#""limit":"3/h","remaining":1"#), "{body}");
    assert!(body.contains(r#""limit":"daily","remaining":98"#), "{body}");
    assert!(body.contains(r#""rule":"plan","shadow":false"#), "{body}");

    // The bucket is the one of gRPC.
    assert_eq!(check(&mut service.client().await?, "ann", 1).await?.1.limit_remaining, 0);
    let (code, head, body) = service.post("/v1/check", r#"{"key":"ann"}"#)?;
    assert_eq!(code, 429, "{body}");
    let wait = number(&body, "retry_after_ms")?;
    assert!((1_000_000..=1_200_000).contains(&wait), "{body}");
    assert!(head.contains(&format!("retry-after: {}", wait.div_ceil(1000))), "{head} {body}");
    let (code, head, body) = service.post("/v1/check", r#"{"key":"ann","hits":4}"#)?;
    assert_eq!(code, 429);
    assert!(body.contains(r#""retry_after_ms":null"#), "no wait is long enough: {body}");
    assert!(!head.contains("retry-after"), "{head}");
    assert_eq!(service.post("/v1/check", r#"{"key":"ann","hits":0}"#)?.0, 200, "only looks");

    let both = r#"{"domain":"edge","descriptors":[
        {"entries":[{"key":"tried","value":"x"}],"hits":2},
        {"entries":[{"key":"k","value":"ben"}]}]}"#;
    let (code, _, body) = service.post("/v1/check", both)?;
    assert_eq!(code, 200, "a rule in shadow refuses nothing: {body}");
    let shadow =
        r#"{"allowed":false,"limits":[],"retry_after_ms":null,"rule":"rules[0]","shadow":true}"#;
    assert!(body.contains(shadow), "{body}");
    Ok(())
}

#[tokio::test]
async fn clients_of_envoyproxy_are_answered_as_there() -> TestResult {
    let service = Service::start(&["--limit", "2/min window"]).await?;
    let body = r#"{"domain":"dummy","descriptors":[
        {"entries":[{"key":"one_per_day","value":"something"}]}]}"#;
    let (code, _, answer) = service.post("/json", body)?;
    assert_eq!(code, 200, "{answer}");
    let start = r#"{"overallCode":"OK","statuses":[{"code":"OK","currentLimit":{"name":"2/min window","requestsPerUnit":2,"unit":"MINUTE"},"durationUntilReset":""#;
    assert!(answer.starts_with(start), "{answer}");
    assert!(answer.trim_end().ends_with(r#"s","limitRemaining":1}]}"#), "{answer}");
    let costly = body.replacen('{', r#"{"hitsAddend":3,"#, 1);
    let (code, _, answer) = service.post("/json", &costly)?;
    assert_eq!(code, 429);
    assert!(answer.contains(r#""overallCode":"OVER_LIMIT""#), "{answer}");
    Ok(())
}

#[tokio::test]
async fn wrong_bodies_are_told_and_bounded() -> TestResult {
    let service = Service::start(&["--limit", "9/h", "--max-message-size", "1024"]).await?;
    let large = format!(r#"{{"key":"{}"}}"#, "x".repeat(1024));
    for (path, body, code, said) in [
        ("/v1/check", "[", 400, "EOF while parsing"),
        ("/v1/check", r#"{"kay":"x"}"#, 400, "unknown field `kay`"),
        ("/v1/check", "{}", 400, "give either `key` or `descriptors`"),
        ("/v1/check", r#"{"key":"x","hits":-1}"#, 400, "invalid value"),
        ("/v1/check", r#"{"descriptors":[{"entries":[]}]}"#, 400, "descriptors[0].entries: there"),
        ("/v1/check", &large, 413, "--max-message-size: a body has at most 1024 bytes"),
        ("/json", r#"{"domain":"d"}"#, 400, "descriptors: there must be 1 to 100"),
        ("/json", "", 400, "EOF while parsing"),
        ("/json", &large, 413, "--max-message-size"),
    ] {
        let (found, _, answer) = service.post(path, body)?;
        assert_eq!(found, code, "{path} {answer}");
        assert!(answer.contains(said), "{answer} is not {said}");
        assert!(answer.starts_with(r#"{"error":"invalid_argument","message":"#), "{answer}");
    }
    assert_eq!(service.get("/v1/check")?.0, 405);
    Ok(())
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_of_the_server() -> TestResult {
    let mut redis = Redis::start().await?;
    redis.kill()?;
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let service = Service::start(&["--store", &url, "--limit", "9/h"]).await?;
    let (code, _, answer) = service.post("/v1/check", r#"{"key":"x"}"#)?;
    assert_eq!(code, 503, "{answer}");
    assert!(
        answer.starts_with(r#"{"error":"store_error","message":"descriptors[0]: "#),
        "{answer}"
    );
    let body = r#"{"domain":"d","descriptors":[{"entries":[{"key":"k","value":"x"}]}]}"#;
    assert_eq!(service.post("/json", body)?.0, 500);
    let service =
        Service::start(&["--store", &url, "--limit", "9/h", "--on-store-error", "allow"]).await?;
    assert_eq!(service.post("/json", body)?.0, 200);
    Ok(())
}
