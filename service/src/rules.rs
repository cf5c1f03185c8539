//! The rules: the limits of each kind of descriptor.

use std::path::Path;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tidegate::{AnyLimit, Limit, Limiter, NamedLimit};
use tracing::warn;

use crate::bucket_key::BucketKey;
use crate::hits::Costs;
use crate::rules_file::{EntryText, LimitText, RuleText, RulesFile};
use crate::store_options::{StoreOptions, option_of};

/// The most rules in a file. They are tried one after the other.
const MAX_RULES: usize = 1000;

/// The prefix of limiters without one, in every language.
const DEFAULT_PREFIX: &str = "tidegate";

/// All rules, in order: the first that matches a descriptor decides.
#[derive(Debug)]
pub(crate) struct RuleSet(Vec<Rule>);

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
    lease: bool,
    domain: Option<String>,
    entries: Option<Vec<EntryText>>,
    key: BucketKey,
    prefix: String,
}

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
        Ok(Self(vec![Rule {
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
        }]))
    }

    /// Reads a rules file.
    ///
    /// # Errors
    /// A sentence that names the file, the field and its bound.
    pub(crate) fn read(path: &Path, store_options: &StoreOptions) -> Result<Self, String> {
        let file = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("--rules: {file}: {error}"))?;
        Self::parse(&text, store_options).map_err(|message| format!("{file}: {message}"))
    }

    fn parse(text: &str, store_options: &StoreOptions) -> Result<Self, String> {
        let file: RulesFile =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if !(1..=MAX_RULES).contains(&file.rules.len()) {
            let count = file.rules.len();
            return Err(format!("rules: there must be 1 to {MAX_RULES}, but there are {count}"));
        }
        let mut rules = Vec::with_capacity(file.rules.len());
        for (index, rule) in file.rules.into_iter().enumerate() {
            let rule = Rule::build(format!("rules[{index}]"), rule, store_options)?;
            check_prefix_is_free(&rules, &rule)?;
            if let Some(first) = rules.iter().find(|earlier: &&Rule| earlier.covers(&rule)) {
                let (rule, earlier) = (&rule.name, &first.name);
                warn!(rule, earlier, "the rule never decides: an earlier one matches all of it");
            }
            rules.push(rule);
        }
        Ok(Self(rules))
    }

    /// The first rule for a descriptor with these entries.
    pub(crate) fn find(&self, domain: &str, entries: &[Entry]) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.matches(domain, entries))
    }

    /// Takes over the limiters of rules that have the same limits and buckets as before, so that
    /// buckets in memory, leases and what is known of refusals stay. Returns the limiters of `old` that
    /// no rule uses any more.
    pub(crate) fn take_over(&mut self, old: &Self) -> Vec<Limiter> {
        let mut is_used = vec![false; old.0.len()];
        for rule in &mut self.0 {
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

impl Rule {
    /// The bucket's key for a descriptor with these entries.
    pub(crate) fn bucket_key(&self, entries: &[Entry]) -> String {
        write_key(&self.key, entries)
    }

    /// The prefix of keys in the store.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn build(name: String, rule: RuleText, store_options: &StoreOptions) -> Result<Self, String> {
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
    fn covers(&self, later: &Self) -> bool {
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

    fn matches(&self, domain: &str, entries: &[Entry]) -> bool {
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
}

fn write_key(key: &BucketKey, entries: &[Entry]) -> String {
    let values: Vec<&str> = entries.iter().map(|entry| entry.value.as_str()).collect();
    key.write(&values)
}

/// The bucket's key for a descriptor without a rule.
pub(crate) fn unmatched_key(entries: &[Entry]) -> String {
    write_key(&BucketKey::Values, entries)
}

/// The prefix for a descriptor without a rule: that of a rule with its domain and entry keys.
pub(crate) fn unmatched_prefix(domain: &str, entries: &[Entry]) -> String {
    let key = |entry: &Entry| EntryText { key: entry.key.clone(), value: None };
    own_prefix(Some(domain), Some(&entries.iter().map(key).collect::<Vec<_>>()))
}

/// The prefix of a rule that gives none: made from what the rule matches, so that it stays the same
/// when other rules come and go, and no two rules that can both match something share a bucket by
/// chance. A rule that matches everything has the prefix of limiters without one.
fn own_prefix(domain: Option<&str>, entries: Option<&[EntryText]>) -> String {
    let mut prefix = DEFAULT_PREFIX.to_owned();
    if domain.is_none() && entries.is_none() {
        return prefix;
    }
    prefix.push('/');
    match domain {
        Some(domain) => push_escaped(&mut prefix, domain),
        None => prefix.push('*'),
    }
    for EntryText { key, value } in entries.unwrap_or_default() {
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

/// Refuses a rule that has the prefix of an earlier one with other limits. The two would share
/// buckets; each call would convert the debt that the other has written, and neither limit would
/// be kept. A rule without buckets shares none.
fn check_prefix_is_free(earlier: &[Rule], rule: &Rule) -> Result<(), String> {
    let own = rates_of(rule);
    let other = earlier.iter().find(|it| {
        let others = rates_of(it);
        it.prefix == rule.prefix && !own.is_empty() && !others.is_empty() && others != own
    });
    other.map_or(Ok(()), |other| {
        Err(format!(
            "{}.prefix: {} has the same prefix {:?} with other limits, so that one bucket \
             would be held to both; give one of the two a prefix of its own",
            rule.name, other.name, rule.prefix
        ))
    })
}

/// The limits of the rule's buckets.
fn rates_of(rule: &Rule) -> Vec<Limit> {
    let limits = || rule.limiter.limits().iter().map(|named| &named.limit);
    if limits().any(|limit| *limit == AnyLimit::None) {
        return Vec::new();
    }
    limits().filter_map(AnyLimit::rate).copied().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(text: &str) -> Result<RuleSet, String> {
        parse_with(&["--store", "memory://"], text)
    }

    fn parse_with(options: &[&str], text: &str) -> Result<RuleSet, String> {
        let words = [&["tidegate", "serve", "--limit", "1/s"], options].concat();
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Serve(options) = cli.command;
        RuleSet::parse(text, &StoreOptions::open(&options)?)
    }

    fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
        pairs
            .iter()
            .map(|(key, value)| Entry { key: (*key).to_owned(), value: (*value).to_owned() })
            .collect()
    }

    #[test]
    fn the_first_rule_that_matches_decides() -> Result<(), String> {
        let rules = parse(
            r#"
            [[rules]]
            domain = "edge"
            match = [{ key = "path", value = "/login" }, "client"]
            key = "login/{client}"
            prefix = "login"
            limits = ["5/min"]
            shadow = true

            [[rules]]
            domain = "edge"
            match = ["api_key"]
            limits = ["50/s burst 50", { name = "daily", limit = "10000/d" }]

            [[rules]]
            match = ["api_key", "path"]
            limits = ["50/s burst 50", "10000/d"]

            [[rules]]
            match = ["path", "client"]
            limits = ["100/s"]
            prefix = "paths"
            "#,
        )?;
        let found = |domain: &str, pairs: &[(&str, &str)]| {
            let entries = entries(pairs);
            let rule = rules.find(domain, &entries)?;
            Some((rule.name.clone(), rule.bucket_key(&entries)))
        };
        let at = |index: usize, key: &str| Some((format!("rules[{index}]"), key.to_owned()));
        assert_eq!(found("edge", &[("path", "/login"), ("client", "c")]), at(0, "login/c"));
        assert_eq!(found("edge", &[("path", "/other"), ("client", "c")]), at(3, "%/%2Fother/c"));
        assert_eq!(found("edge", &[("client", "c"), ("path", "/login")]), None);
        assert_eq!(found("edge", &[("api_key", "k/1")]), at(1, "k/1"));
        assert_eq!(found("core", &[("api_key", "k/1")]), None);
        assert_eq!(found("core", &[("api_key", "k/1"), ("path", "/x")]), at(2, "%/k%2F1/%2Fx"));
        assert_eq!(rules.len(), 4);
        assert_eq!(
            rules.0.iter().map(|rule| rule.shadow).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        let names: Vec<_> = rules.0[1].limiter.limits().iter().map(|it| &it.name).collect();
        assert_eq!(names, ["50/s burst 50", "daily"]);
        Ok(())
    }

    #[test]
    fn the_rules_of_the_readme_work() -> Result<(), String> {
        let readme = include_str!("../README.md");
        let rules = readme.split_once("```toml").and_then(|(_, after)| after.split_once("```"));
        let rules = parse(rules.ok_or("no example")?.0)?;
        let login = entries(&[("path", "/login"), ("client", "c")]);
        let rule = rules.find("edge", &login).ok_or("no rule")?;
        assert_eq!((rules.len(), rule.bucket_key(&login).as_str()), (3, "login/c"));
        Ok(())
    }

    #[test]
    fn rules_without_a_prefix_never_share_a_bucket() -> Result<(), String> {
        let matched = [
            ("", ""),
            ("domain = \"a\"", ""),
            ("domain = \"b\"", ""),
            ("domain = \"*\"", ""),
            ("domain = \"a/user\"", ""),
            ("", "match = [\"user\"]"),
            ("domain = \"a\"", "match = [\"user\"]"),
            ("domain = \"b\"", "match = [\"tenant\"]"),
            ("domain = \"b\"", "match = [\"tenant\", \"user\"]"),
            ("domain = \"b\"", "match = [\"tenant/user\"]"),
            ("domain = \"b\"", "match = [\"tenant=x\"]"),
            ("domain = \"b\"", "match = [{ key = \"tenant\", value = \"x\" }]"),
            ("domain = \"b\"", "match = [{ key = \"tenant\", value = \"\" }]"),
            ("domain = \"b\"", "match = [{ key = \"tenant\", value = \"x*\" }]"),
        ];
        let mut prefixes = std::collections::BTreeSet::new();
        for (domain, entries) in matched {
            let rules = parse(&format!("[[rules]]\n{domain}\n{entries}\nlimits = [\"1/s\"]"))?;
            prefixes.insert(rules.0[0].prefix.clone());
        }
        assert_eq!(prefixes.len(), matched.len(), "{prefixes:?}");
        assert!(prefixes.contains("tidegate") && prefixes.contains("tidegate/a/user"));
        let long = "x".repeat(250);
        let message = parse(&format!("[[rules]]\nmatch = [\"{long}\"]\nlimits = [\"1/s\"]")).err();
        let message = message.unwrap_or_default();
        assert!(message.contains("give the rule a shorter one"), "{message}");
        Ok(())
    }

    #[test]
    fn a_star_at_the_end_of_a_value_stands_for_any_text() -> Result<(), String> {
        let entry = "{ key = \"path\", value = \"/api/*\" }";
        let rules = parse(&format!("[[rules]]\nmatch = [{entry}]\nlimits = [\"1/s\"]"))?;
        for (path, is_matched) in
            [("/api/", true), ("/api/x/y", true), ("/api/*", true), ("/api", false), ("/a", false)]
        {
            let entries = entries(&[("path", path)]);
            assert_eq!(rules.find("edge", &entries).is_some(), is_matched, "{path}");
        }
        Ok(())
    }

    #[test]
    fn a_rule_that_an_earlier_one_covers_is_found() -> Result<(), String> {
        let rules = parse(
            r#"
            [[rules]]
            domain = "edge"
            match = ["path", { key = "client", value = "c" }]
            limits = ["1/s"]

            [[rules]]
            domain = "edge"
            match = [{ key = "path", value = "/" }, { key = "client", value = "c" }]
            limits = ["1/s"]

            [[rules]]
            match = ["path", "client"]
            limits = ["1/s"]

            [[rules]]
            limits = ["1/s"]
            "#,
        )?;
        let covers = |a: usize, b: usize| rules.0[a].covers(&rules.0[b]);
        assert!(covers(0, 1) && covers(2, 0) && covers(2, 1));
        assert!((0..3).all(|later| covers(3, later)));
        assert!(!covers(1, 0) && !covers(0, 2) && !covers(0, 3) && !covers(2, 3));
        Ok(())
    }

    #[test]
    fn a_rule_without_domain_and_match_matches_everything() -> Result<(), String> {
        let rules = parse("[[rules]]\nlimits = [\"1/s\"]")?;
        assert!(rules.find("any", &entries(&[("a", "1"), ("b", "2")])).is_some());
        Ok(())
    }

    #[test]
    fn rules_without_buckets_share_no_prefix() -> Result<(), String> {
        let rules = parse(
            r#"
            [[rules]]
            match = [{ key = "client", value = "banned" }]
            limits = ["none", "5/s"]

            [[rules]]
            match = [{ key = "client", value = "internal" }]
            limits = ["unlimited"]

            [[rules]]
            match = ["client"]
            limits = ["unlimited", "10/s"]

            [[rules]]
            limits = ["10/s"]
            "#,
        )?;
        let check = |value: &str| {
            let rule = rules.find("edge", &entries(&[("client", value)]))?;
            rule.limiter.check(value, 7).ok().map(|decision| (decision.allowed, decision.limit))
        };
        assert_eq!(check("banned"), Some((false, 0)));
        assert_eq!(check("internal"), Some((true, u64::MAX)));
        assert_eq!((check("other"), check("other")), (Some((true, 10)), Some((false, 10))));
        Ok(())
    }

    #[test]
    fn an_option_that_the_limits_of_a_rule_cannot_have_is_named() -> Result<(), String> {
        let leased = ["--store", "redis://127.0.0.1:1", "--lease-ttl", "1s"];
        let slow = "[[rules]]\nlimits = [\"5/min\"]\n";
        let message = parse_with(&leased, slow).err().unwrap_or_default();
        assert!(message.starts_with("rules[0].limits: with --lease-ttl"), "{message}");
        parse_with(&leased, &format!("{slow}lease = false"))?;
        let shared = ["--on-store-error", "local", "--peers", "1000000"];
        let options = [&["--store", "redis://127.0.0.1:1"], &shared[..]].concat();
        let message = parse_with(&options, "[[rules]]\nlimits = [\"5/d\"]").err();
        assert!(message.unwrap_or_default().starts_with("rules[0].limits: with --peers: "));
        Ok(())
    }

    #[test]
    fn errors_name_the_field_and_the_bound() {
        for (text, said) in [
            ("", "missing field `rules`"),
            ("rules = []", "rules: there must be 1 to 1000, but there are 0"),
            ("[[rules]]\nlimits = []", "rules[0].limits: a limiter holds 1 to 4 limits, but 0"),
            ("[[rules]]\nlimit = \"1/s\"", "unknown field `limit`, expected one of"),
            ("[[rules]]\ndomain = \"x\"", "missing field `limits`"),
            (
                "[[rules]]\nlimits = [{ limit = '5/s', cost = 6 }]",
                "rules[0].limits[0].cost: it must be 1 to the burst of 5, but is 6",
            ),
            (
                "[[rules]]\nlimits = [{ limit = '5/s', cost = 0 }]",
                "rules[0].limits[0].cost: it must be 1 to the burst of 5, but is 0",
            ),
            (
                "[[rules]]\nlimits = [\"1/s\", \"1/fortnight\"]",
                "rules[0].limits[1]: invalid limit \"1/fortnight\": at byte 2: unknown unit",
            ),
            ("[[rules]]\nlimits = [\"0/s\"]", "tokens must be at least 1"),
            ("[[rules]]\nlimits = [1]", "expected a limit, or a table { limit, name, cost }"),
            (
                "[[rules]]\nlimits = [{ name = \"a\", rate = \"1/s\" }]",
                "unknown field `rate`, expected one of `name`, `limit`, `cost`",
            ),
            (
                "[[rules]]\nlimits = [\"1/s\",\"2/s\",\"3/s\",\"4/s\",\"5/s\"]",
                "rules[0].limits: a limiter holds 1 to 4 limits, but 5 were given",
            ),
            ("[[rules]]\nlimits = [\"1/s\"]\ndomain = \"\"", "rules[0].domain: it must not be"),
            ("[[rules]]\nlimits = [\"1/s\"]\nmatch = []", "rules[0].match: it must list at least"),
            ("[[rules]]\nlimits = [\"1/s\"]\nmatch = [\"\"]", "rules[0].match[0]: the entry key"),
            (
                "[[rules]]\nlimits = [\"1/s\"]\nmatch = [{ key = \"a\", val = \"b\" }]",
                "unknown field `val`, expected `key` or `value`",
            ),
            ("[[rules]]\nlimits = [\"1/s\"]\nkey = \"{a}\"", "rules[0].key: it needs `match`"),
            (
                "[[rules]]\nlimits = [\"1/s\"]\nmatch = [\"a\"]\nkey = \"{b}\"",
                "rules[0].key: {b} is not an entry key",
            ),
            ("[[rules]]\nlimits = [\"1/s\"]\nprefix = \"\"", "rules[0].prefix: "),
            ("[[rules]]\nlimits = [\"1/s\"]\nshadow = 1", "expected a boolean"),
            (
                "[[rules]]\nlimits = [\"1/s\"]\n[[rules]]\nlimits = [\"2/s\"]",
                "rules[1].prefix: rules[0] has the same prefix \"tidegate\" with other limits",
            ),
            (
                "[[rules]]\nlimits = [\"1/s\"]\nmatch = [{ key = \"path\", value = \"/a/*/b\" }]",
                "rules[0].match[0].value: `*` stands for any text, and only at the end",
            ),
            (
                "[[rules]]\nlimits = [\"1/s\"]\nmatch = [\"g\", \"g\"]\nkey = \"{g}\"",
                "rules[0].key: {g} is the key of several entries of `match`",
            ),
        ] {
            let message = parse(text).err().unwrap_or_default();
            assert!(message.contains(said), "{text:?} said {message:?}, not {said:?}");
        }
    }
}
