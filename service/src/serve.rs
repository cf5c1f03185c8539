//! Runs the service: starts its servers, waits for a signal, and drains.

use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use tidegate::Limiter;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tracing::{info, warn};

use crate::cli::ServeOptions;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::grpc::QuotaServer;
use crate::health;
use crate::listeners::{Listeners, PortsFile};
use crate::metrics::Metrics;
use crate::quota_service::QuotaService;
use crate::rules::RuleSet;
use crate::store_options::StoreOptions;

/// The longest time for a connection to answer a keepalive ping, or for a TLS handshake.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, then lets pending requests finish.
pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System(format!("the runtime cannot start: {error}")))?
        .block_on(serve(options))
}

async fn serve(options: &ServeOptions) -> Result<(), Failure> {
    let store_options = StoreOptions::open(options).map_err(Failure::Configuration)?;
    let rules = match &options.rules {
        Some(path) => RuleSet::read(path, &store_options),
        None => RuleSet::single(&options.limit, &options.prefix, options.reports, &store_options),
    }
    .map_err(Failure::Configuration)?;
    let rule_count = rules.len();
    let limiters: Arc<[Limiter]> = rules.limiters().cloned().collect();
    let grpc_server = grpc_server(options)?;
    let ports_file = options.ports_file.as_deref().map(PortsFile::claim).transpose()?;
    let mut stop = StopSignal::install()?;
    let listeners = Listeners::bind(options).await?;
    let (grpc_address, http_address) = listeners.addresses()?;

    let counters = Arc::new(Counters::default());
    let service = QuotaService::new(rules, options.request_timeout, Arc::clone(&counters));
    let service = QuotaServer::new(service, options.max_message_size as usize);
    let (draining, drain_seen) = watch::channel(false);
    let (http_stop, http_stopped) = watch::channel(false);
    let (health_reporter, grpc_health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<QuotaServer>().await;

    let mut grpc = tokio::spawn(
        grpc_server
            .clone()
            .add_service(service)
            .add_service(grpc_health)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listeners.grpc).with_nodelay(Some(true)),
                until_set(drain_seen.clone()),
            ),
    );
    let metrics = Metrics::new(Arc::clone(&counters), Arc::clone(&limiters));
    let store = store_options.store().clone();
    let routes = health::routes(store_options, metrics, drain_seen);
    let mut http = spawn_http(listeners.http, routes, http_stopped);
    if let Some(file) = ports_file {
        file.write(grpc_address.port(), http_address.port())?;
    }
    info!(
        grpc = %grpc_address,
        http = %http_address,
        tls = options.tls_cert.is_some(),
        store = %store,
        rules = rule_count,
        "listening"
    );

    let name = tokio::select! {
        name = stop.received() => name,
        ended = &mut grpc => return Err(ended_early("gRPC", &ended)),
        ended = &mut http => return Err(ended_early("HTTP", &ended)),
    };
    info!(signal = name, drain_ms = options.drain.as_millis(), "stopping");
    health_reporter.set_not_serving::<QuotaServer>().await;
    draining.send_replace(true);
    // HTTP is served until the last request is answered, so that health probes are too.
    let drained = tokio::time::timeout(options.drain, &mut grpc).await;
    http_stop.send_replace(true);
    if drained.is_err() {
        warn!("some connections did not finish in time and are cut");
        grpc.abort();
    }
    if tokio::time::timeout(Duration::from_secs(1), &mut http).await.is_err() {
        http.abort();
    }
    // On a thread of its own, because closing waits until leases are given back.
    let closing = std::thread::spawn(move || limiters.iter().for_each(Limiter::close));
    _ = tokio::task::spawn_blocking(|| closing.join()).await;
    info!(
        ok = counters.ok.get(),
        over_limit = counters.over_limit.get(),
        errors = counters.errors.get(),
        unmatched = counters.unmatched.get(),
        shadow_refused = counters.shadow_refused.get(),
        shadow_errors = counters.shadow_errors.get(),
        "stopped"
    );
    Ok(())
}

fn grpc_server(options: &ServeOptions) -> Result<Server, Failure> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(options.keepalive))
        .http2_keepalive_timeout(Some(CONNECTION_TIMEOUT))
        .max_concurrent_streams(options.max_streams);
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else {
        return Ok(server);
    };
    let identity = Identity::from_pem(read("--tls-cert", cert)?, read("--tls-key", key)?);
    server
        .tls_config(ServerTlsConfig::new().identity(identity).timeout(CONNECTION_TIMEOUT))
        .map_err(|error| {
            let why = core::error::Error::source(&error)
                .map_or_else(|| error.to_string(), ToString::to_string);
            let (cert, key) = (cert.display(), key.display());
            Failure::Configuration(format!("--tls-cert {cert}, --tls-key {key}: {why}"))
        })
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::Configuration(format!("{option} {}: {error}", path.display())))
}

fn spawn_http(
    listener: TcpListener,
    routes: Router,
    stop: watch::Receiver<bool>,
) -> JoinHandle<std::io::Result<()>> {
    let server = axum::serve(listener, routes).with_graceful_shutdown(until_set(stop));
    tokio::spawn(async move { server.await })
}

async fn until_set(mut flag: watch::Receiver<bool>) {
    // An error means that the sender, and so the service, is gone.
    let _ = flag.wait_for(|set| *set).await;
}

fn ended_early(what: &str, ended: &dyn core::fmt::Debug) -> Failure {
    Failure::System(format!("the {what} server ended by itself: {ended:?}"))
}

struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn install() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| Failure::System(format!("signals cannot be handled: {error}")))
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
