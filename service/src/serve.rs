//! Runs the service: starts its servers, waits for a signal, and drains.

use core::convert::Infallible;
use core::time::Duration;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use futures_util::stream::{Stream, unfold};
use tidegate::{Limiter, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};

use crate::cli::ServeOptions;
use crate::connections::{Connection, Listener, Protocol};
use crate::counters::Counters;
use crate::current_rules::CurrentRules;
use crate::failure::Failure;
use crate::grpc::QuotaServer;
use crate::grpc_server::{GrpcServer, OneMethod as _};
use crate::health::{self, Readiness};
use crate::http_api;
use crate::listeners::{Listeners, PortsFile};
use crate::metrics::Metrics;
use crate::overrides::Overrides;
use crate::quota_service::QuotaService;
use crate::rlqs::{Rlqs, RlqsServer};
use crate::rules::{RuleSet, read_file};
use crate::rules_status::RulesStatus;
use crate::rules_watch::RulesWatch;
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
    Store::on_change(|change| {
        // What else there is about a store is logged with the requests that it concerns.
        if change.notice.is_some() {
            warn!("{change}");
        }
    });
    let store_options = StoreOptions::open(options).map_err(Failure::Configuration)?;
    let rules_text = options.rules.as_deref().map(read_file).transpose();
    let rules_text = rules_text.map_err(Failure::Configuration)?;
    let rules = first_rules(options, rules_text.as_deref(), &store_options);
    let rules = rules.map_err(Failure::Configuration)?;
    let rule_count = rules.len();
    let rules = Arc::new(CurrentRules::new(rules));
    let rules_status = Arc::new(RulesStatus::started());
    let grpc_server = grpc_server(options)?;
    let ports_file = options.ports_file.as_deref().map(PortsFile::claim).transpose()?;
    let (mut stop, hangup) = (StopSignal::install()?, signals(SignalKind::hangup())?);
    let listeners = Listeners::bind(options).await?;
    let (grpc_address, http_address) = listeners.addresses()?;

    let overrides = Overrides::new(&store_options, options.max_override);
    let counters = Arc::new(Counters::default());
    let service = QuotaService::new(
        Arc::clone(&rules),
        overrides,
        options.request_timeout,
        Arc::clone(&counters),
        options.near_limit_ratio,
    )
    .shadow(options.shadow);
    let service =
        QuotaServer::new(service, options.max_message_size as usize, options.max_pending as usize);
    let http_api = http_api::routes(service.http_api());
    let (draining, drain_seen) = watch::channel(false);
    let (grpc_stop, grpc_stopped) = watch::channel(false);
    let (http_stop, http_stopped) = watch::channel(false);
    let (health_reporter, grpc_health) = tonic_health::server::health_reporter();
    report_health(&health_reporter, ServingStatus::Serving).await;

    let rlqs = options.rlqs.then(|| {
        let ttl = options.rlqs_ttl.as_nanos() as u64;
        let stopped = grpc_stopped.clone();
        let rlqs = Rlqs::new(Arc::clone(&rules), ttl, Arc::clone(&counters), stopped);
        RlqsServer::new(rlqs, options.max_message_size as usize)
    });
    let mut grpc = tokio::spawn(
        grpc_server
            .clone()
            .add_service(GrpcServer(service))
            .add_optional_service(rlqs.map(GrpcServer))
            .add_service(grpc_health)
            .serve_with_incoming_shutdown(
                incoming(Listener::new(listeners.grpc, Protocol::Grpc, options.max_connections)),
                until_set(grpc_stopped),
            ),
    );
    let metrics =
        Metrics::new(Arc::clone(&counters), Arc::clone(&rules), Arc::clone(&rules_status));
    let store = store_options.store().clone();
    let readiness = Readiness::new(store_options.clone(), drain_seen, Arc::clone(&rules_status));
    // A ping finds settings of the store that are worth a warning. The service starts without waiting
    // for it.
    tokio::spawn(readiness.clone().ask());
    let routes = health::routes(readiness, metrics).merge(http_api);
    let mut http = spawn_http(
        Listener::new(listeners.http, Protocol::Http, options.max_http_connections),
        routes,
        http_stopped,
    );
    if let Some(file) = ports_file {
        file.write(&grpc_address, &http_address)?;
    }
    info!(
        grpc = %grpc_address,
        http = %http_address,
        tls = options.tls_cert.is_some(),
        store = %store,
        rules = rule_count,
        "listening"
    );

    if options.store.is_none() {
        info!("there is no --store: the buckets are in the memory of this process, for it alone");
    }
    if options.shadow {
        info!("--shadow: no request is refused");
    }
    let watch = options.rules.clone().map(|path| RulesWatch {
        path,
        store_options: store_options.clone(),
        current: Arc::clone(&rules),
        status: rules_status,
        request_timeout: options.request_timeout,
        tried: Ok(rules_text.unwrap_or_default()),
    });
    // Without a file, a hangup changes nothing, and does not end the process.
    let watching = watch.map(|watch| tokio::spawn(watch.run(options.rules_poll, hangup)));

    let name = tokio::select! {
        name = stop.received() => name,
        ended = &mut grpc => return Err(ended_early("gRPC", &ended)),
        ended = &mut http => return Err(ended_early("HTTP", &ended)),
    };
    if let Some(watching) = watching {
        watching.abort();
    }
    let (delay_ms, drain_ms) = (options.drain_delay.as_millis(), options.drain.as_millis());
    info!(signal = name, delay_ms, drain_ms, "stopping");
    report_health(&health_reporter, ServingStatus::NotServing).await;
    draining.send_replace(true);
    // Requests are still accepted: whoever sends them needs time to notice. A second signal ends it.
    tokio::select! {
        () = tokio::time::sleep(options.drain_delay) => {}
        _ = stop.received() => {}
        ended = &mut grpc => return Err(ended_early("gRPC", &ended)),
    }
    grpc_stop.send_replace(true);
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
    let closing = std::thread::spawn(move || rules.get().limiters().for_each(Limiter::close));
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

/// The rules at the start, those of a file if it has a text.
fn first_rules(
    options: &ServeOptions,
    text: Option<&str>,
    store_options: &StoreOptions,
) -> Result<RuleSet, String> {
    match (&options.rules, text) {
        (Some(path), Some(text)) => RuleSet::of_file(path, text, store_options),
        _ => RuleSet::single(&options.limit, &options.prefix, options.reports, store_options),
    }
}

/// Reports the state under every name by which clients ask for it: the server as a whole, the service of
/// the protocol, and the name of envoyproxy/ratelimit.
async fn report_health(reporter: &HealthReporter, status: ServingStatus) {
    for name in ["", QuotaServer::SERVICE, "ratelimit"] {
        reporter.set_service_status(name, status).await;
    }
}

fn grpc_server(options: &ServeOptions) -> Result<Server, Failure> {
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(options.keepalive))
        .http2_keepalive_timeout(Some(CONNECTION_TIMEOUT))
        .max_concurrent_streams(options.max_streams);
    if let Some(age) = options.max_connection_age {
        // Requests that are pending then have as long as when the service stops.
        server = server.max_connection_age(age).max_connection_age_grace(options.drain);
    }
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else {
        return Ok(server);
    };
    let identity = Identity::from_pem(read("--tls-cert", cert)?, read("--tls-key", key)?);
    let mut tls = ServerTlsConfig::new().identity(identity).timeout(CONNECTION_TIMEOUT);
    if let Some(path) = &options.tls_client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read("--tls-client-ca", path)?));
    }
    server.tls_config(tls).map_err(|error| {
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

/// The connections as a stream, which never ends.
fn incoming(listener: Listener) -> impl Stream<Item = Result<Connection, Infallible>> {
    unfold(listener, async |mut listener| {
        let (connection, _) = listener.next().await;
        Some((Ok(connection), listener))
    })
}

fn spawn_http(
    listener: Listener,
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

/// A stream of signals; while it is there, they do not end the process.
fn signals(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::System(format!("signals cannot be handled: {error}")))
}

struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn install() -> Result<Self, Failure> {
        let terminate = signals(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signals(SignalKind::interrupt())? })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
