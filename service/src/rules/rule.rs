//! One rule: the descriptors that it matches, and their limits.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tidegate::{AnyLimit, Limit, Limiter, NamedLimit};

use super::matching::Matching;
use super::prefix::own_prefix;
use crate::bucket_key::BucketKey;
use crate::hits::Costs;
use crate::rule_counters::RuleCounters;
use crate::rules_file::{EntryText, LimitText, RuleText};
use crate::store_options::{StoreOptions, option_of};

/// The longest name of a rule, in bytes.
const MAX_NAME: usize = 64;

/// The limits of the descriptors that it matches.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The rule's place in the file, such as `rules[3]`.
    pub(crate) place: String,
    /// The rule's name in logs and metrics: the one that it is given, or its place.
    pub(crate) name: String,
    /// The names of the rules that do not decide in a request in which this one does.
    pub(crate) replaces: Vec<String>,
    /// Whether later rules decide, too.
    pub(crate) goes_on: bool,
    pub(crate) limiter: Limiter,
    /// What the rules of this name have decided.
    pub(crate) counters: Arc<RuleCounters>,
    /// What hits cost.
    pub(crate) costs: Costs,
    /// Whether the rule only counts and never refuses.
    pub(crate) shadow: bool,
    /// Whether hits are charged also when they do not fit.
    pub(crate) reports: bool,
    /// Whether the buckets may be leased.
    pub(super) lease: bool,
    pub(crate) domain: Option<String>,
    pub(crate) matching: Matching,
    pub(super) key: BucketKey,
    pub(super) prefix: String,
}

impl Rule {
    /// The rule of `--limit`, which matches every domain and descriptor.
    pub(crate) fn for_everything(limiter: Limiter, prefix: &str, reports: bool) -> Self {
        Self {
            place: "--limit".to_owned(),
            name: "--limit".to_owned(),
            replaces: Vec::new(),
            goes_on: false,
            limiter,
            counters: Arc::default(),
            costs: Costs::default(),
            shadow: false,
            reports,
            lease: true,
            domain: None,
            matching: Matching::Any,
            key: BucketKey::Values,
            prefix: prefix.to_owned(),
        }
    }

    /// The bucket's key for a descriptor with these entries.
    pub(crate) fn bucket_key(&self, entries: &[Entry]) -> String {
        self.key.write(&self.matching.values(entries))
    }

    /// The prefix of keys in the store.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn build(
        place: String,
        rule: RuleText,
        store_options: &StoreOptions,
    ) -> Result<Self, String> {
        let at =
            |field: &str, message: &dyn core::fmt::Display| format!("{place}.{field}: {message}");
        check_names(&rule, &at)?;
        let matching = match (rule.entries, rule.has) {
            (None, None) => Matching::Any,
            (Some(_), Some(_)) => {
                return Err(at("has", &"a rule has either `match` or `has`"));
            }
            (Some(entries), None) => Matching::Exactly(check_entries("match", entries, &at)?),
            (None, Some(entries)) => Matching::Has(check_entries("has", entries, &at)?),
        };
        let key = match &rule.key {
            None => BucketKey::Values,
            Some(template) if matching == Matching::Any && template.contains('{') => {
                return Err(at("key", &"it needs `match` or `has`, whose entries it names"));
            }
            Some(template) => {
                let keys: Vec<&str> = matching.entries().iter().map(|it| it.key.as_str()).collect();
                BucketKey::template(template, &keys).map_err(|error| at("key", &error))?
            }
        };
        let prefix_is_own = rule.prefix.is_none();
        let prefix = rule.prefix.unwrap_or_else(|| own_prefix(rule.domain.as_deref(), &matching));
        let mut builder = match rule.lease {
            true => store_options.limiter(&prefix),
            false => store_options.without_leases().limiter(&prefix),
        };
        for (index, LimitText { name, limit, cost }) in rule.limits.iter().enumerate() {
            let limit = NamedLimit::parse(limit, name.as_deref())
                .map_err(|error| at(&format!("limits[{index}]"), &error))?;
            if let (Some(cost), Some(rate)) = (cost, limit.limit.rate())
                && !(1..=rate.burst()).contains(cost)
            {
                let burst = rate.burst();
                let message = format!("it must be 1 to the burst of {burst}, but is {cost}");
                return Err(at(&format!("limits[{index}].cost"), &message));
            }
            builder = builder.add_limit(limit);
        }
        let costs = Costs::new(rule.limits.iter().map(|limit| limit.cost));
        let limiter = builder.build().map_err(|error| {
            let field = if error.code() == "invalid_limit" { "limits" } else { "prefix" };
            match option_of(&error) {
                None if field == "prefix" && prefix_is_own => at(
                    field,
                    &"the one that is made from `domain` and `match` is longer than 256 bytes; give \
                      the rule a shorter one",
                ),
                Some(option) => at("limits", &format!("with {option}: {error}")),
                None => at(field, &error),
            }
        })?;
        let RuleText { name, domain, replaces, goes_on, shadow, reports, lease, .. } = rule;
        Ok(Self {
            name: name.unwrap_or_else(|| place.clone()),
            place,
            replaces,
            goes_on,
            limiter,
            counters: Arc::default(),
            costs,
            shadow,
            reports,
            lease,
            domain,
            matching,
            key,
            prefix,
        })
    }

    /// Whether the rule decides whatever `later` matches, so that `later` never does.
    pub(super) fn covers(&self, later: &Self) -> bool {
        !self.goes_on
            && (self.domain.is_none() || self.domain == later.domain)
            && self.matching.covers(&later.matching)
    }

    pub(super) fn matches(&self, domain: &str, entries: &[Entry]) -> bool {
        self.domain.as_deref().is_none_or(|wanted| wanted == domain)
            && self.matching.matches(entries)
    }

    /// The limits of the rule's buckets.
    pub(super) fn rates(&self) -> Vec<Limit> {
        let limits = || self.limiter.limits().iter().map(|named| &named.limit);
        if limits().any(|limit| *limit == AnyLimit::None) {
            return Vec::new();
        }
        limits().filter_map(AnyLimit::rate).copied().collect()
    }
}

/// Checks the domain, and the names that the rule gives and refers to.
fn check_names(
    rule: &RuleText,
    at: &dyn Fn(&str, &dyn core::fmt::Display) -> String,
) -> Result<(), String> {
    if rule.domain.as_deref() == Some("") {
        return Err(at("domain", &"it must not be empty; leave it out to match any domain"));
    }
    let Some(name) = &rule.name else { return Ok(()) };
    if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
        let message = format!("it must be 1 to {MAX_NAME} bytes without control characters");
        return Err(at("name", &message));
    }
    match rule.replaces.iter().position(|it| it == name) {
        Some(index) => Err(at(&format!("replaces[{index}]"), &"it is the rule's own name")),
        None => Ok(()),
    }
}

/// Checks the entries of `match` or `has`.
fn check_entries(
    field: &str,
    entries: Vec<EntryText>,
    at: &dyn Fn(&str, &dyn core::fmt::Display) -> String,
) -> Result<Vec<EntryText>, String> {
    if entries.is_empty() {
        let message = "it must list at least 1 entry; leave it out to match any descriptor";
        return Err(at(field, &message));
    }
    for (index, EntryText { key, value, .. }) in entries.iter().enumerate() {
        // In envoyproxy/ratelimit, too, the star is a wildcard at the end only.
        let star = value.as_deref().and_then(|value| value.find('*').map(|at| (value, at)));
        if star.is_some_and(|(value, at)| at + 1 < value.len()) {
            let message = "`*` stands for any text, and only at the end of a value";
            return Err(at(&format!("{field}[{index}].value"), &message));
        }
        if key.is_empty() {
            return Err(at(&format!("{field}[{index}]"), &"the entry key must not be empty"));
        }
    }
    Ok(entries)
}
