use super::segments::CELL;
use super::{Entry, OnFull, Place, Segments, State, Table, TableFull, Word, swap};
use crate::sync::spin_loop;

/// What a call found, and what it did there.
#[derive(Clone, Copy, Debug)]
pub struct Charged {
    /// The cell before the call; 0 for a new key.
    pub before: u64,
    /// Where the new cell is, if there is one.
    pub receipt: Option<Receipt>,
}

/// Where a charge went, for giving it back.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    place: Place,
    word: Word,
    before: u64,
    pub(super) after: u64,
}

/// A bucket as it was seen, and what it is to become.
#[derive(Debug)]
pub(super) struct Seen<'s> {
    entry: Entry<'s>,
    before: u64,
    after: u64,
}

impl Seen<'_> {
    pub(super) fn cell(&self) -> u64 {
        self.before
    }

    pub(super) fn to_become(self, after: u64) -> Self {
        Self { after, ..self }
    }
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// The key's bucket, for [`charge_seen`](Self::charge_seen) while nobody wants its slot.
    pub(super) fn look(&self, fingerprint: u64) -> Option<Seen<'s>> {
        while let Some(entry) = self.find(fingerprint) {
            if !entry.word.has_bucket() {
                break;
            }
            let before = entry.cell();
            // After the cell: a cell frozen for the next key is then not taken for this one's.
            if entry.is_unchanged() {
                return Some(Seen { entry, before, after: before });
            }
            spin_loop();
        }
        None
    }

    /// Makes the bucket what it is to become; None when it has changed since it was seen.
    pub(super) fn charge_seen(&self, seen: &Seen<'s>) -> Option<Receipt> {
        let Seen { ref entry, before, after } = *seen;
        if entry.word.state() != State::Live || before == after {
            return None;
        }
        self.swap_cell(entry, before, after)
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
    ) -> Result<Charged, TableFull> {
        match self.charge_as_a_rule(fingerprint, &mut step) {
            Some(charged) => Ok(charged),
            None => self.charge_in_the_end(fingerprint, position, &mut step),
        }
    }

    /// As a rule the bucket is there, nobody wants its slot, and nobody comes between; None
    /// otherwise, and then nothing was charged.
    #[inline(always)]
    pub(super) fn charge_as_a_rule(
        &self,
        fingerprint: u64,
        step: impl FnMut(u64) -> Option<u64>,
    ) -> Option<Charged> {
        let entry = self.find(fingerprint)?;
        if entry.word.state() != State::Live {
            return None;
        }
        self.charge_once(&entry, step)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn charge_in_the_end(
        &self,
        fingerprint: u64,
        position: u64,
        step: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Result<Charged, TableFull> {
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
    ) -> Option<Charged> {
        let before = entry.cell();
        // After the cell: a cell frozen for the next key is then not taken for this one's.
        if !entry.is_unchanged() {
            return None;
        }
        let Some(after) = step(before) else {
            return Some(Charged { before, receipt: None });
        };
        let receipt = self.swap_cell(entry, before, after)?;
        Some(Charged { before, receipt: Some(receipt) })
    }

    #[inline(always)]
    fn swap_cell(&self, entry: &Entry<'s>, before: u64, after: u64) -> Option<Receipt> {
        let swapped = swap(&entry.slot[CELL], before, after)
            && (self.on_full != OnFull::EvictIdlest || entry.is_same_stay());
        swapped.then_some(Receipt { place: entry.place, word: entry.word, before, after })
    }

    /// Takes a charge back: exactly, when it was the cell's last. When others
    /// have charged since, all of it but `elapsed`, the distance that the timeline
    /// has moved since the charge: so much of it may have been paid by time, and
    /// giving that back would mint.
    ///
    /// A charge whose slot has been given on is not given back; it was paid, or
    /// dropped.
    pub fn give_back(&self, receipt: &Receipt, charge: u64, elapsed: u64) {
        let Receipt { place, word, before, after } = *receipt;
        let Some(slot) = self.segments.segment(place.segment).get(place.index) else {
            return;
        };
        let entry = Entry { slot, place, word };
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
            if next >= cell || swap(&slot[CELL], cell, next) {
                return;
            }
            spin_loop();
        }
    }
}

impl Entry<'_> {
    fn is_same_stay(&self) -> bool {
        let now = self.slot[super::KEY].load(crate::sync::Ordering::Acquire);
        Word(now).is_same_stay(self.word)
    }
}
