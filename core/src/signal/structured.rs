//! The fields `RateLimit` and `RateLimit-Policy` of the IETF drafts: a list of named policies with
//! parameters (draft 8 and later), or a dictionary (up to draft 7).

use super::fields::{Number, trim};

/// One number that a field says of a policy. A policy of a dictionary has no name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter<'a> {
    pub(super) policy: &'a [u8],
    pub(super) name: &'a [u8],
    /// The text of the value, which is a number.
    pub(super) number: Number<'a>,
}

/// Calls `found` for every number of a field that keeps the grammar, and for none of another one.
pub(super) fn read<'a>(value: &'a [u8], mut found: impl FnMut(Parameter<'a>)) {
    // A malformed field must be ignored as a whole, so it is read once before it is believed.
    if walk(value, &mut |_| {}).is_some() {
        walk(value, &mut found);
    }
}

fn walk<'a>(value: &'a [u8], found: &mut dyn FnMut(Parameter<'a>)) -> Option<()> {
    let mut rest = trim(value);
    loop {
        let (member, after) = bare_item(rest)?;
        let mut policy: &[u8] = b"";
        let written = rest.get(..rest.len().saturating_sub(after.len())).unwrap_or_default();
        rest = after;
        match (member, rest) {
            (Item::Word(name), [b'=', after @ ..]) => {
                let (item, after) = bare_item(after)?;
                report(found, policy, name, item);
                rest = after;
            }
            // Up to draft 7, a policy began with its quota, which stands for the name.
            (Item::Number(quota), _) => {
                policy = written;
                found(Parameter { policy, name: b"q", number: quota });
            }
            (Item::Word(name) | Item::Text(name), _) => policy = name,
            (Item::Other, _) => return None,
        }
        while let [b';', after @ ..] = rest {
            let (Item::Word(name), after) = bare_item(after.trim_ascii_start())? else {
                return None;
            };
            rest = after;
            if let [b'=', after @ ..] = rest {
                let (item, after) = bare_item(after)?;
                report(found, policy, name, item);
                rest = after;
            }
        }
        rest = rest.trim_ascii_start();
        match rest {
            [] => return Some(()),
            [b',', after @ ..] => rest = after.trim_ascii_start(),
            _ => return None,
        }
    }
}

fn report<'a>(
    found: &mut dyn FnMut(Parameter<'a>),
    policy: &'a [u8],
    name: &'a [u8],
    item: Item<'a>,
) {
    if let Item::Number(number) = item {
        found(Parameter { policy, name, number });
    }
}

/// An item without its parameters.
enum Item<'a> {
    Number(Number<'a>),
    Word(&'a [u8]),
    /// What is between the quotation marks, as it is written.
    Text(&'a [u8]),
    /// Bytes, a boolean or a date.
    Other,
}

fn bare_item(text: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let first = text.first()?;
    match first {
        b'"' => {
            let mut is_escaped = false;
            let end = text.iter().skip(1).position(|&byte| {
                let ends = byte == b'"' && !is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
                ends
            })?;
            Some((Item::Text(text.get(1..=end)?), text.get(end + 2..)?))
        }
        b'-' | b'0'..=b'9' => {
            let (number, rest) = Number::at_start(text)?;
            Some((Item::Number(number), rest))
        }
        b':' => {
            let end = text.iter().skip(1).position(|&byte| byte == b':')?;
            Some((Item::Other, text.get(end + 2..)?))
        }
        b'?' => Some((Item::Other, text.strip_prefix(b"?0").or_else(|| text.strip_prefix(b"?1"))?)),
        b'@' => Some((Item::Other, Number::at_start(text.get(1..)?)?.1)),
        b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
            let is_of_word =
                |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(byte);
            let end = text.iter().position(|byte| !is_of_word(byte)).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            Some((Item::Word(word), rest))
        }
        _ => None,
    }
}
