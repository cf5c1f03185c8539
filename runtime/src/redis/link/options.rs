//! The options after the `?` of a store URL.

use percent_encoding::percent_decode_str;

use crate::Error;

/// The options that have not been taken yet.
pub(super) struct Options(Vec<(String, String)>);

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
        Ok(Self(read))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Refuses options that are left: an unknown one may be a misspelt one that matters.
    pub(super) fn refuse_others(&self) -> Result<(), Error> {
        match self.0.first() {
            Some((name, _)) => Err(unusable(&format!("{} is not an option of it", shown(name)))),
            None => Ok(()),
        }
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
