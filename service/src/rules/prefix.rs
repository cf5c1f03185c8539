//! Where the buckets of rules are: the prefixes of those that give none, and the keys.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

use super::matching::Matching;
use crate::bucket_key::BucketKey;
use crate::rules_file::EntryText;

/// The prefix of limiters without one, in every language.
const DEFAULT_PREFIX: &str = "tidegate";

/// The bucket's key for a descriptor without a rule.
pub(crate) fn unmatched_key(entries: &[Entry]) -> String {
    BucketKey::Values.write(&Matching::Any.values(entries))
}

/// The prefix for a descriptor without a rule: that of a rule with its domain and entry keys.
pub(crate) fn unmatched_prefix(domain: &str, entries: &[Entry]) -> String {
    let key = |entry: &Entry| EntryText { key: entry.key.clone(), value: None, share: false };
    own_prefix(Some(domain), &Matching::Exactly(entries.iter().map(key).collect()))
}

/// The prefix of a rule that gives none: made from what the rule matches, so that it stays the same
/// when other rules come and go, and no two rules that can both match something share a bucket by
/// chance. A rule that matches everything has the prefix of limiters without one.
pub(crate) fn own_prefix(domain: Option<&str>, matching: &Matching) -> String {
    let mut prefix = DEFAULT_PREFIX.to_owned();
    if domain.is_none() && *matching == Matching::Any {
        return prefix;
    }
    prefix.push('/');
    match domain {
        Some(domain) => push_escaped(&mut prefix, domain),
        None => prefix.push('*'),
    }
    if matches!(matching, Matching::Has(_)) {
        prefix.push_str("/*");
    }
    for EntryText { key, value, .. } in matching.entries() {
        prefix.push('/');
        push_escaped(&mut prefix, key);
        if let Some(value) = value {
            prefix.push('=');
            push_escaped(&mut prefix, value);
        }
    }
    prefix
}

/// Escapes what has a meaning in a prefix of [`own_prefix`].
fn push_escaped(prefix: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '%' => prefix.push_str("%25"),
            '/' => prefix.push_str("%2F"),
            '=' => prefix.push_str("%3D"),
            '*' => prefix.push_str("%2A"),
            other => prefix.push(other),
        }
    }
}
