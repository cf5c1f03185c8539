//! Tests of operations: health, shutdown, TLS and logs.

use core::time::Duration;
use std::net::TcpStream;
use std::time::Instant;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::TestResult;
use crate::process::{Client, Service, ask, check, eventually, request};
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
