//! The limits of limitador as rules.
//!
//! There, every limit of a namespace whose conditions hold decides, and all of them must allow. So each
//! becomes a rule that goes on to the next. Limits with the same conditions and variables have the same
//! buckets and become one rule, which charges all of them or none.

use super::Report;
use super::cel;
use super::fields::Fields;
use super::rules_toml::Imported;
use super::window::Windows;
use super::yaml::{Kind, Value};
use crate::rules_file::{EntryText, LimitText, RuleText};

/// The most limits of one rule.
const MAX_LIMITS: usize = 4;

/// The rules of a document.
///
/// # Errors
/// A sentence with the place, if the document is no such configuration.
pub(super) fn rules(
    document: &Value,
    windows: Windows,
    report: &mut Report,
) -> Result<Vec<Imported>, String> {
    let Kind::List(values) = &document.kind else {
        return Err(format!("line {}: it must be a list of limits", document.line));
    };
    let mut rules: Vec<Imported> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let path = format!("[{index}]");
        let Some(limit) = limit(&path, value, windows, report)? else { continue };
        let comment = format!("{path}, line {}", value.line);
        match rules.iter_mut().find(|it| is_of_rule(&it.rule, &limit)) {
            Some(Imported { comment: comments, rule }) if rule.limits.len() < MAX_LIMITS => {
                *comments += "; ";
                *comments += &comment;
                rule.limits.extend(limit.limits);
            }
            Some(_) => {
                let why = format!("there are {MAX_LIMITS} limits of the same requests already");
                report.note(value.line, &path, &why);
            }
            None => rules.push(Imported { comment, rule: limit }),
        }
    }
    // The last rule of a namespace has none to go on to.
    for index in 0..rules.len() {
        let domain = |at: usize| rules.get(at).and_then(|it: &Imported| it.rule.domain.clone());
        let goes_on = (index + 1..rules.len()).any(|later| domain(later) == domain(index));
        if let Some(Imported { rule, .. }) = rules.get_mut(index) {
            rule.goes_on = goes_on;
        }
    }
    Ok(rules)
}

/// A rule of one limit, unless its conditions or variables cannot be said.
fn limit(
    path: &str,
    value: &Value,
    windows: Windows,
    report: &mut Report,
) -> Result<Option<RuleText>, String> {
    let mut fields = Fields::of(path.to_owned(), value)?;
    let missing = |name: &str| format!("line {}: {path}.{name}: it is missing", value.line);
    let namespace = fields.text("namespace")?.filter(|it| !it.is_empty());
    let namespace = namespace.ok_or_else(|| missing("namespace"))?;
    let count = fields.number("max_value")?.ok_or_else(|| missing("max_value"))?;
    let seconds = fields.number("seconds")?.ok_or_else(|| missing("seconds"))?;
    let name = fields.text("name")?.filter(|name| !name.is_empty()).map(str::to_owned);
    fields.take("id");
    let mut has: Vec<EntryText> = Vec::new();
    let mut is_said = true;
    for (field, read) in [
        ("conditions", cel::condition as fn(&str) -> Option<Vec<EntryText>>),
        ("variables", |text| cel::variable(text).map(|entry| vec![entry])),
    ] {
        for (index, item) in fields.list(field)?.iter().enumerate() {
            let entries = match &item.kind {
                Kind::Text(text) => read(text),
                _ => None,
            };
            match entries {
                // A condition on the entry of a variable comes first and says more.
                Some(entries) => {
                    for entry in entries {
                        if entry.value.is_some() || !has.iter().any(|it| it.key == entry.key) {
                            has.push(entry);
                        }
                    }
                }
                None => {
                    let place = fields.at(&format!("{field}[{index}]"));
                    report.note(
                        item.line,
                        &place,
                        "the expression cannot be said as an entry; the limit is left out",
                    );
                    is_said = false;
                }
            }
        }
    }
    let text = windows.limit(count, &format!("{seconds}s"));
    if let Err(why) = &text {
        fields.note(report, "max_value", &format!("{why}; the limit is left out"));
    }
    fields.finish(report);
    let (true, Ok(limit)) = (is_said, text) else { return Ok(None) };
    let is_for_all = has.is_empty();
    Ok(Some(RuleText {
        domain: Some(namespace.to_owned()),
        has: (!is_for_all).then_some(has),
        // One bucket for all requests of the namespace.
        key: is_for_all.then(|| "all".to_owned()),
        name: name.clone(),
        limits: vec![LimitText { name, limit, cost: None }],
        ..RuleText::default()
    }))
}

/// Whether a limit is for the requests and the buckets of a rule.
fn is_of_rule(rule: &RuleText, limit: &RuleText) -> bool {
    rule.domain == limit.domain && rule.has == limit.has && rule.key == limit.key
}
