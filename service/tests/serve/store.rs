//! Tests on a real Redis: the shared bucket, and a store that fails.

use core::time::Duration;
use std::time::Instant;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tidegate::Limiter;
use tokio::task::JoinSet;
use tonic::Code as Grpc;

use crate::TestResult;
use crate::process::{Failed, Service, ask, check, eventually, request, tidegate_error};
use crate::redis::{Proxy, Redis};

/// Makes this number of parallel calls over ten connections; returns how many are allowed.
pub(crate) async fn admitted_of(calls: usize, service: &Service) -> Result<usize, Failed> {
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(service.client().await?);
    }
    let mut tasks = JoinSet::new();
    for mut client in clients.into_iter().cycle().take(calls) {
        tasks.spawn(async move { ask(&mut client, request("vendor", 1)).await });
    }
    let mut admitted = 0;
    while let Some(response) = tasks.join_next().await {
        admitted += usize::from(response??.overall_code() == Code::Ok);
    }
    Ok(admitted)
}

async fn on(redis: &Redis, more: &[&str]) -> Result<Service, Failed> {
    // The timeout is long because other tests use the same processors.
    let base = ["--store", &redis.url(), "--limit", "40/h", "--store-timeout", "2s"];
    Service::start(&[&base[..], more].concat()).await
}

#[tokio::test]
async fn parallel_calls_admit_exactly_the_burst() -> TestResult {
    let redis = Redis::start().await?;
    let service = on(&redis, &["--request-timeout", "10s"]).await?;
    assert_eq!(admitted_of(100, &service).await?, 40);
    Ok(())
}

#[tokio::test]
async fn a_limiter_elsewhere_spends_from_the_same_bucket() -> TestResult {
    let redis = Redis::start().await?;
    let service = on(&redis, &["--prefix", "shop"]).await?;
    let limiter = Limiter::builder()
        .limit("40/h")
        .store_url(&redis.url())
        .store_timeout(Duration::from_secs(2))
        .prefix("shop")
        .build()?;
    let client = &mut service.client().await?;
    assert_eq!(check(client, "50%/user", 10).await?.1.limit_remaining, 30);
    assert_eq!(limiter.check_async("50%/user", 10).await?.remaining, 20);
    assert_eq!(check(client, "50%/user", 1).await?.1.limit_remaining, 19);
    Ok(())
}

#[tokio::test]
async fn a_redis_that_stops_and_restarts() -> TestResult {
    let mut redis = Redis::start().await?;
    let mut service = on(&redis, &[]).await?;
    let client = &mut service.client().await?;
    assert_eq!(check(client, "user", 1).await?.0, Code::Ok);
    assert_eq!(service.get("/readyz")?, (200, "ready".to_owned()));

    redis.kill()?;
    for _ in 0..5 {
        let error = ask(client, request("user", 1)).await.err().ok_or("no error")?;
        assert_eq!((error.code(), tidegate_error(&error)), (Grpc::Unavailable, "store_error"));
    }
    becomes(&service, (503, "store_error")).await?;
    assert_eq!(service.get("/healthz")?, (200, "ok".to_owned()));

    redis.restart().await?;
    eventually(async || Ok(check(&mut service.client().await?, "user", 1).await?)).await?;
    becomes(&service, (200, "ready")).await?;
    redis.command("SCRIPT FLUSH")?;
    redis.command("FLUSHALL")?;
    assert_eq!(check(client, "user", 1).await?.1.limit_remaining, 39);

    service.send("TERM")?;
    assert!(service.exited().await?.success());
    let log = service.log()?;
    assert_eq!(log.matches("the store does not answer").count(), 1, "{log}");
    Ok(())
}

/// Waits for an answer of `/readyz`, which is kept for a moment.
async fn becomes(service: &Service, (status, body): (u16, &str)) -> TestResult {
    eventually(async || match service.get("/readyz")? {
        (found, text) if found == status && text == body => Ok(()),
        other => Err(format!("{other:?}").into()),
    })
    .await
}

#[tokio::test]
async fn probes_of_readiness_ask_the_store_only_now_and_then() -> TestResult {
    let redis = Redis::start().await?;
    let service = on(&redis, &[]).await?;
    redis.command("CONFIG RESETSTAT")?;
    let began = Instant::now();
    // After this time the answer of the start's ping is no longer kept.
    while began.elapsed() < Duration::from_millis(1200) {
        assert_eq!(service.get("/readyz")?, (200, "ready".to_owned()));
    }
    // Twice a second at most, however often anyone asks.
    let most = 1 + began.elapsed().as_millis() / 500;
    let script = "return(tonumber(redis.call([[INFO]],[[commandstats]])\
                  :match([[cmdstat_ping:calls=(%d+)]])))";
    let pings = redis.command(&format!("EVAL {script} 0"))?;
    let count: u128 = pings.trim_start_matches(':').parse()?;
    assert!((1..=most).contains(&count), "{count} pings, at most {most}");
    Ok(())
}

#[tokio::test]
async fn the_start_warns_of_a_store_that_evicts_buckets() -> TestResult {
    let redis = Redis::start().await?;
    redis.command("CONFIG SET maxmemory 100mb")?;
    redis.command("CONFIG SET maxmemory-policy allkeys-lru")?;
    let service = on(&redis, &[]).await?;
    eventually(async || {
        match service.log()?.contains("evicts keys by maxmemory-policy allkeys-lru") {
            true => Ok(()),
            false => Err("no warning yet".into()),
        }
    })
    .await
}

/// The value of a metric.
fn metric(service: &Service, name: &str) -> Result<u64, Failed> {
    let (status, text) = service.get("/metrics")?;
    assert_eq!(status, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.ok_or_else(|| format!("no {name} in {text}"))?.parse()?)
}

#[tokio::test]
async fn the_policy_answers_while_redis_is_down() -> TestResult {
    for (policy, code) in [
        (&["--on-store-error", "allow"][..], Code::Ok),
        (&["--on-store-error", "deny"], Code::OverLimit),
        // A share begins with an empty bucket.
        (&["--on-store-error", "local", "--peers", "4"], Code::OverLimit),
    ] {
        let mut redis = Redis::start().await?;
        let mut service = on(&redis, policy).await?;
        let client = &mut service.client().await?;
        assert_eq!(check(client, "user", 1).await?.1.limit_remaining, 39);
        assert_eq!(service.get("/readyz")?, (200, "ready".to_owned()));
        assert_eq!(metric(&service, "tidegate_store_state{state=\"closed\"}")?, 1);
        assert_eq!(metric(&service, "tidegate_fallbacks_total")?, 0);

        redis.kill()?;
        for _ in 0..5 {
            assert_eq!(check(client, "user", 1).await?.0, code, "{policy:?}");
        }
        becomes(&service, (200, "ready, without the store: store_error")).await?;
        assert_eq!(metric(&service, "tidegate_fallbacks_total")?, 5);
        assert!(metric(&service, "tidegate_store_failures_total")? >= 3);
        assert_eq!(metric(&service, "tidegate_store_state{state=\"closed\"}")?, 0);

        redis.restart().await?;
        eventually(async || {
            check(&mut service.client().await?, "back", 1).await?;
            match metric(&service, "tidegate_store_state{state=\"closed\"}")? {
                1 => Ok(()),
                _ => Err("the breaker is not closed".into()),
            }
        })
        .await?;
        assert_eq!(check(client, "user", 40).await?.0, Code::Ok, "its data is lost");
        assert_eq!(check(client, "user", 1).await?.0, Code::OverLimit);

        service.send("TERM")?;
        assert!(service.exited().await?.success());
        let log = service.log()?;
        assert_eq!(
            log.matches("the store does not answer; --on-store-error decides").count(),
            1,
            "{log}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_share_is_spent_while_redis_is_down() -> TestResult {
    let mut redis = Redis::start().await?;
    let url = redis.url();
    let base = ["--store", &url, "--store-timeout", "2s", "--limit", "400/s burst 400"];
    let share = ["--on-store-error", "local", "--peers", "4"];
    let service = Service::start(&[&base[..], &share].concat()).await?;
    let client = &mut service.client().await?;
    check(client, "user", 1).await?;
    redis.kill()?;
    eventually(async || match check(&mut service.client().await?, "user", 1).await? {
        (Code::Ok, status) if status.limit_remaining < 100 => Ok(()),
        other => Err(format!("{other:?}").into()),
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_cached_for_the_time_of_the_option() -> TestResult {
    for (deny_cache, code) in [("60s", Code::OverLimit), ("0s", Code::Ok)] {
        let redis = Redis::start().await?;
        let service = on(&redis, &["--deny-cache", deny_cache]).await?;
        let client = &mut service.client().await?;
        check(client, "user", 40).await?;
        assert_eq!(check(client, "user", 1).await?.0, Code::OverLimit);
        redis.command("FLUSHALL")?;
        assert_eq!(check(client, "user", 1).await?.0, code, "--deny-cache {deny_cache}");
    }
    Ok(())
}

#[tokio::test]
async fn a_busy_key_is_leased_and_given_back_at_the_end() -> TestResult {
    let redis = Redis::start().await?;
    let url = redis.url();
    let base = ["--store", &url, "--store-timeout", "2s", "--limit", "1000/s"];
    let mut service = Service::start(&[&base[..], &["--lease-ttl", "1s"]].concat()).await?;
    eventually(async || {
        check(&mut service.client().await?, "user", 1).await?;
        match redis.command("HLEN tidegate:{user}:leases")?.as_str() {
            ":1" => Ok(()),
            other => Err(other.to_owned().into()),
        }
    })
    .await?;
    // The slice is spent at its pace.
    eventually(async || match check(&mut service.client().await?, "user", 1).await?.0 {
        Code::Ok => Ok(()),
        other => Err(format!("{other:?}").into()),
    })
    .await?;
    service.send("TERM")?;
    assert!(service.exited().await?.success());
    assert_eq!(redis.command("HLEN tidegate:{user}:leases")?, ":0");
    Ok(())
}

#[tokio::test]
async fn it_starts_while_redis_is_down() -> TestResult {
    let mut redis = Redis::start().await?;
    redis.kill()?;
    let service = on(&redis, &[]).await?;
    assert_eq!(service.get("/healthz")?.0, 200);
    becomes(&service, (503, "store_error")).await?;
    let client = &mut service.client().await?;
    let error = ask(client, request("user", 1)).await.err().ok_or("no error")?;
    assert_eq!(error.code(), Grpc::Unavailable);
    redis.restart().await?;
    eventually(async || Ok(check(&mut service.client().await?, "user", 1).await?)).await?;
    Ok(())
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up_at_the_store_timeout() -> TestResult {
    let redis = Redis::start().await?;
    let mut proxy = Proxy::to(&redis).await?;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let service =
        Service::start(&["--store", &url, "--limit", "40/h", "--store-timeout", "300ms"]).await?;
    let client = &mut service.client().await?;
    eventually(async || Ok(check(&mut service.client().await?, "user", 1).await?)).await?;
    proxy.hold();
    let error = ask(client, request("user", 1)).await.err().ok_or("no error")?;
    assert_eq!((error.code(), tidegate_error(&error)), (Grpc::DeadlineExceeded, "store_timeout"));
    assert!(error.message().contains("within 300 ms"), "{}", error.message());
    becomes(&service, (503, "store_timeout")).await?;
    proxy.release();
    eventually(async || Ok(check(&mut service.client().await?, "user", 1).await?)).await?;
    Ok(())
}

#[tokio::test]
async fn a_request_is_given_up_at_the_request_timeout() -> TestResult {
    let redis = Redis::start().await?;
    let mut proxy = Proxy::to(&redis).await?;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let service = Service::start(
        &[
            &["--store", &url, "--limit", "40/h"][..],
            &["--store-timeout", "20s", "--request-timeout", "200ms"],
        ]
        .concat(),
    )
    .await?;
    let client = &mut service.client().await?;
    proxy.hold();
    let error = ask(client, request("user", 1)).await.err().ok_or("no error")?;
    assert_eq!((error.code(), tidegate_error(&error)), (Grpc::DeadlineExceeded, "store_timeout"));
    assert!(error.message().contains("--request-timeout"), "{}", error.message());
    Ok(())
}

#[tokio::test]
async fn a_corrupt_bucket_is_an_error_for_that_key() -> TestResult {
    let redis = Redis::start().await?;
    let service = on(&redis, &[]).await?;
    let client = &mut service.client().await?;
    redis.command("SET tidegate:{broken} nonsense")?;
    let error = ask(client, request("broken", 1)).await.err().ok_or("no error")?;
    assert_eq!((error.code(), tidegate_error(&error)), (Grpc::DataLoss, "corrupt_bucket"));
    assert_eq!(check(client, "other", 1).await?.0, Code::Ok);
    assert!(!service.log()?.contains("{broken}"), "keys may be credentials");
    Ok(())
}
