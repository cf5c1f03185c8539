//! Tests of operations: health, shutdown, TLS and logs.

use core::time::Duration;
use std::net::TcpStream;
use std::time::Instant;

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::io::AsyncReadExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::TestResult;
use crate::process::{Client, Service, ask, check, descriptor, eventually, request};
use crate::redis::{Proxy, Redis};

#[tokio::test]
async fn health_over_http_and_grpc() -> TestResult {
    let service = Service::start(&["--store", "memory://", "--limit", "1/s"]).await?;
    assert_eq!(service.get("/healthz")?, (200, "ok".to_owned()));
    assert_eq!(service.get("/readyz")?, (200, "ready".to_owned()));
    assert_eq!(service.get("/")?.0, 404);
    let channel = Channel::from_shared(format!("http://127.0.0.1:{}", service.grpc))?;
    let mut health = HealthClient::new(channel.connect().await?);
    for service in ["", "envoy.service.ratelimit.v3.RateLimitService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let response = health.check(request).await?.into_inner();
        assert_eq!(response.status(), ServingStatus::Serving);
    }
    Ok(())
}

#[tokio::test]
async fn a_pending_request_is_answered_before_the_service_stops() -> TestResult {
    for signal in ["TERM", "INT"] {
        let redis = Redis::start().await?;
        let mut proxy = Proxy::to(&redis).await?;
        let url = format!("redis://127.0.0.1:{}", proxy.port);
        let mut service = Service::start(
            &[
                &["--store", &url, "--limit", "40/h"][..],
                &["--store-timeout", "20s", "--request-timeout", "20s"],
            ]
            .concat(),
        )
        .await?;
        let mut client = service.client().await?;
        check(&mut client, "user", 1).await?;
        proxy.hold();
        let pending = tokio::spawn(async move { check(&mut client, "user", 1).await });
        proxy.request_sent().await?;

        service.send(signal)?;
        eventually(async || match TcpStream::connect(("127.0.0.1", service.grpc)) {
            Ok(_) => Err("still accepting".into()),
            Err(_) => Ok(()),
        })
        .await?;
        assert_eq!(service.get("/readyz")?, (503, "draining".to_owned()));
        assert!(!pending.is_finished());

        proxy.release();
        let (code, status) = pending.await??;
        assert_eq!((code, status.limit_remaining), (Code::Ok, 38));
        assert_eq!(service.exited().await?.code(), Some(0));
        let log = service.log()?;
        assert!(log.contains("\"message\":\"stopped\",\"ok\":2,\"over_limit\":0"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn requests_that_do_not_finish_within_the_drain_time_are_cut() -> TestResult {
    let redis = Redis::start().await?;
    let mut proxy = Proxy::to(&redis).await?;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let mut service = Service::start(
        &[
            &["--store", &url, "--limit", "40/h", "--drain", "300ms"][..],
            &["--store-timeout", "20s", "--request-timeout", "20s"],
        ]
        .concat(),
    )
    .await?;
    let mut client = service.client().await?;
    check(&mut client, "user", 1).await?;
    proxy.hold();
    let pending = tokio::spawn(async move { ask(&mut client, request("user", 1)).await });
    proxy.request_sent().await?;
    let asked = Instant::now();
    service.send("TERM")?;
    assert_eq!(service.exited().await?.code(), Some(0));
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert!(pending.await?.is_err());
    assert!(service.log()?.contains("are cut"));
    Ok(())
}

#[tokio::test]
async fn health_fails_before_requests_are_refused() -> TestResult {
    let mut service =
        Service::start(&["--store", "memory://", "--limit", "1000/h", "--drain-delay", "10min"])
            .await?;
    let mut client = service.client().await?;
    service.send("TERM")?;
    eventually(async || match service.get("/readyz")? {
        (503, body) if body == "draining" => Ok(()),
        other => Err(format!("{other:?}").into()),
    })
    .await?;
    for name in ["", "envoy.service.ratelimit.v3.RateLimitService", "ratelimit"] {
        // A connection of its own: new ones are still accepted.
        let channel = Channel::from_shared(format!("http://127.0.0.1:{}", service.grpc))?;
        let mut health = HealthClient::new(channel.connect().await?);
        let request = HealthCheckRequest { service: name.to_owned() };
        let response = health.check(request).await?.into_inner();
        assert_eq!(response.status(), ServingStatus::NotServing, "{name}");
    }
    assert_eq!(check(&mut client, "user", 1).await?.0, Code::Ok);
    assert_eq!(check(&mut service.client().await?, "user", 1).await?.0, Code::Ok);
    drop(client);
    // A second signal ends the delay.
    service.send("TERM")?;
    assert_eq!(service.exited().await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_hangup_reloads_the_rules_and_keeps_buckets_and_rules_that_are_as_before() -> TestResult {
    let rule = |key: &str, limit: &str| {
        format!("[[rules]]\nmatch = [\"{key}\"]\nlimits = [\"{limit}\"]\n")
    };
    let mut service =
        Service::with_rules(&[rule("api_key", "5/h"), rule("other", "1/h")].concat()).await?;
    let client = &mut service.client().await?;
    assert_eq!(check(client, "user", 3).await?.1.limit_remaining, 2);
    let other = |value: &str| {
        let descriptors = vec![descriptor(&[("other", value)])];
        RateLimitRequest { domain: "edge".to_owned(), descriptors, hits_addend: 1 }
    };
    assert_eq!(ask(client, other("user")).await?.overall_code(), Code::Ok);

    // The rules change places, and one of them its limit.
    service.write_rules(&[rule("other", "7/h"), rule("api_key", "5/h")].concat())?;
    service.send("HUP")?;
    eventually(async || {
        let client = &mut service.client().await?;
        match ask(client, other("fresh")).await?.statuses {
            statuses if statuses[0].limit_remaining == 6 => Ok(()),
            statuses => Err(format!("{statuses:?}").into()),
        }
    })
    .await?;
    assert_eq!(check(client, "user", 1).await?.1.limit_remaining, 1, "the bucket is kept");

    service.write_rules(&rule("api_key", "5/fortnight"))?;
    service.send("HUP")?;
    eventually(async || match service.log()?.contains("the rules are not reloaded") {
        true => Ok(()),
        false => Err("not logged".into()),
    })
    .await?;
    assert!(service.log()?.contains("unknown unit"), "the log says why");
    assert_eq!(check(client, "user", 1).await?.1.limit_remaining, 0, "the rules are kept");
    service.send("TERM")?;
    assert!(service.exited().await?.success());
    Ok(())
}

#[tokio::test]
async fn connections_above_the_bound_are_closed_and_health_is_answered() -> TestResult {
    let options = ["--store", "memory://", "--limit", "9/h", "--max-connections", "2"];
    let service = Service::start(&options).await?;
    let open = || tokio::net::TcpStream::connect(("127.0.0.1", service.grpc));
    let taken = [open().await?, open().await?];
    let mut third = open().await?;
    assert_eq!(third.read(&mut [0; 1]).await?, 0, "closed");
    assert_eq!(service.get("/healthz")?, (200, "ok".to_owned()));
    assert!(service.log()?.contains("connections are not accepted"));
    drop(taken);
    eventually(async || Ok(check(&mut service.client().await?, "user", 1).await?)).await?;
    Ok(())
}

#[tokio::test]
async fn answers_that_a_client_does_not_read_are_bounded() -> TestResult {
    let options = ["--store", "memory://", "--limit", "100/h", "--max-pending", "4"];
    let service = Service::start(&options).await?;
    // A client that lets the service send nothing of any answer.
    let endpoint = Channel::from_shared(format!("http://127.0.0.1:{}", service.grpc))?;
    let reads_nothing = Client::new(endpoint.initial_stream_window_size(0).connect().await?);
    let unread: Vec<_> = (0..4)
        .map(|_| {
            let mut client = reads_nothing.clone();
            tokio::spawn(async move { ask(&mut client, request("user", 1)).await })
        })
        .collect();
    eventually(async || match service.get("/metrics")?.1.contains("{code=\"ok\"} 4") {
        true => Ok(()),
        false => Err("not yet".into()),
    })
    .await?;
    let mut client = service.client().await?;
    let refused = ask(&mut client, request("user", 1)).await.err().ok_or("answered")?;
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(unread.iter().all(|call| !call.is_finished()));
    unread.iter().for_each(tokio::task::JoinHandle::abort);
    drop(reads_nothing);
    eventually(async || Ok(check(&mut service.client().await?, "user", 1).await?)).await?;
    Ok(())
}

#[tokio::test]
async fn grpc_over_tls() -> TestResult {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let directory = tempfile::tempdir()?;
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, certified.cert.pem())?;
    std::fs::write(&key, certified.signing_key.serialize_pem())?;
    let (cert, key) = (cert.to_str().ok_or("path")?, key.to_str().ok_or("path")?);
    let service = Service::start(
        &[&["--store", "memory://", "--limit", "5/h"][..], &["--tls-cert", cert, "--tls-key", key]]
            .concat(),
    )
    .await?;
    let trusted = Certificate::from_pem(certified.cert.pem());
    let tls = ClientTlsConfig::new().ca_certificate(trusted).domain_name("localhost");
    let channel = Channel::from_shared(format!("https://127.0.0.1:{}", service.grpc))?
        .tls_config(tls)?
        .connect()
        .await?;
    assert_eq!(check(&mut Client::new(channel), "user", 1).await?.1.limit_remaining, 4);
    assert!(check(&mut service.client().await?, "user", 1).await.is_err(), "plaintext");
    Ok(())
}

#[tokio::test]
async fn the_log_has_the_addresses_and_never_the_password() -> TestResult {
    let mut redis = Redis::start().await?;
    redis.kill()?;
    let url = format!("redis://someone:hunter2@127.0.0.1:{}/0", redis.port);
    let mut service =
        Service::start(&["--store", &url, "--limit", "5/h", "--log", "trace"]).await?;
    assert!(check(&mut service.client().await?, "user", 1).await.is_err());
    assert_eq!(service.get("/readyz")?.0, 503);
    service.send("TERM")?;
    assert!(service.exited().await?.success());
    let log = service.log()?;
    let listening = format!(
        "\"message\":\"listening\",\"grpc\":\"127.0.0.1:{}\",\"http\":\"127.0.0.1:{}\"",
        service.grpc, service.http
    );
    assert!(log.contains(&listening), "{log}");
    assert!(log.contains(&format!("\"store\":\"redis://127.0.0.1:{}/0\"", redis.port)), "{log}");
    assert!(!log.contains("hunter2") && !log.contains("someone"), "{log}");
    Ok(())
}
