use super::segments::{CELL, CHOICES, Slot, WINDOW, window};
use super::{Entry, OnFull, Segments, State, Table, TableFull, entries, swap};
use crate::sync::{Ordering, fence};

/// How a slot can become the new key's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    Vacant,
    /// Its bucket is full.
    Reclaim,
    /// Its bucket owes something and is forgotten.
    Evict,
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// Inserts a key that was not found. None when another thread came between:
    /// look again.
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

    /// Makes one of the newest segment's slots provisionally the key's.
    fn take_slot(&self, fingerprint: u64, position: u64) -> Result<Option<Entry<'s>>, TableFull> {
        let count = self.segments.count();
        let newest = count.saturating_sub(1);
        let slots = self.segments.segment(newest);
        let (mut entry, taking) = match choose_free(slots, fingerprint, position) {
            Some(free) => free,
            None if self.segments.grow(count) || self.segments.count() != count => {
                return Ok(None);
            }
            None => match choose_occupied(slots, fingerprint) {
                Some(entry) if entry.word.state() == State::Provisional => {
                    entry.await_insertion();
                    return Ok(None);
                }
                // Another has inserted the key since it was looked for.
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
            // Any value up to the position is full; it must only be another one.
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
}

/// A vacant slot, or the longest full one: of the first window while most of it is
/// free, so that most keys are found where they are looked for first, else of the
/// window with more such slots.
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
        let mut choice = None;
        for entry in window.entries() {
            match entry.word.state() {
                State::Vacant => {
                    free += 1;
                    if longest_full != 0 || choice.is_none() {
                        longest_full = 0;
                        choice = Some((entry, Taking::Vacant));
                    }
                }
                State::Provisional => {}
                State::Live | State::Leaving => {
                    let cell = entry.cell();
                    if cell < position {
                        free += 1;
                        if cell < longest_full {
                            longest_full = cell;
                            choice = Some((entry, Taking::Reclaim));
                        }
                    }
                }
            }
        }
        if let Some((entry, taking)) = choice
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

/// An unfinished insertion, else the bucket that is full soonest.
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
    /// Makes the key leave and changes its cell, so that no charge of it can land
    /// any more. When `frozen` has no value for the cell, the key stays.
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
