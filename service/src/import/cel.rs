//! The part of limitador's expressions (CELs) that rules can say: which entries a descriptor has.
//!
//! An entry is `descriptors[0]['method']`, `descriptors[0].method`, or, in older files, `method`. A condition
//! compares one with a text, by `==` or `startsWith`; several are joined with `&&`.

use crate::rules_file::EntryText;

/// The entry of a variable; `None` if it is another expression.
pub(super) fn variable(expression: &str) -> Option<EntryText> {
    Some(EntryText { key: entry_key(expression)?, value: None, share: false })
}

/// The entries of a condition; `None` if rules cannot say it.
pub(super) fn condition(expression: &str) -> Option<Vec<EntryText>> {
    parts(expression)?.into_iter().map(comparison).collect()
}

/// The parts between `&&`. An operator that changes what they mean makes it `None`.
fn parts(expression: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut quote, mut start) = (None, 0);
    for (at, character) in expression.char_indices() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (Some(_), '\\') => return None,
            (None, '|' | '?') => return None,
            (None, '&') if expression.get(at..)?.starts_with("&&") => {
                parts.push(expression.get(start..at)?);
                start = at + 2;
            }
            _ => {}
        }
    }
    parts.push(expression.get(start..)?);
    quote.is_none().then_some(parts)
}

fn comparison(part: &str) -> Option<EntryText> {
    let part = part.trim();
    if let Some((of, start)) = part.strip_suffix(')').and_then(|it| it.split_once(".startsWith(")) {
        let value = format!("{}*", text(start)?);
        return Some(EntryText { key: entry_key(of)?, value: Some(value), share: false });
    }
    let (left, right) = part.split_once("==")?;
    let (key, value) = match (entry_key(left), text(right)) {
        (Some(key), Some(value)) => (key, value),
        _ => (entry_key(right)?, text(left)?),
    };
    Some(EntryText { key, value: Some(value.to_owned()), share: false })
}

/// The key of the entry that an expression names.
fn entry_key(expression: &str) -> Option<String> {
    let expression = expression.trim();
    if let Some(index) = expression.strip_prefix("descriptors[0]") {
        let bracketed = index.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        return match bracketed {
            Some(quoted) => text(quoted).filter(|key| !key.is_empty()).map(str::to_owned),
            None => index.strip_prefix('.').filter(|name| is_name(name)).map(str::to_owned),
        };
    }
    let is_plain = !expression.is_empty() && expression.split('.').all(is_name);
    is_plain.then(|| expression.to_owned())
}

/// The content of a text in quotes, if it needs no unescaping and is no pattern.
fn text(quoted: &str) -> Option<&str> {
    let quoted = quoted.trim();
    let inner = ['\'', '"'].iter().find_map(|&quote| {
        let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote)).then_some(inner)
    })?;
    (!inner.contains(['\\', '*'])).then_some(inner)
}

fn is_name(text: &str) -> bool {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_in_every_spelling() {
        for spelling in
            ["descriptors[0]['user']", "descriptors[0][\"user\"]", "descriptors[0].user"]
        {
            assert_eq!(variable(spelling).map(|it| it.key).as_deref(), Some("user"), "{spelling}");
        }
        assert_eq!(variable("req.method").map(|it| it.key).as_deref(), Some("req.method"));
        for other in ["descriptors[1].user", "size(descriptors)", "", "'user'", "a + b", "1"] {
            assert_eq!(variable(other), None, "{other}");
        }
    }

    #[test]
    fn conditions_are_texts_that_entries_have() {
        let shown = |expression: &str| {
            let entries = condition(expression)?;
            let pair = |it: EntryText| (it.key, it.value.unwrap_or_default());
            Some(entries.into_iter().map(pair).collect::<Vec<_>>())
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let both = "descriptors[0]['m'] == 'a && b' && \"x\" == descriptors[0].p";
        assert_eq!(shown(both), Some(vec![pair("m", "a && b"), pair("p", "x")]));
        assert_eq!(shown("path.startsWith('/api/')"), Some(vec![pair("path", "/api/*")]));
        for other in [
            "a == 'x' || b == 'y'",
            "a != 'x'",
            "!(a == 'x')",
            "a == 'x*'",
            "a == 5",
            "a == b",
            "a in ['x']",
            "a == 'x",
            "descriptors[1].a == 'x'",
            "true ? a == 'x' : b == 'y'",
            "a == 'x' == 'y'",
        ] {
            assert_eq!(shown(other), None, "{other}");
        }
    }
}
