//! The descriptors of a configuration: each is a list of entries that is the key of one bucket, with
//! limits of its own.

use crate::config_actions::Action;
use crate::cost::Cost;
use crate::limits::Limits;
use crate::names::{Name, Names};
use crate::source::Source;

/// The most descriptors of one configuration.
pub const MAX_DESCRIPTORS: usize = 8;
/// The most entries of all descriptors of one configuration together.
pub const MAX_ENTRIES: usize = 16;

/// The part that decides about a descriptor, beside its limits in the worker's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// None.
    Local,
    /// The service, for each request.
    Exact,
    /// Tokens that are taken from the service ahead.
    Leased,
}

/// One descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptor {
    /// The places of its entries: `first..end`.
    pub(crate) first: u8,
    pub(crate) end: u8,
    /// The limits of its buckets in this worker's memory.
    pub limits: Option<Limits>,
    /// Whether the service is asked about it.
    pub(crate) is_shared: bool,
    /// Whether its tokens are taken ahead.
    pub(crate) is_leased: bool,
    /// The mode, if it is given.
    pub(crate) mode: Option<Mode>,
    /// The tokens that a request takes.
    pub(crate) cost: Cost,
    /// Whether these are an estimate, corrected by what the response tells.
    pub(crate) settles: bool,
}

/// One entry of a descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry {
    /// The key of the entry in requests to the service.
    pub(crate) key: Name,
    /// The place of its source.
    pub(crate) source: u8,
    /// Whether a request without it has the descriptor's other entries, and not no descriptor.
    pub(crate) skip_if_absent: bool,
}

/// The descriptors of one configuration.
#[derive(Clone, Debug)]
pub struct Descriptors {
    pub(crate) names: Names,
    count: usize,
    descriptors: [Descriptor; MAX_DESCRIPTORS],
    entry_count: usize,
    entries: [Entry; MAX_ENTRIES],
    source_count: usize,
    /// The different sources; each is read once for a request.
    sources: [Source; MAX_ENTRIES],
}

impl Descriptors {
    /// No descriptors. It is no constant, because the module would have its bytes.
    #[inline(never)]
    pub(crate) fn none() -> Self {
        Self {
            names: Names::EMPTY,
            count: 0,
            descriptors: [Descriptor::default(); MAX_DESCRIPTORS],
            entry_count: 0,
            entries: [Entry::default(); MAX_ENTRIES],
            source_count: 0,
            sources: [Source::Path; MAX_ENTRIES],
        }
    }

    /// All descriptors, in the order in which they were given.
    pub fn as_slice(&self) -> &[Descriptor] {
        self.descriptors.get(..self.count).unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Descriptor] {
        self.descriptors.get_mut(..self.count).unwrap_or_default()
    }

    /// The number of entries so far.
    pub(crate) fn entry_count(&self) -> usize {
        self.entry_count
    }

    pub(crate) fn entries(&self, descriptor: &Descriptor) -> &[Entry] {
        let places = usize::from(descriptor.first)..usize::from(descriptor.end);
        self.entries.get(places).unwrap_or_default()
    }

    pub(crate) fn source(&self, entry: &Entry) -> Source {
        self.sources.get(usize::from(entry.source)).copied().unwrap_or(Source::Path)
    }

    /// Adds an entry; returns `None` when there are 16 already.
    pub(crate) fn add_entry(&mut self, action: Action) -> Option<()> {
        let Action { key, source, skip_if_absent } = action;
        let known = self.sources.iter().take(self.source_count).position(|known| *known == source);
        let place = known.unwrap_or(self.source_count);
        *self.entries.get_mut(self.entry_count)? =
            Entry { key, source: place as u8, skip_if_absent };
        *self.sources.get_mut(place)? = source;
        self.source_count = self.source_count.max(place + 1);
        self.entry_count += 1;
        Some(())
    }

    /// Adds a descriptor; returns `None` when there are 8 already.
    pub(crate) fn add(&mut self, descriptor: Descriptor) -> Option<()> {
        *self.descriptors.get_mut(self.count)? = descriptor;
        self.count += 1;
        Some(())
    }
}
