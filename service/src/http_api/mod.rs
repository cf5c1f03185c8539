//! The JSON API over HTTP: `POST /v1/check`, and `POST /json` as envoyproxy/ratelimit has it.

mod check;
mod envoy_json;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::quota_service::QuotaService;
use crate::response::ERROR_METADATA;
use crate::ruling::Answer;

/// The service, and its bounds.
#[derive(Clone)]
pub(crate) struct HttpApi {
    pub(crate) service: Arc<QuotaService>,
    /// A permit for each request that may be pending, over gRPC or HTTP.
    pub(crate) free: Arc<Semaphore>,
    /// The largest body, in bytes.
    pub(crate) max_body: usize,
}

/// The routes of the API.
pub(crate) fn routes(api: HttpApi) -> Router {
    let bound = DefaultBodyLimit::max(api.max_body);
    Router::new()
        .route("/v1/check", post(check))
        .route("/json", post(envoy_json))
        .layer(bound)
        .with_state(api)
}

/// `POST /v1/check`: 200 if the request is allowed, 429 if not.
async fn check(State(api): State<HttpApi>, body: Result<Bytes, BytesRejection>) -> Response {
    match api.answer(body, check::read).await {
        Ok(answer) => {
            let body = reply(status(&answer), &check::write(&answer));
            match check::retry_after_seconds(&answer) {
                Some(seconds) => {
                    ([(header::RETRY_AFTER, seconds.to_string())], body).into_response()
                }
                None => body,
            }
        }
        Err(failed) => failed.into_response(),
    }
}

/// `POST /json`: 200 if the request is allowed, 429 if not, 500 if it cannot be decided.
async fn envoy_json(State(api): State<HttpApi>, body: Result<Bytes, BytesRejection>) -> Response {
    match api.answer(body, envoy_json::read).await {
        Ok(answer) => reply(status(&answer), &envoy_json::write(&answer.to_response())),
        // envoyproxy/ratelimit has one code for all of these.
        Err(Failed { status, body }) if status.is_server_error() => {
            Failed { status: StatusCode::INTERNAL_SERVER_ERROR, body }.into_response()
        }
        Err(failed) => failed.into_response(),
    }
}

impl HttpApi {
    /// Reads a body and decides what it asks.
    async fn answer(
        &self,
        body: Result<Bytes, BytesRejection>,
        read: fn(&[u8]) -> Result<RateLimitRequest, serde_json::Error>,
    ) -> Result<Answer, Failed> {
        let wrong = |status, message: String| Failed::new(status, "invalid_argument", &message);
        let body = body.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let most = self.max_body;
                wrong(
                    error.status(),
                    format!("--max-message-size: a body has at most {most} bytes"),
                )
            }
            status => wrong(status, error.body_text()),
        })?;
        let request =
            read(&body).map_err(|error| wrong(StatusCode::BAD_REQUEST, error.to_string()))?;
        let _permit = self.free.try_acquire().map_err(|_| self.service.too_many_pending())?;
        Ok(self.service.answer(&request).await?)
    }
}

/// An error, as it is answered.
struct Failed {
    status: StatusCode,
    body: Value,
}

impl Failed {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self { status, body: json!({ "error": code, "message": message }) }
    }
}

impl From<Status> for Failed {
    fn from(error: Status) -> Self {
        let code = error.metadata().get(ERROR_METADATA).and_then(|code| code.to_str().ok());
        let status = match error.code() {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unavailable | Code::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, code.unwrap_or("too_many_pending"), error.message())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        reply(self.status, &self.body)
    }
}

fn status(answer: &Answer) -> StatusCode {
    if answer.is_over { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK }
}

fn reply(status: StatusCode, body: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, format!("{body}\n")).into_response()
}
