//! The HTTP routes `/healthz`, `/readyz` and `/metrics`.

use core::time::Duration;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tidegate::Error;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::rules_status::RulesStatus;
use crate::store_options::StoreOptions;

/// How long an answer of the store is kept. Whoever reaches `/readyz` cannot make the service ask the
/// store more often, and a probe every second is still answered by a fresh one.
const KEPT: Duration = Duration::from_millis(500);

/// The routes. `/healthz` answers 200 while the process is alive. `/readyz` answers 200 while
/// requests are accepted and decided, by the store or by the policy for its failures; otherwise
/// it answers 503 with the error's code. `/metrics` shows the metrics.
pub(crate) fn routes(ready: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .with_state(ready)
        .route("/metrics", get(show_metrics))
        .with_state(metrics)
}

/// Whether requests are accepted and decided.
#[derive(Clone)]
pub(crate) struct Readiness {
    store_options: StoreOptions,
    draining: watch::Receiver<bool>,
    rules_status: Arc<RulesStatus>,
    /// The store's last answer, and when it came. Probes that come together wait for one answer.
    last: Arc<Mutex<Option<Pinged>>>,
}

/// When the store has answered, and what.
struct Pinged {
    came: Instant,
    answer: Result<(), Error>,
}

impl Readiness {
    pub(crate) fn new(
        store_options: StoreOptions,
        draining: watch::Receiver<bool>,
        rules_status: Arc<RulesStatus>,
    ) -> Self {
        Self { store_options, draining, rules_status, last: Arc::default() }
    }

    /// Asks the store, so that a probe which follows at once has its answer.
    pub(crate) async fn ask(self) {
        drop(self.ping().await);
    }

    async fn ping(&self) -> Result<(), Error> {
        let mut last = self.last.lock().await;
        if let Some(Pinged { came, answer }) = &*last
            && came.elapsed() < KEPT
        {
            return answer.clone();
        }
        let answer = self.store_options.store().ping().await;
        *last = Some(Pinged { came: Instant::now(), answer: answer.clone() });
        answer
    }
}

async fn readiness(State(readiness): State<Readiness>) -> (StatusCode, String) {
    if *readiness.draining.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let (status, mut detail) = match readiness.ping().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) if readiness.store_options.has_fallback() => {
            (StatusCode::OK, format!("ready, without the store: {}\n", error.code()))
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.code())),
    };
    // The rules from before still decide, so the service is as ready as it was.
    if let Some(error) = readiness.rules_status.error() {
        detail += &format!("the rules are not reloaded: {error}\n");
    }
    (status, detail)
}

async fn show_metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.text())
}
