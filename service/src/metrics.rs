//! The metrics of the service, in the text format of Prometheus.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate::{BreakerState, Limiter};

use crate::counters::Counters;
use crate::current_rules::CurrentRules;
use crate::rule_counters::RuleCounters;
use crate::rules::RuleSet;
use crate::rules_status::RulesStatus;

/// The counters and rules that `/metrics` reads.
#[derive(Clone)]
pub(crate) struct Metrics {
    counters: Arc<Counters>,
    rules: Arc<CurrentRules>,
    rules_status: Arc<RulesStatus>,
}

impl Metrics {
    pub(crate) const fn new(
        counters: Arc<Counters>,
        rules: Arc<CurrentRules>,
        rules_status: Arc<RulesStatus>,
    ) -> Self {
        Self { counters, rules, rules_status }
    }

    /// All metrics in the text format of Prometheus, version 0.0.4.
    pub(crate) fn text(&self) -> String {
        let Counters {
            ok,
            over_limit,
            errors,
            unmatched,
            shadow_refused,
            shadow_errors,
            failures,
            rlqs,
        } = &*self.counters;
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

        let rules = self.rules.get();
        for (name, help, samples) in of_rules(&rules) {
            let samples: Vec<_> = samples.iter().map(|(labels, it)| (&**labels, *it)).collect();
            family(name, "counter", help, &samples);
        }
        let status = &self.rules_status;
        let valid = [("", u64::from(status.error().is_none()))];
        let help = "1 while the rules in force are those of the file, 0 while it cannot be used.";
        family("tidegate_rules_valid", "gauge", help, &valid);
        let reloads =
            [("{result=\"ok\"}", status.ok.get()), ("{result=\"failed\"}", status.failed.get())];
        family("tidegate_rules_reloads_total", "counter", "Reloads of the rules.", &reloads);
        let help = "When rules were last put in force, in seconds since the Unix epoch.";
        let loaded_at = [("", status.loaded_at())];
        family("tidegate_rules_loaded_timestamp_seconds", "gauge", help, &loaded_at);

        // All rules share one store, so the health of any limiter is that of the store.
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
        text + &rlqs.text()
    }
}

/// A family of samples: its name, its help, and the samples with their labels.
type Family = (&'static str, &'static str, Vec<(String, u64)>);

/// The metrics of the rules. Rules with the same name have the same counters.
fn of_rules(rules: &RuleSet) -> [Family; 3] {
    let named: BTreeMap<&str, &RuleCounters> =
        rules.iter().map(|rule| (rule.name.as_str(), &*rule.counters)).collect();
    let (mut descriptors, mut decisions, mut shadow) = (Vec::new(), Vec::new(), Vec::new());
    for (name, counters) in named {
        let rule = format!("rule=\"{}\"", escaped_label(name));
        descriptors.push((format!("{{{rule}}}"), counters.descriptors.get()));
        shadow.push((format!("{{{rule}}}"), counters.shadow.get()));
        let results =
            [("within", &counters.within), ("near", &counters.near), ("over", &counters.over)];
        decisions.extend(
            results.map(|(result, it)| (format!("{{{rule},result=\"{result}\"}}"), it.get())),
        );
    }
    [
        ("tidegate_rule_descriptors_total", "Descriptors that a rule was to decide.", descriptors),
        ("tidegate_rule_decisions_total", "Decisions of a rule: within, near or over.", decisions),
        (
            "tidegate_rule_shadow_total",
            "Descriptors over the limit that were let pass, because the rule only counts.",
            shadow,
        ),
    ]
}

/// The value of a label, escaped as Prometheus wants it.
pub(crate) fn escaped_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
