//! The plugins of a VM, by their root contexts.

use crate::plugin::Plugin;

/// How many plugins one VM can hold. Every update of a configuration adds one, and the
/// old one goes only when its listener has drained, ten minutes later by default.
pub(crate) const MAX_PLUGINS: usize = 256;

pub(crate) struct Plugins {
    /// All entries from this one on are free.
    used: usize,
    /// The root context of each entry, or 0 for a free one: hosts count from 1.
    roots: [u32; MAX_PLUGINS],
    entries: [Entry; MAX_PLUGINS],
}

/// A plugin or none. Not an `Option`, because a free entry must be all zero: bytes that are
/// not zero are stored in the module.
#[repr(u8)]
#[expect(clippy::large_enum_variant, reason = "there is no allocator to box it")]
enum Entry {
    Free = 0,
    Taken(Plugin) = 1,
}

impl Plugins {
    pub(crate) const EMPTY: Self =
        Self { used: 0, roots: [0; MAX_PLUGINS], entries: [const { Entry::Free }; MAX_PLUGINS] };

    pub(crate) fn get_mut(&mut self, root: u32) -> Option<&mut Plugin> {
        let index = self.position(root)?;
        match self.entries.get_mut(index) {
            Some(Entry::Taken(plugin)) => Some(plugin),
            _ => None,
        }
    }

    /// Inserts a plugin, replacing an earlier one of the same root context; returns `false`
    /// when there is no room.
    #[must_use]
    pub(crate) fn insert(&mut self, plugin: Plugin) -> bool {
        let root = plugin.root;
        let index = self.position(root).or_else(|| self.roots.iter().position(|&root| root == 0));
        let Some(index) = index else { return false };
        let (Some(owner), Some(entry)) = (self.roots.get_mut(index), self.entries.get_mut(index))
        else {
            return false;
        };
        *owner = root;
        *entry = Entry::Taken(plugin);
        self.used = self.used.max(index + 1);
        true
    }

    /// Removes the plugin of a root context; returns whether there was one.
    pub(crate) fn remove(&mut self, root: u32) -> bool {
        let Some(index) = self.position(root) else { return false };
        if let (Some(owner), Some(entry)) = (self.roots.get_mut(index), self.entries.get_mut(index))
        {
            *owner = 0;
            *entry = Entry::Free;
        }
        while self.used.checked_sub(1).is_some_and(|last| self.roots.get(last) == Some(&0)) {
            self.used -= 1;
        }
        true
    }

    /// The root context of the only plugin; `None` when there is none or more than one.
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
