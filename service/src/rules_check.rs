//! `tidegate rules check`: whether a rules file can be used, and what its rules mean.

use core::fmt::Write as _;
use core::time::Duration;

use tidegate::{AnyLimit, Limit, NamedLimit, Shape};

use crate::cli::CheckOptions;
use crate::failure::Failure;
use crate::rules::{Matching, Rule, RuleSet};
use crate::rules_file::EntryText;
use crate::store_options::StoreOptions;

/// Checks the file; prints what its rules mean, and on standard error which never decide.
pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let file = options.file.display();
    let wrong = |message: String| Failure::Configuration(format!("{file}: {message}"));
    let text = std::fs::read_to_string(&options.file).map_err(|error| wrong(error.to_string()))?;
    let store_options = StoreOptions::in_memory().map_err(Failure::Configuration)?;
    let rules = RuleSet::parse(&text, &store_options).map_err(wrong)?;
    if !options.quiet {
        print!("{}", meaning(&rules));
    }
    let mut hidden = 0;
    for (rule, earlier) in rules.that_never_decide() {
        hidden += 1;
        eprintln!(
            "warning: {file}: {}: the rule never decides, because {} matches all of it",
            title(rule),
            title(earlier)
        );
    }
    match hidden {
        1.. if options.strict => {
            Err(Failure::System(format!("{file}: {hidden} of {} rules never decide", rules.len())))
        }
        _ => Ok(()),
    }
}

/// What all rules mean, one paragraph for each.
fn meaning(rules: &RuleSet) -> String {
    let mut text = String::new();
    for rule in rules.iter() {
        // Writing to a string cannot fail.
        _ = writeln!(text, "{}: {}, {}", title(rule), domain(rule), descriptors(rule));
        for (named, cost) in
            rule.limiter.limits().iter().zip(rule.costs.of_each_limit(rule.limiter.limits().len()))
        {
            _ = writeln!(text, "  {}", limit(named, cost));
        }
        for line in notes(rule) {
            _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// The place of a rule, and its name if it has one.
fn title(rule: &Rule) -> String {
    match rule.name == rule.place {
        true => rule.place.clone(),
        false => format!("{} {:?}", rule.place, rule.name),
    }
}

fn domain(rule: &Rule) -> String {
    rule.domain
        .as_ref()
        .map_or_else(|| "any domain".to_owned(), |domain| format!("domain {domain:?}"))
}

fn descriptors(rule: &Rule) -> String {
    let list = |entries: &[EntryText]| entries.iter().map(entry).collect::<Vec<_>>().join(", ");
    match &rule.matching {
        Matching::Any => "any descriptor".to_owned(),
        Matching::Exactly(entries) => format!("descriptor ({})", list(entries)),
        Matching::Has(entries) => format!("descriptors that have ({})", list(entries)),
    }
}

fn entry(EntryText { key, value, .. }: &EntryText) -> String {
    match value {
        None => format!("{key} = anything"),
        Some(value) => match value.strip_suffix('*') {
            Some("") => format!("{key} = anything"),
            Some(start) => format!("{key} = {start:?} and any text after it"),
            None => format!("{key} = {value:?}"),
        },
    }
}

fn limit(NamedLimit { name, limit }: &NamedLimit, cost: Option<u64>) -> String {
    let meaning = match limit {
        AnyLimit::Unlimited => "every request is allowed".to_owned(),
        AnyLimit::None => "every request is refused".to_owned(),
        AnyLimit::Rate(rate) => rate_meaning(rate),
    };
    let cost = cost.map_or(String::new(), |cost| format!("; each request takes {cost}"));
    format!("{name}: {meaning}{cost}")
}

fn rate_meaning(rate: &Limit) -> String {
    let (tokens, burst) = (rate.tokens(), rate.burst());
    let period = humantime::format_duration(Duration::from_nanos(rate.period()));
    match rate.shape() {
        Shape::Smooth => format!("{tokens} per {period} one by one, at most {burst} at once"),
        Shape::Stepped if tokens == burst => format!("{tokens} in each window of {period}"),
        Shape::Stepped => format!("{tokens} more at once every {period}, at most {burst} at once"),
    }
}

/// What else there is to say about a rule.
fn notes(rule: &Rule) -> Vec<String> {
    let mut notes = vec![format!("buckets under the prefix {:?}", rule.prefix())];
    let shared = rule.matching.entries().iter().filter(|entry| entry.share);
    notes.extend(shared.map(|entry| format!("all values of {} share a bucket", entry.key)));
    let flags = [
        (rule.shadow, "only counts and never refuses"),
        (rule.reports, "charges hits also when they do not fit"),
        (rule.goes_on, "later rules that match decide, too"),
    ];
    notes.extend(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, what)| (*what).to_owned()));
    if !rule.replaces.is_empty() {
        notes.push(format!("in its requests these do not decide: {}", rule.replaces.join(", ")));
    }
    notes
}
