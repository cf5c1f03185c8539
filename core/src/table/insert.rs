//! Inserts new keys: into a vacant slot, or one that is taken from another bucket.

use super::segments::{CELL, CHOICES, Slot, WINDOW, window};
use super::{Entry, OnFull, Segments, State, Table, TableFull, entries, swap};
use crate::sync::{Ordering, fence};

/// How a slot can become the new key's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    /// It belongs to no key.
    Vacant,
    /// The bucket of the slot is full, so that forgetting it loses nothing.
    Reclaim,
    /// The bucket of the slot owes something and is dropped.
    Evict,
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// Whether the key has a slot or would find one. Changes nothing, and counts nothing.
    ///
    /// # Errors
    /// [`TableFull`], as an insertion at this moment would answer.
    pub(super) fn find_room(&self, fingerprint: u64, position: u64) -> Result<(), TableFull> {
        if self.on_full == OnFull::EvictIdlest || self.find(fingerprint).is_some() {
            return Ok(());
        }
        let count = self.segments.count();
        let slots = self.segments.segment(count.saturating_sub(1));
        let is_free = choose_free(slots, fingerprint, position).is_some()
            || self.segments.can_grow(count)
            || self.choose_free_in_older(fingerprint, position).is_some();
        if is_free {
            return Ok(());
        }
        match choose_occupied(slots, fingerprint) {
            // The insertion that is under way may still be withdrawn.
            Some(entry) if entry.word.state() == State::Provisional => Ok(()),
            idlest => Err(TableFull { cell: idlest.map_or(0, |entry| entry.cell()) }),
        }
    }

    /// Inserts a key that was not found. `None` when another thread interfered: the caller then
    /// looks for the key again.
    pub(super) fn insert(
        &self,
        fingerprint: u64,
        position: u64,
    ) -> Result<Option<Entry<'s>>, TableFull> {
        let Some(mut own) = self.take_slot(fingerprint, position)? else {
            return Ok(None);
        };
        fence(Ordering::SeqCst);
        for mut other in entries(self.segments, fingerprint) {
            if other.place() == own.place() || !other.word.is_of(fingerprint) {
                continue;
            }
            let withdrawn = !other.word.has_bucket()
                && own.place() < other.place()
                && other.advance(other.word.vacated());
            if !withdrawn {
                own.advance(own.word.vacated());
                return Ok(None);
            }
        }
        Ok(own.become_state(State::Live).then_some(own))
    }

    /// Takes a slot for the key, provisionally. `None` when another thread interfered.
    ///
    /// The slot is in the newest segment if that has room or if there can be a newer one, because a key
    /// is looked for in the newest segment first. In a table that cannot grow, it may be in any.
    fn take_slot(&self, fingerprint: u64, position: u64) -> Result<Option<Entry<'s>>, TableFull> {
        let count = self.segments.count();
        let newest = count.saturating_sub(1);
        let slots = self.segments.segment(newest);
        let free = choose_free(slots, fingerprint, position);
        if free.is_none() && (self.segments.grow(count) || self.segments.count() != count) {
            return Ok(None);
        }
        let free = free.or_else(|| self.choose_free_in_older(fingerprint, position));
        let (mut entry, taking) = match free {
            Some(free) => free,
            None => match choose_occupied(slots, fingerprint) {
                Some(entry) if entry.word.state() == State::Provisional => {
                    entry.await_insertion();
                    return Ok(None);
                }
                // Another thread has inserted the key since this one looked for it.
                _ if self.find(fingerprint).is_some() => return Ok(None),
                Some(idlest) if self.on_full == OnFull::EvictIdlest => (idlest, Taking::Evict),
                idlest => {
                    self.segments.new_key_denied();
                    return Err(TableFull { cell: idlest.map_or(0, |entry| entry.cell()) });
                }
            },
        };
        let ready = match taking {
            Taking::Vacant => true,
            Taking::Reclaim => entry.freeze(|cell| (cell < position).then(|| cell + 1)),
            // Every value up to the position is a full bucket; this one only has to differ from
            // the cell.
            Taking::Evict => entry.freeze(|cell| {
                Some(if cell == position { position.checked_sub(1).unwrap_or(1) } else { position })
            }),
        };
        if !ready || !entry.advance(entry.word.taken_by(fingerprint)) {
            return Ok(None);
        }
        if taking == Taking::Evict {
            self.segments.owed_bucket_evicted();
        }
        Ok(Some(entry))
    }

    /// Chooses as [`choose_free`] does, in the segments before the newest one.
    #[cold]
    fn choose_free_in_older(&self, fingerprint: u64, position: u64) -> Option<(Entry<'s>, Taking)> {
        let older = (0..self.segments.count().saturating_sub(1)).rev();
        older
            .map(|index| self.segments.segment(index))
            .find_map(|slots| choose_free(slots, fingerprint, position))
    }
}

/// Chooses a vacant slot or, where there is none, the slot whose bucket has been full for longest.
///
/// It is in the first window while three quarters of that are free, so that most keys are found
/// where they are looked for first. Otherwise it is in the window with more free slots.
fn choose_free<'s>(
    slots: &'s [Slot],
    fingerprint: u64,
    position: u64,
) -> Option<(Entry<'s>, Taking)> {
    let mut best: Option<(usize, Entry<'s>, Taking)> = None;
    for choice in 0..CHOICES {
        let window = window(slots, fingerprint, choice);
        let mut free = 0;
        let mut longest_full = u64::MAX;
        let mut chosen = None;
        for entry in window.entries() {
            match entry.word.state() {
                State::Vacant => {
                    free += 1;
                    if longest_full != 0 || chosen.is_none() {
                        longest_full = 0;
                        chosen = Some((entry, Taking::Vacant));
                    }
                }
                State::Provisional => {}
                State::Live | State::Leaving => {
                    let cell = entry.cell();
                    if cell < position {
                        free += 1;
                        if cell < longest_full {
                            longest_full = cell;
                            chosen = Some((entry, Taking::Reclaim));
                        }
                    }
                }
            }
        }
        if let Some((entry, taking)) = chosen
            && best.as_ref().is_none_or(|(most, ..)| free > *most)
        {
            best = Some((free, entry, taking));
        }
        if free >= WINDOW * 3 / 4 {
            break;
        }
    }
    best.map(|(_, entry, taking)| (entry, taking))
}

/// Chooses a slot where none is free: one of an unfinished insertion, or else the slot whose bucket
/// will be full soonest.
fn choose_occupied(slots: &[Slot], fingerprint: u64) -> Option<Entry<'_>> {
    let mut idlest: Option<(u64, Entry<'_>)> = None;
    for choice in 0..CHOICES {
        let window = window(slots, fingerprint, choice);
        for entry in window.entries() {
            if entry.word.state() == State::Provisional {
                return Some(entry);
            }
            let cell = entry.cell();
            if idlest.as_ref().is_none_or(|(least, _)| cell < *least) {
                idlest = Some((cell, entry));
            }
        }
    }
    idlest.map(|(_, entry)| entry)
}

impl Entry<'_> {
    /// Marks the slot as leaving and changes its cell, so that a charge of the old key that is
    /// under way fails. When `frozen` has no value for the cell, the key keeps its slot.
    fn freeze(&mut self, frozen: impl Fn(u64) -> Option<u64>) -> bool {
        if !self.become_state(State::Leaving) {
            return false;
        }
        let cell = self.cell();
        let done = frozen(cell).is_some_and(|next| swap(&self.slot[CELL], cell, next));
        if !done {
            self.become_state(State::Live);
        }
        done
    }
}
