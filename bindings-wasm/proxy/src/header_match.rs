//! Matches headers, for entries that a request has only if its headers match.

use crate::host::Host;
use crate::names::{Name, Names};
use crate::source::{self, NoKey};

/// The most headers that one entry matches.
pub(crate) const MAX_MATCHES: usize = 4;

/// One to four headers, all of which must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderMatches {
    count: u8,
    matches: [HeaderMatch; MAX_MATCHES],
}

/// What one header must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderMatch {
    /// The path of the header's property.
    pub(crate) property: Name,
    pub(crate) form: Form,
    /// Whether the form is that of a header that does not match.
    pub(crate) inverted: bool,
}

/// The form of a header's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The header is there (`true`) or not.
    Present(bool),
    Exact(Name),
    Prefix(Name),
    Suffix(Name),
    Contains(Name),
    /// The filler of unused elements.
    #[default]
    Unused,
}

impl HeaderMatches {
    /// Adds a header; returns `None` if there are four already.
    pub(crate) fn add(&mut self, header: HeaderMatch) -> Option<()> {
        *self.matches.get_mut(usize::from(self.count))? = header;
        self.count += 1;
        Some(())
    }

    /// Tells what makes these different from others, part by part.
    pub(crate) fn identify(&self, names: &Names, tell: &mut dyn FnMut(&[u8])) {
        for header in self.matches.iter().take(usize::from(self.count)) {
            let (kind, text) = match header.form {
                Form::Present(wanted) => (u8::from(wanted), Name::EMPTY),
                Form::Exact(text) => (2, text),
                Form::Prefix(text) => (3, text),
                Form::Suffix(text) => (4, text),
                Form::Contains(text) => (5, text),
                Form::Unused => (6, Name::EMPTY),
            };
            tell(&[kind, u8::from(header.inverted)]);
            tell(names.get(header.property));
            tell(names.get(text));
        }
    }

    /// Whether the current request's headers match. A header that is repeated is an error unless only
    /// its presence counts: a client could choose whether it matches.
    pub(crate) fn all_match(&self, names: &Names, host: &impl Host) -> Result<bool, NoKey> {
        for header in self.matches.iter().take(usize::from(self.count)) {
            if header.matches(names, host)? == header.inverted {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl HeaderMatch {
    fn matches(&self, names: &Names, host: &impl Host) -> Result<bool, NoKey> {
        let path = names.get(self.property);
        if let Form::Present(wanted) = self.form {
            return match source::property(host, path) {
                Ok(_) | Err(NoKey::TooLong) => Ok(wanted),
                Err(NoKey::Missing) => Ok(!wanted),
                Err(failed) => Err(failed),
            };
        }
        let value = match source::header(host, path) {
            Ok(value) => value,
            // An absent header matches no form, inverted or not, as in Envoy: the caller inverts this answer.
            Err(NoKey::Missing) => return Ok(self.inverted),
            Err(bad) => return Err(bad),
        };
        Ok(match self.form {
            Form::Exact(text) => value == names.get(text),
            Form::Prefix(text) => value.starts_with(names.get(text)),
            Form::Suffix(text) => value.ends_with(names.get(text)),
            Form::Contains(text) => {
                let text = names.get(text);
                text.is_empty() || value.windows(text.len()).any(|window| window == text)
            }
            Form::Present(_) | Form::Unused => false,
        })
    }
}
