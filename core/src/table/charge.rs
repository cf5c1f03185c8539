use super::segments::{CELL, KEY};
use super::{Entry, Segments, State, Table, TableFull, Word, swap};
use crate::sync::{Ordering, spin_loop};

/// What a call found, and what it did there.
#[derive(Clone, Copy, Debug)]
pub struct Charged<'s> {
    /// The cell before the call; 0 for a new key.
    pub before: u64,
    /// Where the new cell is, if there is one.
    pub receipt: Option<Receipt<'s>>,
}

/// Where a charge went, for giving it back.
#[derive(Clone, Copy, Debug)]
pub struct Receipt<'s> {
    entry: Entry<'s>,
    pub(super) before: u64,
    after: u64,
}

impl<'s> Receipt<'s> {
    #[inline(always)]
    pub(super) fn of(entry: Entry<'s>, before: u64, after: u64) -> Self {
        Self { entry, before, after }
    }
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// The key's slot, which nobody wants, and its cell, for [`Entry::charge`].
    #[inline(always)]
    pub(super) fn look(self, fingerprint: u64) -> Option<(Entry<'s>, u64)> {
        let entry = self.find_live(fingerprint)?;
        let cell = entry.cell();
        // After the cell: a cell frozen for the next key is then not taken for this one's.
        entry.is_unchanged().then_some((entry, cell))
    }

    /// The key's cell, 0 when it has none.
    #[cold]
    #[inline(never)]
    pub(super) fn look_again(self, fingerprint: u64) -> u64 {
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

    /// [`update`](Self::update) with a receipt when the cell was replaced.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    #[inline]
    pub fn charge(
        &self,
        fingerprint: u64,
        position: u64,
        mut step: impl FnMut(u64) -> Option<u64>,
    ) -> Result<Charged<'s>, TableFull> {
        // As a rule the bucket is there, nobody wants its slot, and nobody comes between.
        if let Some(entry) = self.find_live(fingerprint)
            && let Some(charged) = self.charge_once(&entry, &mut step)
        {
            return Ok(charged);
        }
        self.charge_in_the_end(fingerprint, position, &mut step)
    }

    #[cold]
    #[inline(never)]
    fn charge_in_the_end(
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

    /// None when the bucket has changed meanwhile, or its slot has been taken away: then
    /// nothing was charged.
    #[inline(always)]
    fn charge_once(
        &self,
        entry: &Entry<'s>,
        mut step: impl FnMut(u64) -> Option<u64>,
    ) -> Option<Charged<'s>> {
        let before = entry.cell();
        // After the cell: a cell frozen for the next key is then not taken for this one's.
        if !entry.is_unchanged() {
            return None;
        }
        let Some(after) = step(before) else {
            return Some(Charged { before, receipt: None });
        };
        let receipt = Receipt::of(*entry, before, after);
        entry.charge(before, after).then_some(Charged { before, receipt: Some(receipt) })
    }

    /// Takes a charge back: exactly, when it was the cell's last. When others
    /// have charged since, all of it but `elapsed`, the distance that the timeline
    /// has moved since the charge: so much of it may have been paid by time, and
    /// giving that back would mint.
    ///
    /// A charge whose slot has been given on is not given back; it was paid, or
    /// dropped.
    pub fn give_back(&self, receipt: &Receipt<'s>, charge: u64, elapsed: u64) {
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
    /// Replaces the cell as it was seen, of a slot that nobody wanted; false when it has changed
    /// since, or the slot has been given on: then nothing was charged.
    #[inline(always)]
    pub(super) fn charge(&self, before: u64, after: u64) -> bool {
        swap(&self.slot[CELL], before, after) && self.is_same_stay()
    }

    /// Whether a cell just charged was this key's: once lowered, or dropped, it may be the next
    /// key's, and have come to the very value that was seen.
    #[inline(always)]
    fn is_same_stay(&self) -> bool {
        let now = Word(self.slot[KEY].load(Ordering::Acquire));
        now == self.word || now.is_same_stay(self.word)
    }
}
