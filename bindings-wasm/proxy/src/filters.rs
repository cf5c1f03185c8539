//! The configured filters of a VM, by their root contexts.

use crate::plugin::Plugin;

/// How many filters one VM can hold. Every update of a configuration adds one, and the
/// old one goes only when its listener has drained, ten minutes later by default.
pub(crate) const MAX_FILTERS: usize = 256;

pub(crate) struct Filters {
    /// Beyond this all places are free.
    used: usize,
    /// The root context of every place; hosts count from 1, and 0 is a free place.
    roots: [u32; MAX_FILTERS],
    places: [Place; MAX_FILTERS],
}

/// Not an `Option`, because an empty place must be all zero: what is not zero takes
/// up room in the module.
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "there is no allocator to box it")]
enum Place {
    Free = 0,
    Taken(Plugin) = 1,
}

impl Filters {
    pub(crate) const EMPTY: Self =
        Self { used: 0, roots: [0; MAX_FILTERS], places: [const { Place::Free }; MAX_FILTERS] };

    pub(crate) fn get_mut(&mut self, root: u32) -> Option<&mut Plugin> {
        let at = self.position(root)?;
        match self.places.get_mut(at) {
            Some(Place::Taken(plugin)) => Some(plugin),
            _ => None,
        }
    }

    /// Takes the filter in, in the place of an earlier one of the same root context;
    /// says `false` when there is no room.
    #[must_use]
    pub(crate) fn insert(&mut self, plugin: Plugin) -> bool {
        let root = plugin.root;
        let at = self.position(root).or_else(|| self.roots.iter().position(|&root| root == 0));
        let Some(at) = at else { return false };
        let (Some(owner), Some(place)) = (self.roots.get_mut(at), self.places.get_mut(at)) else {
            return false;
        };
        *owner = root;
        *place = Place::Taken(plugin);
        self.used = self.used.max(at + 1);
        true
    }

    /// Whether there was such a filter.
    pub(crate) fn remove(&mut self, root: u32) -> bool {
        let Some(at) = self.position(root) else { return false };
        if let (Some(owner), Some(place)) = (self.roots.get_mut(at), self.places.get_mut(at)) {
            *owner = 0;
            *place = Place::Free;
        }
        while self.used.checked_sub(1).is_some_and(|last| self.roots.get(last) == Some(&0)) {
            self.used -= 1;
        }
        true
    }

    /// The root context of the only filter, if there is only one.
    pub(crate) fn only_root(&self) -> Option<u32> {
        let mut roots = self.in_use().iter().copied().filter(|&root| root != 0);
        match (roots.next(), roots.next()) {
            (only, None) => only,
            _ => None,
        }
    }

    fn position(&self, root: u32) -> Option<usize> {
        if root == 0 {
            return None;
        }
        self.in_use().iter().position(|&owner| owner == root)
    }

    fn in_use(&self) -> &[u32] {
        self.roots.get(..self.used).unwrap_or_default()
    }
}
