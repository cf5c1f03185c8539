//! The options after the `?` of a store URL.

use percent_encoding::percent_decode_str;

use crate::Error;

/// The options that have not been taken yet, and the names of those that were asked for.
pub(super) struct Options {
    given: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Options {
    pub(super) fn read(query: &str) -> Result<Self, Error> {
        let mut read: Vec<(String, String)> = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let Some((name, value)) = option.split_once('=') else {
                return Err(unusable("each option is a name, = and a value"));
            };
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(unusable("an option is not UTF-8"));
            };
            if read.iter().any(|(other, _)| *other == name) {
                return Err(unusable(&format!("{} is given twice", shown(&name))));
            }
            read.push((name, value));
        }
        Ok(Self { given: read, known: Vec::new() })
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let at = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.swap_remove(at).1)
    }

    /// Leaves names out of those that the URL may have, because it has another scheme than theirs.
    pub(super) fn leave_out(&mut self, names: &[&str]) {
        self.known.retain(|name| !names.contains(name));
    }

    /// Refuses options that are left: an unknown one may be a misspelt one that matters. The message
    /// names those that such a URL may have.
    pub(super) fn refuse_others(mut self) -> Result<(), Error> {
        let Some((name, _)) = self.given.first() else { return Ok(()) };
        self.known.sort_unstable();
        self.known.dedup();
        let known = self.known.join(", ");
        Err(unusable(&format!("{} is not an option of it; there are {known}", shown(name))))
    }
}

/// Decodes a value as in forms, where + is a space.
fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

/// The name to show in an error, if the text looks like a name at all.
fn shown(name: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= 32 && name.bytes().all(plain) {
        name
    } else {
        "what is given"
    }
}

pub(super) fn unusable(why: &str) -> Error {
    Error::argument("store", format!("its options cannot be used: {why}"))
}
