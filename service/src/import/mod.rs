//! `tidegate rules import`: rules from the configuration of other services. What cannot be said as rules
//! is reported with its place, and nothing is dropped in silence.

mod cel;
mod envoyproxy;
mod fields;
mod limitador;
mod report;
mod rules_toml;
mod window;
mod yaml;

use std::path::Path;

use self::report::Report;
use self::rules_toml::{Imported, comment_lines};
use self::window::Windows;
use self::yaml::{Kind, Value};
use crate::cli::{ImportOptions, Project};
use crate::failure::Failure;
use crate::rules::{Matching, RuleSet, own_prefix};
use crate::store_options::StoreOptions;

/// The longest prefix of keys in a store, in bytes.
const MAX_PREFIX: usize = 256;

/// Reads the files, writes the rules, and lists on standard error what cannot be said.
pub(crate) fn run(options: &ImportOptions) -> Result<(), Failure> {
    let windows = Windows { smooth: options.smooth };
    let mut report = Report::default();
    let mut rules = Vec::new();
    for path in &options.files {
        rules.extend(read(path, options.from, windows, &mut report)?);
    }
    if rules.is_empty() {
        report.notes().iter().for_each(|note| eprintln!("{note}"));
        return Err(Failure::Configuration("no rule can be made of it".to_owned()));
    }
    shorten_prefixes(&mut rules);
    let text = file_text(options, &report, &rules);
    check(&text)?;
    match &options.output {
        None => print!("{text}"),
        Some(path) => std::fs::write(path, &text)
            .map_err(|error| Failure::System(format!("--output {}: {error}", path.display())))?,
    }
    let notes = report.notes();
    notes.iter().for_each(|note| eprintln!("not taken over: {note}"));
    eprintln!("{} rules, {} not taken over", rules.len(), notes.len());
    match options.strict && !notes.is_empty() {
        true => Err(Failure::System("--strict: some of it cannot be said as rules".to_owned())),
        false => Ok(()),
    }
}

fn read(
    path: &Path,
    from: Option<Project>,
    windows: Windows,
    report: &mut Report,
) -> Result<Vec<Imported>, Failure> {
    let file = path.display();
    let wrong = |message: String| Failure::Configuration(format!("{file}: {message}"));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    report.begin(file.to_string());
    let mut rules = Vec::new();
    for document in yaml::read(&text).map_err(wrong)? {
        let project = from.or_else(|| project_of(&document)).ok_or_else(|| {
            wrong(format!(
                "line {}: it is neither a map with `domain` (envoyproxy/ratelimit) nor a list of limits \
                 with `namespace` (limitador); --from tells which it is",
                document.line
            ))
        })?;
        let made = match project {
            Project::Envoyproxy => envoyproxy::rules(&document, windows, report),
            Project::Limitador => limitador::rules(&document, windows, report),
        };
        rules.extend(made.map_err(wrong)?);
    }
    Ok(rules)
}

/// The project whose configuration has this shape.
fn project_of(document: &Value) -> Option<Project> {
    let has = |value: &Value, field: &str| match &value.kind {
        Kind::Map(entries) => entries.iter().any(|(key, _)| key == field),
        _ => false,
    };
    match &document.kind {
        Kind::List(limits) if limits.iter().any(|it| has(it, "namespace")) => {
            Some(Project::Limitador)
        }
        _ if has(document, "domain") => Some(Project::Envoyproxy),
        _ => None,
    }
}

/// Gives each rule whose own prefix would be too long a short one.
fn shorten_prefixes(rules: &mut [Imported]) {
    for (index, Imported { rule, .. }) in rules.iter_mut().enumerate() {
        let matching = match (&rule.entries, &rule.has) {
            (Some(entries), _) => Matching::Exactly(entries.clone()),
            (None, Some(entries)) => Matching::Has(entries.clone()),
            (None, None) => Matching::Any,
        };
        let prefix = own_prefix(rule.domain.as_deref(), &matching);
        if rule.prefix.is_none() && prefix.len() > MAX_PREFIX {
            rule.prefix = Some(format!("imported/{index}"));
        }
    }
}

fn file_text(options: &ImportOptions, report: &Report, rules: &[Imported]) -> String {
    let files: Vec<_> = options.files.iter().map(|path| path.display().to_string()).collect();
    let mut text = comment_lines(&format!(
        "Written by `tidegate rules import` from {}.\nThe first rule that matches a descriptor decides.",
        files.join(", ")
    ));
    if !report.notes().is_empty() {
        text += "#\n# Not taken over:\n";
        for note in report.notes() {
            text += &comment_lines(&format!("- {note}"));
        }
    }
    for rule in rules {
        text.push('\n');
        text += &rule.to_toml();
    }
    text
}

/// Checks that the service takes the rules.
fn check(text: &str) -> Result<(), Failure> {
    let store_options = StoreOptions::in_memory().map_err(Failure::Configuration)?;
    match RuleSet::parse(text, &store_options) {
        Ok(_) => Ok(()),
        Err(message) => {
            Err(Failure::Configuration(format!("the rules cannot be used as they are: {message}")))
        }
    }
}
