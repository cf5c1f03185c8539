//! The metrics of the service, in the text format of Prometheus.

use core::fmt::Write as _;
use std::sync::Arc;

use tidegate::{BreakerState, Limiter};

use crate::counters::Counters;
use crate::current_rules::CurrentRules;

/// The counters and rules that `/metrics` reads.
#[derive(Clone)]
pub(crate) struct Metrics {
    counters: Arc<Counters>,
    rules: Arc<CurrentRules>,
}

impl Metrics {
    pub(crate) const fn new(counters: Arc<Counters>, rules: Arc<CurrentRules>) -> Self {
        Self { counters, rules }
    }

    /// All metrics in the text format of Prometheus, version 0.0.4.
    pub(crate) fn text(&self) -> String {
        let Counters { ok, over_limit, errors, unmatched, shadow_refused, shadow_errors, failures } =
            &*self.counters;
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            // Writing to a string cannot fail.
            _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let requests = [
            ("{code=\"ok\"}", ok.get()),
            ("{code=\"over_limit\"}", over_limit.get()),
            ("{code=\"error\"}", errors.get()),
        ];
        family("tidegate_requests_total", "counter", "Requests answered.", &requests);
        let count = [("", unmatched.get())];
        let help = "Descriptors that no rule matched.";
        family("tidegate_unmatched_descriptors_total", "counter", help, &count);
        let shadow = [
            ("{code=\"refused\"}", shadow_refused.get()),
            ("{code=\"error\"}", shadow_errors.get()),
        ];
        let help = "Descriptors that a shadow rule would have refused, or could not check.";
        family("tidegate_shadow_descriptors_total", "counter", help, &shadow);
        let failures = failures.samples();
        let samples: Vec<_> = failures.iter().map(|(labels, count)| (&**labels, *count)).collect();
        let help = "Requests and descriptors that could not be decided as they were, by reason.";
        family("tidegate_failures_total", "counter", help, &samples);

        // All rules share one store, so the health of any limiter is that of the store.
        let rules = self.rules.get();
        let health = rules.limiters().next().map(Limiter::store_health);
        let state = health.as_ref().map_or(BreakerState::Closed, |health| health.state);
        let is = |asked: BreakerState| u64::from(state == asked);
        let states = [
            ("{state=\"closed\"}", is(BreakerState::Closed)),
            ("{state=\"open\"}", is(BreakerState::Open)),
            ("{state=\"half_open\"}", is(BreakerState::HalfOpen)),
        ];
        let help = "1 for the state of the store's circuit breaker: closed, calls are sent; \
                    open, they are not; half_open, one probe is sent.";
        family("tidegate_store_state", "gauge", help, &states);
        let failures = [("", health.map_or(0, |health| health.failures))];
        family(
            "tidegate_store_failures_total",
            "counter",
            "Calls to the store that failed.",
            &failures,
        );
        let fallbacks = rules.limiters().map(|limiter| limiter.store_health().fallbacks).sum();
        let help = "Checks answered by the policy of --on-store-error.";
        family("tidegate_fallbacks_total", "counter", help, &[("", fallbacks)]);
        text
    }
}
