//! The HTTP routes `/healthz`, `/readyz` and `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::buckets::Buckets;
use crate::metrics::Metrics;

/// `/healthz`: the process is alive. `/readyz`: it takes requests, and has an answer for them:
/// its store's, or what it is told to answer without; else 503 with the error's code.
/// `/metrics`: what it has done.
pub(crate) fn routes(
    buckets: Buckets,
    metrics: Metrics,
    draining: watch::Receiver<bool>,
) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Readiness { buckets, draining })
        .route("/metrics", get(show))
        .with_state(metrics)
}

#[derive(Clone)]
struct Readiness {
    buckets: Buckets,
    draining: watch::Receiver<bool>,
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    if *readiness.draining.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match readiness.buckets.store().ping().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) if readiness.buckets.have_a_fallback() => {
            (StatusCode::OK, format!("ready, without the store: {}\n", error.code()))
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.code())),
    }
}

async fn show(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.text())
}
