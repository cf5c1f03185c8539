//! One rule: the descriptors that it matches, and their limits.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tidegate::{AnyLimit, Limit, Limiter, NamedLimit};

use super::prefix::{own_prefix, write_key};
use crate::bucket_key::BucketKey;
use crate::hits::Costs;
use crate::rules_file::{EntryText, LimitText, RuleText};
use crate::store_options::{StoreOptions, option_of};

/// The limits of the descriptors that it matches.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The rule's name in logs and errors: its place in the file.
    pub(crate) name: String,
    pub(crate) limiter: Limiter,
    /// What hits cost.
    pub(crate) costs: Costs,
    /// Whether the rule only counts and never refuses.
    pub(crate) shadow: bool,
    /// Whether hits are charged also when they do not fit.
    pub(crate) reports: bool,
    /// Whether the buckets may be leased.
    pub(super) lease: bool,
    pub(super) domain: Option<String>,
    pub(super) entries: Option<Vec<EntryText>>,
    pub(super) key: BucketKey,
    pub(super) prefix: String,
}

impl Rule {
    /// The rule of `--limit`, which matches every domain and descriptor.
    pub(crate) fn for_everything(limiter: Limiter, prefix: &str, reports: bool) -> Self {
        Self {
            name: "--limit".to_owned(),
            limiter,
            costs: Costs::default(),
            shadow: false,
            reports,
            lease: true,
            domain: None,
            entries: None,
            key: BucketKey::Values,
            prefix: prefix.to_owned(),
        }
    }

    /// The bucket's key for a descriptor with these entries.
    pub(crate) fn bucket_key(&self, entries: &[Entry]) -> String {
        write_key(&self.key, entries)
    }

    /// The prefix of keys in the store.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn build(
        name: String,
        rule: RuleText,
        store_options: &StoreOptions,
    ) -> Result<Self, String> {
        let at =
            |field: &str, message: &dyn core::fmt::Display| format!("{name}.{field}: {message}");
        if rule.domain.as_deref() == Some("") {
            return Err(at("domain", &"it must not be empty; leave it out to match any domain"));
        }
        if let Some(entries) = &rule.entries {
            if entries.is_empty() {
                let message = "it must list at least 1 entry; leave it out to match any descriptor";
                return Err(at("match", &message));
            }
            for (index, EntryText { value, .. }) in entries.iter().enumerate() {
                // In envoyproxy/ratelimit, too, the star is a wildcard at the end only.
                let star = value.as_deref().and_then(|value| value.find('*').map(|at| (value, at)));
                if star.is_some_and(|(value, at)| at + 1 < value.len()) {
                    let message = "`*` stands for any text, and only at the end of a value";
                    return Err(at(&format!("match[{index}].value"), &message));
                }
            }
            if let Some(index) = entries.iter().position(|entry| entry.key.is_empty()) {
                return Err(at(&format!("match[{index}]"), &"the entry key must not be empty"));
            }
        }
        let key = match (&rule.key, &rule.entries) {
            (None, _) => BucketKey::Values,
            (Some(_), None) => return Err(at("key", &"it needs `match`, whose entries it names")),
            (Some(template), Some(entries)) => {
                let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
                BucketKey::template(template, &keys).map_err(|error| at("key", &error))?
            }
        };
        let prefix_is_own = rule.prefix.is_none();
        let prefix = rule
            .prefix
            .unwrap_or_else(|| own_prefix(rule.domain.as_deref(), rule.entries.as_deref()));
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
        let RuleText { domain, entries, shadow, reports, lease, .. } = rule;
        Ok(Self { name, limiter, costs, shadow, reports, lease, domain, entries, key, prefix })
    }

    /// Whether the rule matches whatever `later` matches. Wildcards are not compared.
    pub(super) fn covers(&self, later: &Self) -> bool {
        (self.domain.is_none() || self.domain == later.domain)
            && match (&self.entries, &later.entries) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(own), Some(later)) => {
                    own.len() == later.len()
                        && own.iter().zip(later).all(|(own, later)| {
                            own.key == later.key
                                && (own.value.is_none() || own.value == later.value)
                        })
                }
            }
    }

    pub(super) fn matches(&self, domain: &str, entries: &[Entry]) -> bool {
        self.domain.as_deref().is_none_or(|wanted| wanted == domain)
            && self.entries.as_ref().is_none_or(|wanted| {
                wanted.len() == entries.len()
                    && wanted.iter().zip(entries).all(|(wanted, entry)| {
                        wanted.key == entry.key
                            && match wanted.value.as_deref() {
                                None => true,
                                Some(value) => match value.strip_suffix('*') {
                                    Some(start) => entry.value.starts_with(start),
                                    None => value == entry.value,
                                },
                            }
                    })
            })
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
