use super::segments::CELL;
use super::{Entry, OnFull, Place, Segments, State, Table, TableFull, Word, swap};
use crate::sync::spin_loop;

/// Where a charge went, for giving it back.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    place: Place,
    word: Word,
    before: u64,
    after: u64,
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// [`update`](Self::update) with a receipt when the cell was replaced.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn charge<R>(
        &self,
        fingerprint: u64,
        position: u64,
        mut step: impl FnMut(u64) -> (R, Option<u64>),
    ) -> Result<(R, Option<Receipt>), TableFull> {
        loop {
            let entry = match self.find(fingerprint) {
                Some(entry) if entry.word.has_bucket() => entry,
                Some(provisional) => {
                    provisional.await_insertion();
                    continue;
                }
                None => {
                    let (answer, next) = step(0);
                    if next.is_none() {
                        return Ok((answer, None));
                    }
                    match self.insert(fingerprint, position)? {
                        Some(entry) => entry,
                        None => continue,
                    }
                }
            };
            if let Some(charged) = self.charge_entry(entry, &mut step) {
                return Ok(charged);
            }
            spin_loop();
        }
    }

    /// None when the slot has been taken away: then nothing was charged.
    fn charge_entry<R>(
        &self,
        mut entry: Entry<'s>,
        mut step: impl FnMut(u64) -> (R, Option<u64>),
    ) -> Option<(R, Option<Receipt>)> {
        if entry.word.state() == State::Leaving && !entry.become_state(State::Live) {
            return None;
        }
        loop {
            let before = entry.cell();
            // After the cell: a cell frozen for the next key is then not taken for this one's.
            if !entry.is_unchanged() {
                return None;
            }
            let (answer, next) = step(before);
            let Some(after) = next else {
                return Some((answer, None));
            };
            if swap(&entry.slot[CELL], before, after) {
                if self.on_full == OnFull::EvictIdlest && !entry.is_same_stay() {
                    return None;
                }
                let Entry { place, word, .. } = entry;
                return Some((answer, Some(Receipt { place, word, before, after })));
            }
            spin_loop();
        }
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
