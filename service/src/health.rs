use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tidegate::Store;
use tokio::sync::watch;

/// `/healthz`: the process is alive. `/readyz`: it takes requests, and its store
/// answers; else 503 with the error's code.
pub(crate) fn routes(store: Store, draining: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Readiness { store, draining })
}

#[derive(Clone)]
struct Readiness {
    store: Store,
    draining: watch::Receiver<bool>,
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    if *readiness.draining.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match readiness.store.ping().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.code())),
    }
}
