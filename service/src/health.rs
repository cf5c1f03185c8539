//! The HTTP routes `/healthz`, `/readyz` and `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::store_options::StoreOptions;

/// The routes. `/healthz` answers 200 while the process is alive. `/readyz` answers 200 while
/// requests are accepted and decided, by the store or by the policy for its failures; otherwise
/// it answers 503 with the error's code. `/metrics` shows the metrics.
pub(crate) fn routes(
    store_options: StoreOptions,
    metrics: Metrics,
    draining: watch::Receiver<bool>,
) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .with_state(Readiness { store_options, draining })
        .route("/metrics", get(show_metrics))
        .with_state(metrics)
}

#[derive(Clone)]
struct Readiness {
    store_options: StoreOptions,
    draining: watch::Receiver<bool>,
}

async fn readiness(State(readiness): State<Readiness>) -> (StatusCode, String) {
    if *readiness.draining.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match readiness.store_options.store().ping().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) if readiness.store_options.has_fallback() => {
            (StatusCode::OK, format!("ready, without the store: {}\n", error.code()))
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.code())),
    }
}

async fn show_metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.text())
}
