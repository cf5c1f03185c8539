//! Envoy's rate limit service, version 3, on Tidegate's limiters.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures_util::future::try_join_all;
use tidegate::{Decision, Error, Source};
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

use crate::counters::Counters;
use crate::response;
use crate::rules::{Rule, RuleSet};
use crate::store_watch::StoreWatch;

/// The most descriptors in one request. Each is an operation on the store.
const MAX_DESCRIPTORS: usize = 100;

/// The implementation of Envoy's `RateLimitService`.
pub(crate) struct QuotaService {
    rules: RuleSet,
    request_timeout: Duration,
    counters: Arc<Counters>,
    store_watch: StoreWatch,
    started: Instant,
}

/// The next step for a descriptor of a valid request.
enum Step<'a> {
    /// The status is known without a check.
    Answered(DescriptorStatus),
    /// The bucket has to be checked.
    Check { index: usize, rule: &'a Rule, key: String, cost: u64 },
}

#[tonic::async_trait]
impl RateLimitService for QuotaService {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let response = self.respond(request.into_inner());
        let response = match tokio::time::timeout(self.request_timeout, response).await {
            Ok(response) => response,
            Err(_) => Err(response::error_status(
                "--request-timeout",
                &Error::timeout(self.request_timeout),
            )),
        };
        match &response {
            Ok(response) if response.overall_code == i32::from(Code::OverLimit) => {
                self.counters.over_limit.increment();
            }
            Ok(_) => self.counters.ok.increment(),
            Err(status) => {
                self.counters.errors.increment();
                debug!(code = ?status.code(), "request failed");
            }
        }
        response.map(Response::new)
    }
}

impl QuotaService {
    #[expect(clippy::disallowed_methods, reason = "the log of outages is in real time")]
    pub(crate) fn new(rules: RuleSet, request_timeout: Duration, counters: Arc<Counters>) -> Self {
        let (store_watch, started) = (StoreWatch::default(), Instant::now());
        Self { rules, request_timeout, counters, store_watch, started }
    }

    /// Answers a request. The whole request is validated before any descriptor is charged.
    async fn respond(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        if request.domain.is_empty() {
            return Err(invalid("domain", "it must not be empty"));
        }
        let count = request.descriptors.len();
        if !(1..=MAX_DESCRIPTORS).contains(&count) {
            let message = format!("there must be 1 to {MAX_DESCRIPTORS}, but there are {count}");
            return Err(invalid("descriptors", &message));
        }
        let mut steps = Vec::with_capacity(count);
        for (index, descriptor) in request.descriptors.iter().enumerate() {
            steps.push(self.plan(&request, index, descriptor)?);
        }
        let statuses = try_join_all(steps.into_iter().map(|step| self.run(step))).await?;
        let over_limit = i32::from(Code::OverLimit);
        let refused = statuses.iter().any(|status| status.code == over_limit);
        let overall_code = if refused { Code::OverLimit } else { Code::Ok }.into();
        Ok(RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() })
    }

    /// Validates a descriptor and decides what to do for it.
    fn plan(
        &self,
        request: &RateLimitRequest,
        index: usize,
        descriptor: &RateLimitDescriptor,
    ) -> Result<Step<'_>, Status> {
        let field = |name| format!("descriptors[{index}].{name}");
        if descriptor.entries.is_empty() {
            return Err(invalid(&field("entries"), "there must be at least 1"));
        }
        // Ignoring these fields would apply another limit than the caller has asked for.
        if descriptor.limit.is_some() {
            return Err(invalid(&field("limit"), "limits come from the service's rules only"));
        }
        if descriptor.is_negative_hits {
            return Err(invalid(&field("is_negative_hits"), "hits cannot be given back"));
        }
        let Some(rule) = self.rules.find(&request.domain, &descriptor.entries) else {
            self.counters.unmatched.increment();
            debug!(domain = request.domain, descriptor = index, "no rule matches");
            return Ok(Step::Answered(response::unlimited()));
        };
        let cost = match (&descriptor.hits_addend, request.hits_addend) {
            (Some(hits), _) => hits.value,
            (None, 0) => 1,
            (None, hits) => u64::from(hits),
        };
        let key = rule.bucket_key(&descriptor.entries);
        match rule.limiter.validate(&key, cost) {
            Ok(()) => Ok(Step::Check { index, rule, key, cost }),
            Err(error) if rule.shadow => Ok(Step::Answered(self.shadow_failed(rule, &error))),
            Err(error) => Err(response::error_status(&format!("descriptors[{index}]"), &error)),
        }
    }

    /// Checks the bucket of a descriptor.
    async fn run(&self, step: Step<'_>) -> Result<DescriptorStatus, Status> {
        let (index, rule, key, cost) = match step {
            Step::Answered(status) => return Ok(status),
            Step::Check { index, rule, key, cost } => (index, rule, key, cost),
        };
        let result = rule.limiter.check_async(&key, cost).await;
        self.log_store_failures(rule, &result);
        match result {
            Ok(decision) => {
                debug!(
                    rule = rule.name,
                    shadow = rule.shadow,
                    allowed = decision.allowed,
                    remaining = decision.remaining,
                    retry_after_ns = decision.retry_after,
                    "checked"
                );
                let mut status = response::descriptor_status(&rule.limiter, &decision);
                if rule.shadow && !decision.allowed {
                    self.counters.shadow_refused.increment();
                    status.code = Code::Ok.into();
                }
                Ok(status)
            }
            Err(error) if rule.shadow => Ok(self.shadow_failed(rule, &error)),
            Err(error) => Err(response::error_status(&format!("descriptors[{index}]"), &error)),
        }
    }

    /// The status for a shadow rule that could not be checked: it never refuses a request.
    fn shadow_failed(&self, rule: &Rule, error: &Error) -> DescriptorStatus {
        self.counters.shadow_errors.increment();
        debug!(rule = rule.name, code = error.code(), "a shadow rule could not be checked");
        response::unlimited()
    }

    /// Logs the beginning, the continuation and the end of store failures, and corrupt buckets.
    fn log_store_failures(&self, rule: &Rule, result: &Result<Decision, Error>) {
        let now = self.started.elapsed();
        match result {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => {
                if let Some(failures) = self.store_watch.failed(now) {
                    warn!(code = error.code(), failures, %error, "the store does not answer");
                }
            }
            Ok(Decision { source: Source::Fallback, .. }) => {
                if let Some(fallbacks) = self.store_watch.failed(now) {
                    warn!(fallbacks, "the store does not answer; --on-store-error decides");
                }
            }
            // The error itself is not logged: it names the key, which may be a credential.
            Err(error @ Error::CorruptBucket { .. }) => {
                warn!(code = error.code(), rule = rule.name, "a bucket is corrupt");
            }
            // Neither a lease nor `unlimited` and `none` ask the store, so they show nothing of it.
            Ok(Decision { source: Source::Lease | Source::Memory, .. }) => {}
            _ => {
                if self.store_watch.answered(now) {
                    info!("the store answers again");
                }
            }
        }
    }
}

fn invalid(field: &str, message: &str) -> Status {
    let error = Error::InvalidArgument { name: "request", message: format!("{field}: {message}") };
    response::error_status("", &error)
}
