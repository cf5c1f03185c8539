//! A lock-free keyed store of cells over borrowed slots.
//!
//! A key is known by a fingerprint and may live in any slot of its windows. Its *stay* in a slot
//! lasts until the slot is given to another key. Three rules make the table safe; each is a few
//! lines here and a model in `tests/loom`.
//!
//! 1. *A cell is charged only under its key.* A charge reads the cell, then sees that the key word
//!    has not changed, then compares and swaps the cell. To take a slot away, a thread first makes
//!    the key word `Leaving`, then changes the cell (*freezes* it), then gives the slot to the
//!    other key. So a charge either came before the freeze, which then sees it, or fails.
//! 2. *Freezing adds one to a full cell that stays full.* Nothing lowers a cell below the position
//!    of now, or below the position at which its stay began, so a frozen value does not return. A
//!    full cell is full for whichever key comes next, so nothing is reset. (A cell that was read
//!    before it was lowered, or before its owed bucket was dropped, can return. For that reason a
//!    charge looks at the key once more when it is done.)
//! 3. *Two insertions of one key see each other.* Each first writes its `Provisional` word, then,
//!    after a sequentially consistent fence, looks through the windows, then confirms. Whichever
//!    looks later sees the other.
//!
//! No thread waits for one that has stopped: any thread may withdraw a provisional word, put a
//! leaving one back, or complete its removal.

mod charge;
mod insert;
mod operations;
mod segments;
mod tiers;
mod word;

use crate::sync::{AtomicU64, Ordering, PATIENCE, spin_loop};
use charge::{Charged, Receipt};
pub use operations::apply_tables;
use segments::{CELL, CHOICES, KEY, Window, home, window};
pub use segments::{Segments, Slot, WINDOW};
pub use tiers::{check_each_table, check_table, check_tables};
use word::{State, Word};

/// What to do with a new key when every slot it may take belongs to a bucket
/// that owes something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// Refuse the new key: no debt is ever forgotten.
    Deny,
    /// Drop the bucket that would be full soonest, so that a new key always finds room. A charge of
    /// that bucket at the same moment may be forgotten with it, or count for the new key.
    #[default]
    EvictIdlest,
}

impl OnFull {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Deny, Self::EvictIdlest];

    /// The name that every binding uses: `"deny"` or `"evict_idlest"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::EvictIdlest => "evict_idlest",
        }
    }

    /// The choice of that name.
    ///
    /// ```
    /// use tidegate_core::OnFull;
    /// assert_eq!(OnFull::parse("deny"), Some(OnFull::Deny));
    /// assert_eq!(OnFull::parse("evict"), None);
    /// ```
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// The error of a new key that found no slot: all of its slots belong to buckets that owe
/// something, and [`OnFull::Deny`] keeps those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// The smallest of those buckets' cells. A slot is free as soon as the position is beyond it,
    /// unless that bucket is charged again before.
    pub cell: u64,
}

/// The cells of one limit's keys, by fingerprint, in borrowed slots.
///
/// A fingerprint is 64 bits of a hash with a secret seed, so that nobody can choose keys that
/// collide. Two keys share a bucket if the low 48 bits of their fingerprints agree and they have a
/// window in common; they may then be refused too much but never allowed too much. With a million
/// keys in one and a half million slots the odds that any two do are below one in ten million.
///
/// All positions must come from one clock. A call that read the clock before its key's slot was
/// taken from another key may see the time in between as debt.
///
/// ```
/// use tidegate_core::{Limit, Slot, Table, decide};
/// let slots: [Slot; 16] = Default::default();
/// let table = Table::new(&slots[..]);
/// let limit = Limit::parse("2/s")?;
/// let (now, fingerprint) = (1_764_000_000_000_000_000, 0x1234_5678_9abc_def0);
/// let spend = || {
///     let position = limit.timeline().position(now);
///     let step = |cell| decide(&limit, cell, now, 1).ok().map(|(_, next)| next);
///     let cell = table.update(fingerprint, position, step).ok()?;
///     let (decision, _) = decide(&limit, cell, now, 1).ok()?;
///     Some(decision.allowed)
/// };
/// assert_eq!([spend(), spend(), spend()], [Some(true), Some(true), Some(false)]);
/// # Ok::<(), tidegate_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Table<'s, S: Segments + ?Sized = [Slot]> {
    segments: &'s S,
    on_full: OnFull,
}

impl<S: Segments + ?Sized> Clone for Table<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Segments + ?Sized> Copy for Table<'_, S> {}

/// [`Table::fetch`] reads this many of the newest segments. The older ones are small and stay in
/// the processor's cache by themselves.
const FETCHED_SEGMENTS: usize = 2;

/// A segment of fewer slots than this (half a megabyte) stays in the processor's cache by itself.
const FETCHED_SLOTS: usize = 32 * 1024;

/// A slot in which a key was found, and its key word at that time.
#[derive(Clone, Copy, Debug)]
struct Entry<'s> {
    slot: &'s Slot,
    word: Word,
}

impl<'s, S: Segments + ?Sized> Table<'s, S> {
    /// A table over `segments`, whatever they hold already.
    pub fn new(segments: &'s S) -> Self {
        Self { segments, on_full: OnFull::default() }
    }

    /// The same table with another policy for new keys without room.
    #[must_use]
    pub fn on_full(self, on_full: OnFull) -> Self {
        Self { on_full, ..self }
    }

    /// Runs `step` on the key's cell, 0 for a new key, and replaces the cell by
    /// what it returns, if anything. `step` runs again when the cell has changed
    /// meanwhile; the last run counts, and the cell that it was given is returned.
    ///
    /// `position` is that of now: cells up to it are full, and their slots free.
    /// A new cell must not be below the position, unless it is one that this very key
    /// has had before.
    ///
    /// # Errors
    /// [`TableFull`]; nothing has then changed.
    #[inline]
    pub fn update(
        &self,
        fingerprint: u64,
        position: u64,
        step: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, TableFull> {
        self.charge(fingerprint, position, step).map(|charged| charged.before)
    }

    /// Takes what a key owes out of the table: answers its cell, and leaves a full bucket. `position` is
    /// that of now.
    pub fn take(&self, fingerprint: u64, position: u64) -> u64 {
        let mut taken = 0;
        // A key that has no cell needs no slot for a full one.
        _ = self.update(fingerprint, position, |cell| {
            taken = cell;
            (cell > position).then_some(position)
        });
        taken
    }

    /// The key's cell, 0 when it has none.
    pub fn cell(&self, fingerprint: u64) -> u64 {
        match self.read_live(fingerprint) {
            Some((_, cell)) => cell,
            None => self.read_any(fingerprint),
        }
    }

    /// Prefetches the slots of several keys, and changes nothing. Calls on these keys that follow
    /// soon do not wait for memory one after the other.
    ///
    /// Reads the window in which each key is looked for first, for all keys at once; then the next
    /// window for the keys that were not found, and so on.
    #[inline]
    pub fn fetch<const MANY: usize>(&self, fingerprints: &[u64; MANY]) {
        let mut missing = *fingerprints;
        let mut count = MANY;
        for segment in (0..self.segments.count()).rev().take(FETCHED_SEGMENTS) {
            let slots = self.segments.segment(segment);
            if slots.len() < FETCHED_SLOTS {
                break;
            }
            for choice in 0..CHOICES {
                let missing_so_far = count;
                // No step of the loop depends on what another reads, so that the reads overlap.
                let mut seen = 0;
                for fingerprint in missing.iter().take(missing_so_far) {
                    let window = window(slots, *fingerprint, choice);
                    for step in [0, WINDOW / 2] {
                        seen ^= window.entry(step).map_or(0, |entry| entry.word.0);
                    }
                }
                core::hint::black_box(seen);
                count = 0;
                for index in 0..missing_so_far {
                    let fingerprint = missing[index];
                    // The loop has no early exit, which a branch predictor could not foresee.
                    let slots = window(slots, fingerprint, choice).slots;
                    let found = slots.iter().fold(false, |found, slot| {
                        found | Entry::read(slot).word.is_of(fingerprint)
                    });
                    missing[count] = fingerprint;
                    count += usize::from(!found);
                }
            }
        }
    }

    /// The key's slot, unless it is being taken for another key.
    #[inline(always)]
    fn find_live(self, fingerprint: u64) -> Option<Entry<'s>> {
        let newest = self.segments.count().wrapping_sub(1);
        if let Some(slot) = home(self.segments.segment(newest), fingerprint) {
            let entry = Entry::read(slot);
            if entry.word.is_live_of(fingerprint) {
                return Some(entry);
            }
        }
        // This path is not rare. Marked as cold it leaves the registers to the other path.
        core::hint::cold_path();
        find_live_anywhere(self.segments, fingerprint)
    }

    /// The key's slot, or else one in which it is being inserted.
    fn find(self, fingerprint: u64) -> Option<Entry<'s>> {
        let mut provisional = None;
        for segment in (0..self.segments.count()).rev() {
            let slots = self.segments.segment(segment);
            for choice in 0..CHOICES {
                let window = window(slots, fingerprint, choice);
                for step in 0..WINDOW {
                    let Some(entry) = window.entry(step) else { continue };
                    if entry.word.is_of(fingerprint) {
                        if entry.word.has_bucket() {
                            return Some(entry);
                        }
                        provisional = Some(entry);
                    }
                }
            }
        }
        provisional
    }
}

/// The key's slot in any of its windows, unless it is being taken for another key.
// Plain loops: every third key of a large table takes this path, and nested iterator adapters take
// several times as long.
#[inline(never)]
fn find_live_anywhere<S: Segments + ?Sized>(segments: &S, fingerprint: u64) -> Option<Entry<'_>> {
    for segment in (0..segments.count()).rev() {
        let slots = segments.segment(segment);
        for choice in 0..CHOICES {
            let window = window(slots, fingerprint, choice);
            for step in 0..WINDOW {
                let Some(entry) = window.entry(step) else { continue };
                if entry.word.is_live_of(fingerprint) {
                    return Some(entry);
                }
            }
        }
    }
    None
}

/// Every slot that the key may be in, newest segment first.
#[inline]
fn entries<S: Segments + ?Sized>(
    segments: &S,
    fingerprint: u64,
) -> impl Iterator<Item = Entry<'_>> {
    (0..segments.count()).rev().flat_map(move |segment| {
        let slots = segments.segment(segment);
        (0..CHOICES).flat_map(move |choice| window(slots, fingerprint, choice).entries())
    })
}

impl<'s> Window<'s> {
    /// The window's slots, the key's home first, which is where most keys are.
    fn entries(self) -> impl Iterator<Item = Entry<'s>> {
        (0..WINDOW).filter_map(move |step| self.entry(step))
    }

    #[inline]
    fn entry(&self, step: usize) -> Option<Entry<'s>> {
        self.slots.get(self.home ^ step).map(Entry::read)
    }
}

impl<'s> Entry<'s> {
    #[inline(always)]
    fn read(slot: &'s Slot) -> Self {
        Self { slot, word: Word(slot[KEY].load(Ordering::Acquire)) }
    }

    /// The slot's place in an order that is the same for all who use the table. It decides between
    /// two insertions of one key.
    fn place(&self) -> *const Slot {
        self.slot
    }

    #[inline(always)]
    fn cell(&self) -> u64 {
        self.slot[CELL].load(Ordering::Acquire)
    }

    fn is_unchanged(&self) -> bool {
        self.slot[KEY].load(Ordering::Acquire) == self.word.0
    }

    /// Replaces the key word, unless it has changed since it was read.
    fn advance(&mut self, next: Word) -> bool {
        let moved = swap(&self.slot[KEY], self.word.0, next.0);
        if moved {
            self.word = next;
        }
        moved
    }

    fn become_state(&mut self, state: State) -> bool {
        self.advance(self.word.become_state(state))
    }

    /// Waits for an insertion to end, and withdraws it when that takes too long, because its
    /// thread may be dead. Withdrawing is always safe.
    fn await_insertion(mut self) {
        for _ in 0..PATIENCE {
            if !self.is_unchanged() {
                return;
            }
            spin_loop();
        }
        self.advance(self.word.vacated());
    }
}

fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}
