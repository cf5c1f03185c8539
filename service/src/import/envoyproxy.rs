//! The configuration of envoyproxy/ratelimit as rules.
//!
//! There, a request walks down a tree: at each entry it takes the child with the entry's value, else the
//! first wildcard that matches, else the child without a value, and it never comes back to try
//! another. It has the limit of the node where its last entry has led it, or none. Here, the first
//! rule of a list decides. The list is the tree in the order in which it is walked. Where the walk would
//! end without a limit at a node while a later sibling has one, a rule without a limit stands between.

use super::Report;
use super::fields::Fields;
use super::rules_toml::Imported;
use super::window::Windows;
use super::yaml::Value;
use crate::rules_file::{EntryText, LimitText, RuleText};

/// The comment of a rule that stands between.
const BETWEEN: &str =
    "No limit: envoyproxy/ratelimit goes by the most specific entry, which has none here.";

/// A node of the tree.
struct Node {
    entry: EntryText,
    limit: Option<NodeLimit>,
    children: Vec<Self>,
}

/// The limit of a node.
struct NodeLimit {
    place: String,
    text: String,
    name: Option<String>,
    replaces: Vec<String>,
    shadow: bool,
}

/// The rules of a document.
///
/// # Errors
/// A sentence with the place, if the document is no such configuration.
pub(super) fn rules(
    document: &Value,
    windows: Windows,
    report: &mut Report,
) -> Result<Vec<Imported>, String> {
    let mut fields = Fields::of(String::new(), document)?;
    let domain = fields.text("domain")?.filter(|domain| !domain.is_empty());
    let domain = domain.ok_or_else(|| format!("line {}: domain: it is missing", document.line))?;
    let nodes = nodes("", fields.list("descriptors")?, windows, report)?;
    fields.finish(report);
    let mut list = RuleList { domain, rules: Vec::new() };
    list.push_nodes(&[], &nodes);
    drop_unknown_names(&mut list.rules, report, document.line);
    Ok(list.rules)
}

fn nodes(
    parent: &str,
    values: &[Value],
    windows: Windows,
    report: &mut Report,
) -> Result<Vec<Node>, String> {
    let mut nodes: Vec<Node> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let dot = if parent.is_empty() { "" } else { "." };
        let path = format!("{parent}{dot}descriptors[{index}]");
        let Some(node) = node(&path, value, windows, report)? else { continue };
        if nodes.iter().any(|other| other.entry.has_texts_of(&node.entry)) {
            report.note(value.line, &path, "the same key and value stand before; the first counts");
            continue;
        }
        nodes.push(node);
    }
    // The order of the walk. Values that are given are never equal, so their order is free.
    nodes.sort_by_key(|node| match node.entry.value.as_deref() {
        Some(value) if !value.ends_with('*') => 0,
        Some(_) => 1,
        None => 2,
    });
    Ok(nodes)
}

/// A node, unless its key or value cannot be said.
fn node(
    path: &str,
    value: &Value,
    windows: Windows,
    report: &mut Report,
) -> Result<Option<Node>, String> {
    let mut fields = Fields::of(path.to_owned(), value)?;
    let key = fields.text("key")?.filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| format!("line {}: {path}.key: it is missing", value.line))?;
    let own = fields.text("value")?.filter(|value| !value.is_empty()).map(str::to_owned);
    let share = fields.flag("share_threshold")?;
    let shadow = fields.flag("shadow_mode")?;
    let limit = match fields.take("rate_limit") {
        None => None,
        Some(limit) => node_limit(fields.at("rate_limit"), limit, shadow, windows, report)?,
    };
    for name in ["detailed_metric", "value_to_metric"] {
        if fields.flag(name)? {
            let why = "metrics have the names of rules, and never values that clients choose";
            fields.note(report, name, why);
        }
    }
    let children = nodes(path, fields.list("descriptors")?, windows, report)?;
    let star = own.as_deref().and_then(|value| value.find('*').filter(|at| at + 1 < value.len()));
    let unsayable = match (star, key.ends_with('*')) {
        (Some(_), _) => Some(("value", "a `*` that is not at the end; the descriptor is left out")),
        (None, true) if own.is_none() => {
            Some(("key", "a `*` at the end of a key; the descriptor is left out"))
        }
        _ => None,
    };
    let is_wildcard = own.as_deref().is_some_and(|value| value.ends_with('*'));
    if share && !is_wildcard {
        let why = "it is for a value that ends with `*`, and has no effect";
        fields.note(report, "share_threshold", why);
    }
    if let Some((field, why)) = unsayable {
        fields.note(report, field, why);
        return Ok(None);
    }
    fields.finish(report);
    let entry = EntryText { key: key.to_owned(), value: own, share: share && is_wildcard };
    Ok(Some(Node { entry, limit, children }))
}

fn node_limit(
    path: String,
    value: &Value,
    shadow: bool,
    windows: Windows,
    report: &mut Report,
) -> Result<Option<NodeLimit>, String> {
    let mut fields = Fields::of(path, value)?;
    let unlimited = fields.flag("unlimited")?;
    let unit = fields.text("unit")?.map(str::to_ascii_lowercase);
    let count = fields.number("requests_per_unit")?;
    let name = fields.text("name")?.filter(|name| !name.is_empty()).map(str::to_owned);
    let mut replaces = Vec::new();
    for (index, item) in fields.list("replaces")?.iter().enumerate() {
        let mut replaced = Fields::of(fields.at(&format!("replaces[{index}]")), item)?;
        replaces.extend(replaced.text("name")?.map(str::to_owned));
        replaced.finish(report);
    }
    let period = match unit.as_deref() {
        _ if unlimited => Ok(""),
        Some("second") => Ok("s"),
        Some("minute") => Ok("min"),
        Some("hour") => Ok("h"),
        Some("day") => Ok("d"),
        Some("week") => Ok("w"),
        Some("month") => Ok("30d"),
        Some("year") => Ok("365d"),
        _ => Err(format!(
            "line {}: {}: it must be second, minute, hour, day, week, month or year",
            value.line,
            fields.at("unit")
        )),
    }?;
    let text = match unlimited {
        true => Ok("unlimited".to_owned()),
        false => windows.limit(count.unwrap_or(0), period),
    };
    let place = format!("{}, line {}", fields.path, fields.line);
    if let Err(why) = &text {
        fields.note(report, "requests_per_unit", &format!("{why}; the limit is left out"));
    }
    fields.finish(report);
    Ok(text.ok().map(|text| NodeLimit { place, text, name, replaces, shadow }))
}

/// The rules so far.
struct RuleList<'d> {
    domain: &'d str,
    rules: Vec<Imported>,
}

impl RuleList<'_> {
    fn push_nodes(&mut self, parents: &[EntryText], nodes: &[Node]) {
        for (index, node) in nodes.iter().enumerate() {
            let entries = joined(parents, core::slice::from_ref(&node.entry));
            if let Some(limit) = &node.limit {
                self.push_limit(entries.clone(), limit);
            }
            self.push_nodes(&entries, &node.children);
            let own = node.paths();
            let mut missing: Vec<Vec<EntryText>> = Vec::new();
            for later in nodes.iter().skip(index + 1).filter(|later| node.overlaps(later)) {
                for path in later.paths() {
                    let covers = |other: &Vec<EntryText>| covers(other, &path);
                    if !own.iter().any(covers) && !missing.iter().any(covers) {
                        missing.push(path);
                    }
                }
            }
            for path in missing {
                let limits =
                    vec![LimitText { name: None, limit: "unlimited".to_owned(), cost: None }];
                let rule = RuleText { limits, ..self.rule(joined(&entries, &path)) };
                self.rules.push(Imported { comment: BETWEEN.to_owned(), rule });
            }
        }
    }

    fn push_limit(&mut self, entries: Vec<EntryText>, limit: &NodeLimit) {
        let NodeLimit { place, text, name, replaces, shadow } = limit;
        let limits = vec![LimitText { name: name.clone(), limit: text.clone(), cost: None }];
        let rule = RuleText {
            name: name.clone(),
            limits,
            replaces: replaces.clone(),
            shadow: *shadow,
            ..self.rule(entries)
        };
        self.rules.push(Imported { comment: place.clone(), rule });
    }

    fn rule(&self, entries: Vec<EntryText>) -> RuleText {
        RuleText {
            domain: Some(self.domain.to_owned()),
            entries: Some(entries),
            ..RuleText::default()
        }
    }
}

impl Node {
    /// The entries below this node that lead to a limit; an empty list for its own.
    fn paths(&self) -> Vec<Vec<EntryText>> {
        let own = self.limit.is_some().then(Vec::new);
        let below = self.children.iter().flat_map(|child| {
            let first = core::slice::from_ref(&child.entry);
            child.paths().into_iter().map(move |path| joined(first, &path))
        });
        own.into_iter().chain(below).collect()
    }

    /// Whether some entry matches both.
    fn overlaps(&self, other: &Self) -> bool {
        let start = |value: &str| value.strip_suffix('*').map(str::to_owned);
        self.entry.key == other.entry.key
            && match (self.entry.value.as_deref(), other.entry.value.as_deref()) {
                (None, _) | (_, None) => true,
                (Some(own), Some(other)) => match (start(own), start(other)) {
                    (None, None) => own == other,
                    (None, Some(start)) => own.starts_with(&start),
                    (Some(start), None) => other.starts_with(&start),
                    (Some(own), Some(other)) => own.starts_with(&other) || other.starts_with(&own),
                },
            }
    }
}

impl EntryText {
    fn has_texts_of(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

fn joined(first: &[EntryText], then: &[EntryText]) -> Vec<EntryText> {
    [first, then].concat()
}

fn covers(own: &[EntryText], path: &[EntryText]) -> bool {
    own.len() == path.len() && own.iter().zip(path).all(|(own, entry)| own.covers(entry))
}

/// Takes the names out of `replaces` that no rule has, and reports them.
fn drop_unknown_names(rules: &mut [Imported], report: &mut Report, line: usize) {
    let names: Vec<String> = rules.iter().filter_map(|it| it.rule.name.clone()).collect();
    for Imported { comment, rule } in rules {
        rule.replaces.retain(|name| {
            let is_known = names.contains(name) && rule.name.as_ref() != Some(name);
            if !is_known {
                let why = format!("no other limit has the name {name:?}");
                report.note(line, &format!("{comment}: replaces"), &why);
            }
            is_known
        });
    }
}
