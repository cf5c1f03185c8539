//! Envoy's rate limit service, version 3, on Tidegate's limiters.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures_util::future::join_all;
use tidegate::{Decision, Error, Source};
use tonic::codegen::http::HeaderMap;
use tonic::{Response, Status};
use tracing::{debug, info, warn};

use crate::counters::Counters;
use crate::current_rules::CurrentRules;
use crate::hits::{Costs, Hits};
use crate::overrides::Overrides;
use crate::response;
use crate::rule_counters::{NearLimit, RuleCounters};
use crate::rules::{DecidingRules, Rule, unmatched_key, unmatched_prefix};
use crate::store_watch::StoreWatch;

/// The most descriptors in one request. Each is an operation on the store.
const MAX_DESCRIPTORS: usize = 100;

/// The implementation of Envoy's `RateLimitService`.
pub(crate) struct QuotaService {
    rules: Arc<CurrentRules>,
    overrides: Overrides,
    request_timeout: Duration,
    counters: Arc<Counters>,
    store_watch: StoreWatch,
    started: Instant,
    /// Whether no request is refused.
    shadow: bool,
    near_limit: NearLimit,
}

impl QuotaService {
    #[expect(clippy::disallowed_methods, reason = "the log of outages is in real time")]
    pub(crate) fn new(
        rules: Arc<CurrentRules>,
        overrides: Overrides,
        request_timeout: Duration,
        counters: Arc<Counters>,
        near_limit: NearLimit,
    ) -> Self {
        let (store_watch, started) = (StoreWatch::default(), Instant::now());
        let shadow = false;
        Self {
            rules,
            overrides,
            request_timeout,
            counters,
            store_watch,
            started,
            shadow,
            near_limit,
        }
    }

    /// The same service, which refuses no request if `shadow` is true.
    pub(crate) fn shadow(self, shadow: bool) -> Self {
        Self { shadow, ..self }
    }

    /// Answers a request.
    pub(crate) async fn should_rate_limit(
        &self,
        request: RateLimitRequest,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let response = self.respond(&request).await;
        match &response {
            Ok(response) if response.overall_code == i32::from(Code::OverLimit) => {
                self.counters.over_limit.increment();
            }
            Ok(_) => self.counters.ok.increment(),
            Err(_) => self.counters.errors.increment(),
        }
        response.map(Response::new)
    }

    /// Counts a request that could not be decoded, and was answered with these headers.
    pub(crate) fn count_undecodable(&self, answered: &HeaderMap) {
        self.counters.errors.increment();
        let status = Status::from_header_map(answered);
        let message = status.as_ref().map_or("", Status::message);
        self.count_failure("undecodable", "", &message);
    }

    /// The answer to a request that is one too many.
    pub(crate) fn too_many_pending(&self) -> Status {
        self.counters.errors.increment();
        self.count_failure("too_many_pending", "", &"");
        Status::resource_exhausted(
            "--max-pending: there are as many pending requests as are allowed",
        )
    }

    /// Decides each descriptor by itself: one that cannot be decided neither keeps the others from
    /// being charged nor hides that one of them is over its limit.
    async fn respond(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
        if request.domain.is_empty() {
            return Err(self.invalid("domain", "it must not be empty"));
        }
        let count = request.descriptors.len();
        if !(1..=MAX_DESCRIPTORS).contains(&count) {
            let message = format!("there must be 1 to {MAX_DESCRIPTORS}, but there are {count}");
            return Err(self.invalid("descriptors", &message));
        }
        let rules = self.rules.get();
        let deciding = DecidingRules::of_request(&rules, request);
        let descriptors = request.descriptors.iter().zip(&deciding).enumerate();
        let answers = join_all(descriptors.map(|(index, (descriptor, deciding))| {
            self.decide(deciding, request, index, descriptor)
        }))
        .await;
        let over_limit = i32::from(Code::OverLimit);
        let is_over = |answer: &Result<DescriptorStatus, Status>| {
            answer.as_ref().is_ok_and(|status| status.code == over_limit)
        };
        let (overall_code, statuses) = match answers.iter().any(is_over) {
            true => {
                let statuses = answers.into_iter().map(Result::unwrap_or_default).collect();
                (Code::OverLimit, statuses)
            }
            false => (Code::Ok, answers.into_iter().collect::<Result<_, _>>()?),
        };
        let overall_code = overall_code.into();
        Ok(RateLimitResponse { overall_code, statuses, ..RateLimitResponse::default() })
    }

    /// Decides one descriptor.
    async fn decide(
        &self,
        deciding: &DecidingRules<'_>,
        request: &RateLimitRequest,
        index: usize,
        descriptor: &RateLimitDescriptor,
    ) -> Result<DescriptorStatus, Status> {
        if descriptor.entries.is_empty() {
            let field = format!("descriptors[{index}].entries");
            return Err(self.invalid(&field, "there must be at least 1"));
        }
        if !deciding.is_matched {
            self.counters.unmatched.increment();
            debug!(domain = request.domain, descriptor = index, "no rule matches");
        }
        let decide = |rule| self.decide_by_rule(rule, request, index, descriptor);
        match deciding.rules.as_slice() {
            [] if descriptor.limit.is_none() => Ok(response::unlimited()),
            [] => decide(None).await,
            [rule] => decide(Some(rule)).await,
            [rule, ..] if descriptor.limit.is_some() => decide(Some(rule)).await,
            rules => {
                let answers = join_all(rules.iter().map(|rule| decide(Some(rule)))).await;
                response::strictest(answers)
            }
        }
    }

    /// Decides one descriptor by one rule, or by the limit that the descriptor brings.
    async fn decide_by_rule(
        &self,
        rule: Option<&Rule>,
        request: &RateLimitRequest,
        index: usize,
        descriptor: &RateLimitDescriptor,
    ) -> Result<DescriptorStatus, Status> {
        let field = |name| format!("descriptors[{index}].{name}");
        let (domain, entries) = (&request.domain, &descriptor.entries);
        let every_hit = Costs::default();
        let mut costs = &every_hit;
        let limiter = match (&descriptor.limit, rule) {
            (None, Some(rule)) => {
                costs = &rule.costs;
                rule.limiter.clone()
            }
            (None, None) => return Ok(response::unlimited()),
            (Some(asked), rule) => {
                let unmatched = || unmatched_prefix(domain, entries);
                let prefix = rule.map_or_else(unmatched, |rule| rule.prefix().to_owned());
                let limiter = self.overrides.limiter(&prefix, asked);
                limiter.map_err(|message| self.invalid(&field("limit"), &message))?
            }
        };
        let mut of_rule = RuleView::new(rule);
        of_rule.shadow |= self.shadow;
        if let Some(counters) = of_rule.counters {
            counters.descriptors.increment();
        }
        let key = rule.map_or_else(|| unmatched_key(entries), |rule| rule.bucket_key(entries));
        let answer = Hits::of(request, descriptor).apply(&limiter, &key, costs, of_rule.reports);
        let (decision, place) = match tokio::time::timeout(self.request_timeout, answer).await {
            Ok(decision) => (decision, format!("descriptors[{index}]")),
            Err(_) => (Err(Error::timeout(self.request_timeout)), "--request-timeout".to_owned()),
        };
        self.log_store_failures(of_rule.name, &decision);
        match decision {
            Ok(decision) => {
                if let Some(counters) = of_rule.counters {
                    counters.count(&decision, self.near_limit);
                }
                debug!(
                    rule = of_rule.name,
                    shadow = of_rule.shadow,
                    allowed = decision.allowed,
                    remaining = decision.remaining,
                    retry_after_ns = decision.retry_after,
                    "checked"
                );
                Ok(self.status(of_rule, response::descriptor_status(&limiter, &decision)))
            }
            Err(Error::CostTooLarge { cost, burst }) => {
                self.count_failure("cost_too_large", of_rule.name, &"");
                if let Some(counters) = of_rule.counters {
                    counters.over.increment();
                }
                debug!(rule = of_rule.name, cost, burst, "no wait is long enough for these hits");
                Ok(self.status(of_rule, response::never(&limiter, burst)))
            }
            Err(error) => {
                // The error of a corrupt bucket names the key, which may be a credential.
                let shown: &dyn core::fmt::Display = match &error {
                    Error::CorruptBucket { .. } => &"",
                    error => error,
                };
                self.count_failure(error.code(), of_rule.name, shown);
                match of_rule.shadow {
                    true => Ok(self.shadow_failed(of_rule.name, &error)),
                    false => Err(response::error_status(&place, &error)),
                }
            }
        }
    }

    /// The status of a descriptor under a rule. A shadow rule only counts that it would refuse.
    fn status(&self, of_rule: RuleView<'_>, mut status: DescriptorStatus) -> DescriptorStatus {
        if of_rule.shadow && status.code == i32::from(Code::OverLimit) {
            self.counters.shadow_refused.increment();
            if let Some(counters) = of_rule.counters {
                counters.shadow.increment();
            }
            status.code = Code::Ok.into();
        }
        status
    }

    /// The status for a shadow rule that could not be checked: it never refuses a request.
    fn shadow_failed(&self, rule: &str, error: &Error) -> DescriptorStatus {
        self.counters.shadow_errors.increment();
        debug!(rule, code = error.code(), "a shadow rule could not be checked");
        response::unlimited()
    }

    /// The error for a field that is wrong in the configuration of the client.
    fn invalid(&self, field: &str, message: &str) -> Status {
        let message = format!("{field}: {message}");
        let error = Error::InvalidArgument { name: "request", message };
        self.count_failure(error.code(), "", &error);
        response::error_status("", &error)
    }

    fn count_failure(&self, reason: &'static str, rule: &str, error: &dyn core::fmt::Display) {
        let due = self.counters.failures.count(reason, rule, self.started.elapsed());
        // Outages of the store have lines of their own.
        let is_outage = matches!(reason, "store_error" | "store_timeout");
        if let Some(failures) = due.filter(|_| !is_outage) {
            warn!(reason, rule, failures, %error, "some requests cannot be decided as they are");
        }
    }

    /// Logs the beginning, the continuation and the end of store failures, and corrupt buckets.
    fn log_store_failures(&self, rule: &str, result: &Result<Decision, Error>) {
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
                warn!(code = error.code(), rule, "a bucket is corrupt");
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

/// What a rule says about its descriptors. A descriptor that brings its limit needs no rule.
#[derive(Clone, Copy)]
struct RuleView<'r> {
    name: &'r str,
    shadow: bool,
    reports: bool,
    counters: Option<&'r RuleCounters>,
}

impl<'r> RuleView<'r> {
    fn new(rule: Option<&'r Rule>) -> Self {
        let none = Self { name: "", shadow: false, reports: false, counters: None };
        rule.map_or(none, |rule| Self {
            name: &rule.name,
            shadow: rule.shadow,
            reports: rule.reports,
            counters: Some(&rule.counters),
        })
    }
}
