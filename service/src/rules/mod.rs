//! The rules: the limits of each kind of descriptor.

mod deciding;
mod matching;
mod prefix;
mod rule;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tidegate::{Limiter, NamedLimit};
use tracing::warn;

pub(crate) use self::deciding::DecidingRules;
pub(crate) use self::matching::Matching;
pub(crate) use self::prefix::{own_prefix, unmatched_key, unmatched_prefix};
pub(crate) use self::rule::Rule;
use crate::rules_file::RulesFile;
use crate::store_options::{StoreOptions, option_of};

/// The most rules in a file. They are tried one after the other.
const MAX_RULES: usize = 1000;

/// The place and the reason of an error of TOML, in one line. The line of the file is left out, because the
/// sentence is logged, and the file may be another one, with a password.
fn told(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    let mut reason = error.message().lines().collect::<Vec<_>>().join(", ");
    // A value of another type is quoted.
    if let (Some(start), Some(end)) = (reason.find("string \""), reason.rfind("\", expected"))
        && start < end
    {
        reason.replace_range(start + "string".len()..=end, "");
    }
    format!("TOML parse error at line {line}, column {column}: {reason}")
}

/// All rules, in order: the first that matches a descriptor decides.
#[derive(Debug)]
pub(crate) struct RuleSet(Vec<Rule>);

impl RuleSet {
    /// One rule for every domain and descriptor.
    ///
    /// # Errors
    /// A sentence that names the option and its bound.
    pub(crate) fn single(
        limits: &[String],
        prefix: &str,
        reports: bool,
        store_options: &StoreOptions,
    ) -> Result<Self, String> {
        let mut builder = store_options.limiter(prefix);
        for text in limits {
            let limit = NamedLimit::parse(text.trim(), None)
                .map_err(|error| format!("--limit: {error}"))?;
            builder = builder.add_limit(limit);
        }
        let limiter = builder.build().map_err(|error| {
            format!("{}: {error}", option_of(&error).unwrap_or("--limit, --prefix"))
        })?;
        Ok(Self(vec![Rule::for_everything(limiter, prefix, reports)]))
    }

    /// The rules of a file with this text.
    ///
    /// # Errors
    /// A sentence that names the file, the field and its bound.
    pub(crate) fn of_file(
        path: &Path,
        text: &str,
        store_options: &StoreOptions,
    ) -> Result<Self, String> {
        let file = path.display();
        let rules = Self::parse(text, store_options);
        let rules = rules.map_err(|message| format!("{file}: {message}"))?;
        for (rule, earlier) in rules.that_never_decide() {
            let (rule, earlier) = (&rule.place, &earlier.place);
            warn!(rule, earlier, "the rule never decides: an earlier one matches all of it");
        }
        Ok(rules)
    }

    /// The rules of a file with this text.
    ///
    /// # Errors
    /// A sentence that names the field and its bound.
    pub(crate) fn parse(text: &str, store_options: &StoreOptions) -> Result<Self, String> {
        let file: RulesFile = toml::from_str(text).map_err(|error| told(text, &error))?;
        if !(1..=MAX_RULES).contains(&file.rules.len()) {
            let count = file.rules.len();
            return Err(format!("rules: there must be 1 to {MAX_RULES}, but there are {count}"));
        }
        let mut rules = Vec::with_capacity(file.rules.len());
        for (index, rule) in file.rules.into_iter().enumerate() {
            let mut rule = Rule::build(format!("rules[{index}]"), rule, store_options)?;
            if let Some(same) = rules.iter().find(|it: &&Rule| it.name == rule.name) {
                rule.counters = Arc::clone(&same.counters);
            }
            check_prefix_is_free(&rules, &rule)?;
            rules.push(rule);
        }
        check_replaced_names(&rules)?;
        check_no_cycle(&rules)?;
        Ok(Self(rules))
    }

    /// The rules that decide a descriptor with these entries: the first that matches it, and later ones as
    /// long as each says that it goes on.
    pub(crate) fn deciding<'r>(
        &'r self,
        domain: &'r str,
        entries: &'r [Entry],
    ) -> impl Iterator<Item = &'r Rule> {
        let mut goes_on = true;
        let matching = self.0.iter().filter(|rule| rule.matches(domain, entries));
        matching.take_while(move |rule| core::mem::replace(&mut goes_on, rule.goes_on))
    }

    /// The rules that never decide, each with an earlier one that decides whatever it matches.
    pub(crate) fn that_never_decide(&self) -> impl Iterator<Item = (&Rule, &Rule)> {
        self.0.iter().enumerate().filter_map(|(index, rule)| {
            let earlier = self.0.iter().take(index).find(|earlier| earlier.covers(rule))?;
            Some((rule, earlier))
        })
    }

    /// All rules, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    /// Takes over the counters of rules with the same name, and the limiters of rules that have the same limits and buckets as before, so that
    /// buckets in memory, leases and what is known of refusals stay. Returns the limiters of `old` that
    /// no rule uses any more.
    pub(crate) fn take_over(&mut self, old: &Self) -> Vec<Limiter> {
        let mut is_used = vec![false; old.0.len()];
        for rule in &mut self.0 {
            if let Some(same) = old.0.iter().find(|it| it.name == rule.name) {
                rule.counters = Arc::clone(&same.counters);
            }
            let same = |it: &Rule| {
                it.prefix == rule.prefix
                    && it.lease == rule.lease
                    && it.limiter.limits() == rule.limiter.limits()
            };
            let place = old.0.iter().position(same);
            if let Some((before, is_used)) =
                place.and_then(|place| Some((old.0.get(place)?, is_used.get_mut(place)?)))
            {
                rule.limiter = before.limiter.clone();
                *is_used = true;
            }
        }
        let unused = old.0.iter().zip(is_used).filter(|(_, is_used)| !is_used);
        unused.map(|(rule, _)| rule.limiter.clone()).collect()
    }

    /// The limiter of each rule.
    pub(crate) fn limiters(&self) -> impl Iterator<Item = &Limiter> {
        self.0.iter().map(|rule| &rule.limiter)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The text of a rules file.
///
/// # Errors
/// A sentence that names the file. A pipe or a device is refused, because reading it may never end.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    let is_file = std::fs::metadata(path).map(|found| found.is_file());
    let text = match is_file {
        Ok(false) => Err(io::Error::other("it is no regular file")),
        Ok(true) | Err(_) => std::fs::read_to_string(path),
    };
    text.map_err(|error| format!("--rules: {}: {error}", path.display()))
}

/// Refuses a rule that has the prefix of an earlier one with other limits. The two would share
/// buckets; each call would convert the debt that the other has written, and neither limit would
/// be kept. A rule without buckets shares none.
fn check_prefix_is_free(earlier: &[Rule], rule: &Rule) -> Result<(), String> {
    let own = rule.rates();
    let other = earlier.iter().find(|it| {
        let others = it.rates();
        it.prefix == rule.prefix && !own.is_empty() && !others.is_empty() && others != own
    });
    other.map_or(Ok(()), |other| {
        Err(format!(
            "{}.prefix: {} has the same prefix {:?} with other limits, so that one bucket \
             would be held to both; give one of the two a prefix of its own",
            rule.place, other.place, rule.prefix
        ))
    })
}

/// Refuses names in `replaces` that no rule has.
fn check_replaced_names(rules: &[Rule]) -> Result<(), String> {
    for rule in rules {
        for (index, name) in rule.replaces.iter().enumerate() {
            if !rules.iter().any(|other| other.name == *name) {
                return Err(format!(
                    "{}.replaces[{index}]: no rule has the name {name:?}",
                    rule.place
                ));
            }
        }
    }
    Ok(())
}

/// Refuses rules that replace one another: in a request that matches all of them, none would decide.
fn check_no_cycle(rules: &[Rule]) -> Result<(), String> {
    for rule in rules {
        let (mut names, mut next) = (vec![rule.name.as_str()], 0);
        while let Some(name) = names.get(next).copied() {
            let replaced = rules.iter().filter(|it| it.name == name).flat_map(|it| &it.replaces);
            for replaced in replaced {
                if *replaced == rule.name {
                    return Err(format!(
                        "{}.replaces: {name:?} replaces {replaced:?} and is replaced by it in turn, so \
                         that neither would decide",
                        rule.place
                    ));
                }
                if !names.contains(&replaced.as_str()) {
                    names.push(replaced);
                }
            }
            next += 1;
        }
    }
    Ok(())
}
