//! The rules that decide the descriptors of one request.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;

use super::{Rule, RuleSet};

/// The rules that decide one descriptor.
#[derive(Debug)]
pub(crate) struct DecidingRules<'r> {
    /// The rules that match and that no other one replaces, in the order of the file.
    pub(crate) rules: Vec<&'r Rule>,
    /// Whether a rule matches, replaced or not.
    pub(crate) is_matched: bool,
}

impl<'r> DecidingRules<'r> {
    /// The rules for each descriptor of a request. A descriptor that brings its own limit neither replaces
    /// others nor is replaced, because the limit of its rule does not decide.
    pub(crate) fn of_request(rules: &'r RuleSet, request: &'r RateLimitRequest) -> Vec<Self> {
        let mut found: Vec<Self> = request
            .descriptors
            .iter()
            .map(|descriptor| {
                let rules: Vec<_> = rules.deciding(&request.domain, &descriptor.entries).collect();
                Self { is_matched: !rules.is_empty(), rules }
            })
            .collect();
        let has_own_limit = || request.descriptors.iter().map(|it| it.limit.is_some());
        let replaced: Vec<&str> = found
            .iter()
            .zip(has_own_limit())
            .filter(|(_, has_own_limit)| !has_own_limit)
            .flat_map(|(found, _)| &found.rules)
            .flat_map(|rule| rule.replaces.iter().map(String::as_str))
            .collect();
        if !replaced.is_empty() {
            for (found, has_own_limit) in found.iter_mut().zip(has_own_limit()) {
                found.rules.retain(|rule| has_own_limit || !replaced.contains(&rule.name.as_str()));
            }
        }
        found
    }
}
