//! Envoy's rate limit service, version 3, on Tidegate's limiters.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use futures_util::future::join_all;
use tidegate::{Decision, Error, Source, TieredDecision};
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
use crate::ruling::{Answer, Ruling, Verdict};
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

    /// Answers a request over gRPC. The hits of a report are charged also when they do not fit.
    pub(crate) async fn should_rate_limit(
        &self,
        request: RateLimitRequest,
        is_report: bool,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let call = Call { request: &request, is_report };
        Ok(Response::new(self.answer_call(call).await?.to_response()))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The error of a request that cannot be decided, with its stable code in the metadata.
    pub(crate) async fn answer(&self, request: &RateLimitRequest) -> Result<Answer, Status> {
        self.answer_call(Call { request, is_report: false }).await
    }

    async fn answer_call(&self, call: Call<'_>) -> Result<Answer, Status> {
        let answer = self.respond(call).await;
        match &answer {
            Ok(answer) if answer.is_over => self.counters.over_limit.increment(),
            Ok(_) => self.counters.ok.increment(),
            Err(_) => self.counters.errors.increment(),
        }
        answer
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
    async fn respond(&self, call: Call<'_>) -> Result<Answer, Status> {
        let request = call.request;
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
        let answers =
            join_all(descriptors.map(|(index, (descriptor, deciding))| {
                self.decide(deciding, call, index, descriptor)
            }))
            .await;
        Answer::new(answers)
    }

    /// Decides one descriptor by each of its rules.
    async fn decide(
        &self,
        deciding: &DecidingRules<'_>,
        call: Call<'_>,
        index: usize,
        descriptor: &RateLimitDescriptor,
    ) -> Vec<Result<Ruling, Status>> {
        if descriptor.entries.is_empty() {
            let field = format!("descriptors[{index}].entries");
            return vec![Err(self.invalid(&field, "there must be at least 1"))];
        }
        if !deciding.is_matched {
            self.counters.unmatched.increment();
            debug!(domain = call.request.domain, descriptor = index, "no rule matches");
        }
        let decide = |decider| self.decide_by(decider, call, index, descriptor);
        match (&descriptor.limit, deciding.rules.as_slice()) {
            (Some(asked), rules) => {
                vec![decide(Decider::Limit { asked, rule: rules.first().copied() }).await]
            }
            (None, []) => Vec::new(),
            (None, [rule]) => vec![decide(Decider::Rule(rule)).await],
            (None, rules) => join_all(rules.iter().map(|rule| decide(Decider::Rule(rule)))).await,
        }
    }

    /// Decides one descriptor by one rule, or by the limit that the descriptor brings.
    async fn decide_by(
        &self,
        decider: Decider<'_>,
        call: Call<'_>,
        index: usize,
        descriptor: &RateLimitDescriptor,
    ) -> Result<Ruling, Status> {
        let Call { request, is_report } = call;
        let field = |name| format!("descriptors[{index}].{name}");
        let (domain, entries) = (&request.domain, &descriptor.entries);
        let every_hit = Costs::default();
        let mut costs = &every_hit;
        let (limiter, rule) = match decider {
            Decider::Rule(rule) => {
                costs = &rule.costs;
                (rule.limiter.clone(), Some(rule))
            }
            Decider::Limit { asked, rule } => {
                let unmatched = || unmatched_prefix(domain, entries);
                let prefix = rule.map_or_else(unmatched, |rule| rule.prefix().to_owned());
                let limiter = self.overrides.limiter(&prefix, asked);
                (limiter.map_err(|message| self.invalid(&field("limit"), &message))?, rule)
            }
        };
        let mut of_rule = RuleView::new(rule);
        of_rule.shadow |= self.shadow;
        if let Some(counters) = of_rule.counters {
            counters.descriptors.increment();
        }
        let key = rule.map_or_else(|| unmatched_key(entries), |rule| rule.bucket_key(entries));
        let reports = of_rule.reports || is_report;
        let answer = Hits::of(request, descriptor).apply(&limiter, &key, costs, reports);
        let (decision, place) = match tokio::time::timeout(self.request_timeout, answer).await {
            Ok(decision) => (decision, format!("descriptors[{index}]")),
            Err(_) => (Err(Error::timeout(self.request_timeout)), "--request-timeout".to_owned()),
        };
        self.log_store_failures(of_rule.name, &decision);
        let verdict = match decision {
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
                Verdict::Decided(decision)
            }
            Err(Error::CostTooLarge { cost, burst }) => {
                self.count_failure("cost_too_large", of_rule.name, &"");
                if let Some(counters) = of_rule.counters {
                    counters.over.increment();
                }
                debug!(rule = of_rule.name, cost, burst, "no wait is long enough for these hits");
                Verdict::Never { burst }
            }
            Err(error) => {
                // The error of a corrupt bucket names the key, which may be a credential.
                let shown: &dyn core::fmt::Display = match &error {
                    Error::CorruptBucket { .. } => &"",
                    error => error,
                };
                self.count_failure(error.code(), of_rule.name, shown);
                if !of_rule.shadow {
                    return Err(response::error_status(&place, &error));
                }
                self.counters.shadow_errors.increment();
                debug!(rule = of_rule.name, code = error.code(), "a shadow rule is not checked");
                Verdict::Unchecked
            }
        };
        let (rule, shadow) = (of_rule.name.to_owned(), of_rule.shadow);
        let ruling = Ruling { rule, limiter, verdict, shadow };
        if shadow && ruling.is_exceeded() {
            self.counters.shadow_refused.increment();
            if let Some(counters) = of_rule.counters {
                counters.shadow.increment();
            }
        }
        Ok(ruling)
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
    fn log_store_failures(&self, rule: &str, result: &Result<TieredDecision, Error>) {
        let result = result.as_ref().map(TieredDecision::decision);
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

/// One request, and whether its hits have been used already.
#[derive(Clone, Copy)]
struct Call<'r> {
    request: &'r RateLimitRequest,
    is_report: bool,
}

/// What decides a descriptor.
#[derive(Clone, Copy)]
enum Decider<'r> {
    /// A rule.
    Rule(&'r Rule),
    /// The limit that the descriptor brings, under the first rule that matches.
    Limit { asked: &'r RateLimitOverride, rule: Option<&'r Rule> },
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
