//! Envoy's rate limit service, version 3, over Tidegate's limiters.

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

use crate::answer;
use crate::counters::Counters;
use crate::rules::{Rule, RuleSet};
use crate::store_watch::StoreWatch;

/// The most descriptors in one request: each is an operation on the store.
const MAX_DESCRIPTORS: usize = 100;

/// Envoy's rate limit service, version 3, over Tidegate's limiters.
pub(crate) struct QuotaService {
    rules: RuleSet,
    request_timeout: Duration,
    counters: Arc<Counters>,
    store_watch: StoreWatch,
    started: Instant,
}

/// What is left to do for a descriptor of a valid request.
enum Step<'a> {
    Answered(DescriptorStatus),
    Check { at: usize, rule: &'a Rule, key: String, cost: u64 },
}

#[tonic::async_trait]
impl RateLimitService for QuotaService {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let answer = self.answer(request.into_inner());
        let answer = match tokio::time::timeout(self.request_timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(answer::failed(
                "--request-timeout",
                &Error::StoreTimeout { after: self.request_timeout },
            )),
        };
        match &answer {
            Ok(response) if response.overall_code == i32::from(Code::OverLimit) => {
                self.counters.over_limit.increment();
            }
            Ok(_) => self.counters.ok.increment(),
            Err(status) => {
                self.counters.errors.increment();
                debug!(code = ?status.code(), "request failed");
            }
        }
        answer.map(Response::new)
    }
}

impl QuotaService {
    pub(crate) fn new(rules: RuleSet, request_timeout: Duration, counters: Arc<Counters>) -> Self {
        let (store_watch, started) = (StoreWatch::default(), Instant::now());
        Self { rules, request_timeout, counters, store_watch, started }
    }

    /// Checks the whole request before it spends anything for any descriptor.
    async fn answer(&self, request: RateLimitRequest) -> Result<RateLimitResponse, Status> {
        if request.domain.is_empty() {
            return Err(invalid("domain", "it must not be empty"));
        }
        let count = request.descriptors.len();
        if !(1..=MAX_DESCRIPTORS).contains(&count) {
            let message = format!("there must be 1 to {MAX_DESCRIPTORS}, but there are {count}");
            return Err(invalid("descriptors", &message));
        }
        let mut steps = Vec::with_capacity(count);
        for (at, descriptor) in request.descriptors.iter().enumerate() {
            steps.push(self.plan(&request, at, descriptor)?);
        }
        let statuses = try_join_all(steps.into_iter().map(|step| self.take(step))).await?;
        let over_limit = i32::from(Code::OverLimit);
        let refused = statuses.iter().any(|status| status.code == over_limit);
        let overall_code = if refused { Code::OverLimit } else { Code::Ok }.into();
        Ok(RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() })
    }

    fn plan(
        &self,
        request: &RateLimitRequest,
        at: usize,
        descriptor: &RateLimitDescriptor,
    ) -> Result<Step<'_>, Status> {
        let field = |name| format!("descriptors[{at}].{name}");
        if descriptor.entries.is_empty() {
            return Err(invalid(&field("entries"), "there must be at least 1"));
        }
        // To do as if these had not been said would give the caller another limit
        // than it asked for.
        if descriptor.limit.is_some() {
            return Err(invalid(&field("limit"), "limits come from the service's rules only"));
        }
        if descriptor.is_negative_hits {
            return Err(invalid(&field("is_negative_hits"), "hits cannot be given back"));
        }
        let Some(rule) = self.rules.find(&request.domain, &descriptor.entries) else {
            self.counters.unmatched.increment();
            debug!(domain = request.domain, descriptor = at, "no rule matches");
            return Ok(Step::Answered(answer::unlimited()));
        };
        let cost = match (&descriptor.hits_addend, request.hits_addend) {
            (Some(own), _) => own.value,
            (None, 0) => 1,
            (None, hits) => u64::from(hits),
        };
        let key = rule.bucket_key(&descriptor.entries);
        match rule.limiter.validate(&key, cost) {
            Ok(()) => Ok(Step::Check { at, rule, key, cost }),
            Err(error) if rule.shadow => Ok(Step::Answered(self.shadow_failed(rule, &error))),
            Err(error) => Err(answer::failed(&format!("descriptors[{at}]"), &error)),
        }
    }

    async fn take(&self, step: Step<'_>) -> Result<DescriptorStatus, Status> {
        let (at, rule, key, cost) = match step {
            Step::Answered(status) => return Ok(status),
            Step::Check { at, rule, key, cost } => (at, rule, key, cost),
        };
        let answer = rule.limiter.check_async(&key, cost).await;
        self.watch_store(rule, &answer);
        match answer {
            Ok(decision) => {
                debug!(
                    rule = rule.name,
                    shadow = rule.shadow,
                    allowed = decision.allowed,
                    remaining = decision.remaining,
                    retry_after_ns = decision.retry_after,
                    "checked"
                );
                let mut status = answer::decided(&rule.limiter, &decision);
                if rule.shadow && !decision.allowed {
                    self.counters.shadow_refused.increment();
                    status.code = Code::Ok.into();
                }
                Ok(status)
            }
            Err(error) if rule.shadow => Ok(self.shadow_failed(rule, &error)),
            Err(error) => Err(answer::failed(&format!("descriptors[{at}]"), &error)),
        }
    }

    /// A shadow rule never stands in the way, also when it cannot be checked.
    fn shadow_failed(&self, rule: &Rule, error: &Error) -> DescriptorStatus {
        self.counters.shadow_errors.increment();
        debug!(rule = rule.name, code = error.code(), "a shadow rule could not be checked");
        answer::unlimited()
    }

    fn watch_store(&self, rule: &Rule, answer: &Result<Decision, Error>) {
        let now = self.started.elapsed();
        match answer {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => {
                if let Some(failures) = self.store_watch.failed(now) {
                    warn!(code = error.code(), failures, %error, "the store does not answer");
                }
            }
            Ok(Decision { source: Source::Fallback, .. }) => {
                if let Some(fallbacks) = self.store_watch.failed(now) {
                    warn!(fallbacks, "the store does not answer; --on-store-error does");
                }
            }
            // Its message names the key, which may be a client's credential.
            Err(error @ Error::CorruptBucket { .. }) => {
                warn!(code = error.code(), rule = rule.name, "a bucket is corrupt");
            }
            // A slice is spent without asking.
            Ok(Decision { source: Source::Lease, .. }) => {}
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
    answer::failed("", &error)
}
