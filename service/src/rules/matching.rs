//! The descriptors that a rule matches.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

use crate::rules_file::EntryText;

/// What a rule asks of a descriptor's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matching {
    /// Any entries.
    Any,
    /// These, all of them and in order.
    Exactly(Vec<EntryText>),
    /// These among others, in any order.
    Has(Vec<EntryText>),
}

impl Matching {
    /// The entries that the rule lists.
    pub(crate) fn entries(&self) -> &[EntryText] {
        match self {
            Self::Any => &[],
            Self::Exactly(entries) | Self::Has(entries) => entries,
        }
    }

    pub(super) fn matches(&self, entries: &[Entry]) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => {
                wanted.len() == entries.len()
                    && wanted.iter().zip(entries).all(|(wanted, entry)| wanted.matches(entry))
            }
            Self::Has(wanted) => {
                wanted.iter().all(|wanted| entries.iter().any(|entry| wanted.matches(entry)))
            }
        }
    }

    /// The values that make the bucket's key, in the order of the rule. A shared value is replaced by the
    /// rule's text for it, so that all of them have one key.
    pub(super) fn values<'v>(&'v self, entries: &'v [Entry]) -> Vec<&'v str> {
        let value = |wanted: &'v EntryText, entry: Option<&'v Entry>| match wanted.share {
            true => wanted.value.as_deref().unwrap_or("*"),
            false => entry.map_or("", |entry| &entry.value),
        };
        match self {
            Self::Any => entries.iter().map(|entry| &*entry.value).collect(),
            Self::Exactly(wanted) => wanted
                .iter()
                .zip(entries)
                .map(|(wanted, entry)| value(wanted, Some(entry)))
                .collect(),
            Self::Has(wanted) => {
                let found = |wanted: &EntryText| entries.iter().find(|entry| wanted.matches(entry));
                wanted.iter().map(|wanted| value(wanted, found(wanted))).collect()
            }
        }
    }

    /// Whether this matches whatever `later` matches.
    pub(super) fn covers(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Any, _) => true,
            (_, Self::Any) | (Self::Exactly(_), Self::Has(_)) => false,
            (Self::Exactly(own), Self::Exactly(later)) => {
                own.len() == later.len()
                    && own.iter().zip(later).all(|(own, later)| own.covers(later))
            }
            (Self::Has(own), Self::Exactly(later) | Self::Has(later)) => {
                own.iter().all(|own| later.iter().any(|later| own.covers(later)))
            }
        }
    }
}

impl EntryText {
    fn matches(&self, entry: &Entry) -> bool {
        self.key == entry.key
            && match self.value.as_deref() {
                None => true,
                Some(value) => match value.strip_suffix('*') {
                    Some(start) => entry.value.starts_with(start),
                    None => value == entry.value,
                },
            }
    }

    /// Whether this matches whatever `later` matches.
    pub(crate) fn covers(&self, later: &Self) -> bool {
        self.key == later.key
            && match (self.value.as_deref(), later.value.as_deref()) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(own), Some(later)) => match own.strip_suffix('*') {
                    Some(start) => later.strip_suffix('*').unwrap_or(later).starts_with(start),
                    None => own == later,
                },
            }
    }
}
