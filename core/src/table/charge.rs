//! Charges buckets of the table, and takes charges back.

use super::segments::{CELL, KEY};
use super::{Entry, Segments, State, Table, TableFull, Word, swap};
use crate::sync::{Ordering, spin_loop};

/// The result of [`Table::charge`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged<'s> {
    /// The cell before the call; 0 for a new key.
    pub(crate) before: u64,
    /// The charge, so that it can be given back; `None` when the cell was not replaced.
    pub(crate) receipt: Option<Receipt<'s>>,
}

/// A charge that was made, so that [`Table::give_back`] can take it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt<'s> {
    entry: Entry<'s>,
    pub(super) before: u64,
    after: u64,
}

impl<'s> Receipt<'s> {
    #[inline(always)]
    pub(super) fn new(entry: Entry<'s>, before: u64, after: u64) -> Self {
        Self { entry, before, after }
    }
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// The key's slot and its cell, for [`Entry::charge`]. `None` when the key has no slot, or one
    /// that is being taken for another key.
    #[inline(always)]
    pub(super) fn read_live(self, fingerprint: u64) -> Option<(Entry<'s>, u64)> {
        let entry = self.find_live(fingerprint)?;
        let cell = entry.cell();
        // The key word is checked after the cell was read, so that a cell that was frozen for the
        // next key is not taken for this key's.
        entry.is_unchanged().then_some((entry, cell))
    }

    /// The key's cell, also in a slot that is being taken for another key; 0 when it has none.
    #[cold]
    #[inline(never)]
    pub(super) fn read_any(self, fingerprint: u64) -> u64 {
        while let Some(entry) = self.find(fingerprint) {
            if !entry.word.has_bucket() {
                break;
            }
            let cell = entry.cell();
            if entry.is_unchanged() {
                return cell;
            }
            spin_loop();
        }
        0
    }

    /// Does what [`update`](Self::update) does, and answers a receipt if the cell was replaced.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    #[inline]
    pub(crate) fn charge(
        &self,
        fingerprint: u64,
        position: u64,
        mut step: impl FnMut(u64) -> Option<u64>,
    ) -> Result<Charged<'s>, TableFull> {
        // The common case: the bucket is there, its slot is not being taken away, and no other
        // call interferes.
        if let Some(entry) = self.find_live(fingerprint)
            && let Some(charged) = self.charge_once(&entry, &mut step)
        {
            return Ok(charged);
        }
        self.charge_slow_path(fingerprint, position, &mut step)
    }

    #[cold]
    #[inline(never)]
    fn charge_slow_path(
        self,
        fingerprint: u64,
        position: u64,
        step: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Result<Charged<'s>, TableFull> {
        loop {
            let mut entry = match self.find(fingerprint) {
                Some(entry) if entry.word.has_bucket() => entry,
                Some(provisional) => {
                    provisional.await_insertion();
                    continue;
                }
                None if step(0).is_none() => return Ok(Charged { before: 0, receipt: None }),
                None => match self.insert(fingerprint, position)? {
                    Some(entry) => entry,
                    None => continue,
                },
            };
            if entry.word.state() == State::Leaving && !entry.become_state(State::Live) {
                continue;
            }
            while entry.is_unchanged() {
                if let Some(charged) = self.charge_once(&entry, &mut *step) {
                    return Ok(charged);
                }
                spin_loop();
            }
        }
    }

    /// Charges the bucket unless `step` declines. `None` when the bucket has changed meanwhile or
    /// its slot was taken away; then nothing was charged.
    #[inline(always)]
    fn charge_once(
        &self,
        entry: &Entry<'s>,
        mut step: impl FnMut(u64) -> Option<u64>,
    ) -> Option<Charged<'s>> {
        let before = entry.cell();
        // The key word is checked after the cell was read, so that a cell that was frozen for the
        // next key is not taken for this key's.
        if !entry.is_unchanged() {
            return None;
        }
        let Some(after) = step(before) else {
            return Some(Charged { before, receipt: None });
        };
        let receipt = Receipt::new(*entry, before, after);
        entry.charge(before, after).then_some(Charged { before, receipt: Some(receipt) })
    }

    /// Takes a charge back. If the cell has not changed since, it becomes exactly what it was
    /// before. If other calls have charged it since, all but `elapsed` comes back, the distance
    /// that the timeline has moved since the charge: time may have paid that much of it, and
    /// giving that back would mint tokens.
    ///
    /// Changes nothing if the slot has been given to another key: the charge was then paid by
    /// time, or dropped with its bucket.
    pub(crate) fn give_back(&self, receipt: &Receipt<'s>, charge: u64, elapsed: u64) {
        let Receipt { entry, before, after } = *receipt;
        loop {
            let cell = entry.cell();
            if !entry.is_same_stay() {
                return;
            }
            let next = if cell == after {
                before
            } else {
                cell.saturating_sub(charge.saturating_sub(elapsed))
            };
            if next >= cell || swap(&entry.slot[CELL], cell, next) {
                return;
            }
            spin_loop();
        }
    }
}

impl Entry<'_> {
    /// Replaces the cell if it still is `before`, as it was read from a live slot. False when it
    /// has changed since, or the slot was given to another key; then this key was not charged.
    #[inline(always)]
    pub(super) fn charge(&self, before: u64, after: u64) -> bool {
        swap(&self.slot[CELL], before, after) && self.is_same_stay()
    }

    /// Whether a cell that was just charged was this key's. After a bucket was lowered or dropped,
    /// its slot can belong to another key whose cell has come to the very value that was read.
    #[inline(always)]
    fn is_same_stay(&self) -> bool {
        let now = Word(self.slot[KEY].load(Ordering::Acquire));
        now == self.word || now.is_same_stay(self.word)
    }
}
