//! A lock-free keyed store of cells over borrowed slots.
//!
//! A key is known by a fingerprint and may live in any slot of its windows.
//! Three rules make it safe; each is a few lines here and a model in `tests/loom`.
//!
//! 1. *A cell is charged only under its key.* A charge reads the cell, then sees
//!    that the key word has not moved, then compares and swaps the cell. Taking a
//!    slot away first makes the key word `Leaving`, then changes the cell
//!    (*freezes* it), then gives the slot on; so a charge either came before the
//!    freeze, which then sees it, or fails.
//! 2. *Freezing adds one to a full cell that stays full.* Nothing lowers a cell
//!    below the position of now, or of its own stay's beginning, so a frozen value
//!    does not return, and a full cell is full for whichever key comes next: nothing
//!    is reset. (A cell that was seen before it was lowered, or before its owed bucket
//!    was dropped, can return; so a charge looks at the key once more when it is done.)
//! 3. *Two insertions of one key see each other.* Each first shows its
//!    `Provisional` word, then, after a sequentially consistent fence, looks through
//!    the windows, then confirms. Whichever looks later sees the other.
//!
//! Nothing waits for a thread that has stopped: anybody may withdraw a
//! provisional word, put a leaving one back, or carry its removal on.

mod charge;
mod insert;
mod operations;
mod segments;
mod tiers;
mod word;

use crate::sync::{AtomicU64, Ordering, PATIENCE, spin_loop};
pub use charge::{Charged, Receipt};
pub use operations::apply_tables;
use segments::{CELL, CHOICES, KEY, Window, home, window};
pub use segments::{Segments, Slot, WINDOW};
pub use tiers::{check_table, check_tables};
use word::{State, Word};

/// What to do with a new key when every slot it may take belongs to a bucket
/// that owes something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// Refuse the new key: no debt is ever forgotten.
    Deny,
    /// Drop the bucket that would be full soonest: a new key always finds room. A
    /// charge that meets the drop may be forgotten with the bucket, or count for the
    /// key that comes next.
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

/// Every slot that the new key may take is owed, and [`OnFull::Deny`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// The least of the cells in those slots: there is room as soon as the position
    /// is beyond it, if nobody charges that bucket before.
    pub cell: u64,
}

/// Cells of one limit by the fingerprints of their keys, in borrowed slots.
///
/// A fingerprint is 64 bits of a hash with a secret seed, so that nobody can
/// choose keys that meet. Two keys share a bucket, and then may refuse too much but
/// never admit too much, when the low 48 bits agree and a window of theirs is the
/// same: with a million keys in a million and a half slots the odds that any two
/// do are below one in ten million.
///
/// Positions must come from one clock. A call that read it before the slot of
/// its key was taken from another key may see the time between as debt.
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

/// How many of the newest segments are worth fetching: the older ones are small.
const FETCHED: usize = 2;
/// A segment of fewer slots (half a megabyte) stays near by itself.
const NEAR: usize = 32 * 1024;

/// A slot in which a key was seen, and its key word then.
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

    /// The key's cell, 0 when it has none.
    pub fn cell(&self, fingerprint: u64) -> u64 {
        match self.look(fingerprint) {
            Some((_, cell)) => cell,
            None => self.look_again(fingerprint),
        }
    }

    /// Brings what is needed of memory for all the keys near, and changes nothing: calls on
    /// these keys that follow soon do not wait for memory one after the other.
    ///
    /// Windows are asked for in the order in which a key is looked for, for all keys at once,
    /// then for those that were not in it the next.
    #[inline]
    pub fn fetch<const MANY: usize>(&self, fingerprints: &[u64; MANY]) {
        let mut missing = *fingerprints;
        let mut count = MANY;
        for segment in (0..self.segments.count()).rev().take(FETCHED) {
            let slots = self.segments.segment(segment);
            if slots.len() < NEAR {
                break;
            }
            for choice in 0..CHOICES {
                let missing_so_far = count;
                // Nothing here depends on what is read, so that the reads do not wait.
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
                    // Without a way out half-way, which no processor can foresee.
                    let slots = window(slots, fingerprint, choice).slots;
                    let found = slots
                        .iter()
                        .fold(false, |found, slot| found | Entry::of(slot).word.is_of(fingerprint));
                    missing[count] = fingerprint;
                    count += usize::from(!found);
                }
            }
        }
    }

    /// The key's slot, unless somebody wants it.
    #[inline(always)]
    fn find_live(self, fingerprint: u64) -> Option<Entry<'s>> {
        let newest = self.segments.count().wrapping_sub(1);
        if let Some(slot) = home(self.segments.segment(newest), fingerprint) {
            let entry = Entry::of(slot);
            if entry.word.is_live_of(fingerprint) {
                return Some(entry);
            }
        }
        // Not rare, but what the other way needs then stays in registers there.
        core::hint::cold_path();
        find_live_anywhere(self.segments, fingerprint)
    }

    /// The key's slot, or one in which it is being inserted.
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

// Loops, since this is the way of every third key of a large table, and adapters of iterators in
// each other take several times as long.
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
        self.slots.get(self.home ^ step).map(Entry::of)
    }
}

impl<'s> Entry<'s> {
    #[inline(always)]
    fn of(slot: &'s Slot) -> Self {
        Self { slot, word: Word(slot[KEY].load(Ordering::Acquire)) }
    }

    /// Slots have an order, the same for all who use them, which decides between two
    /// insertions of one key.
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

    /// Moves the key word on, unless somebody else has.
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

    /// Waits for the insertion to end; withdraws it when that takes too long,
    /// since its thread may be dead. Withdrawing is always safe.
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
