//! A slot's key word: 48 bits of the fingerprint, a 14-bit version, a state.

const TAG_BITS: u32 = 48;
const VERSION_BITS: u32 = 14;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;
const STATE_SHIFT: u32 = TAG_BITS + VERSION_BITS;

/// A key and the stage of its stay in a slot. All zero is a slot never used.
///
/// Every change of the word raises the version, so that a compare-and-swap by
/// someone who slept through changes fails. Without it, one who froze a cell and slept
/// would mistake another's `Leaving` for its own and take a bucket charged meanwhile.
/// What remains: the word changes an exact multiple of 2^14 times during one such sleep
/// and is then again `Leaving`, of the same key. Where the number of changes is
/// as good as random that is one of 16,384 sleeps so long; it forgets one bucket's debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody's.
    Vacant,
    /// Being inserted; becomes `Live` unless another insertion of the key is seen.
    Provisional,
    /// The key's bucket is in this slot.
    Live,
    /// Someone wants the slot. Whoever needs the bucket makes it `Live` again.
    Leaving,
}

impl Word {
    pub(super) const fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Vacant,
            1 => State::Provisional,
            2 => State::Live,
            _ => State::Leaving,
        }
    }

    /// Whether the slot is, or is about to be, the one of this fingerprint's key.
    pub(super) const fn is_of(self, fingerprint: u64) -> bool {
        (self.0 ^ fingerprint) & TAG_MASK == 0 && self.0 >> STATE_SHIFT != 0
    }

    /// Whether the key has a bucket here, and nobody wants its slot.
    #[inline(always)]
    pub(super) const fn is_live_of(self, fingerprint: u64) -> bool {
        // Tag and state side by side, and nothing else: few instructions on a path that counts.
        let tag_and_state = self.0.rotate_left(u64::BITS - STATE_SHIFT) << VERSION_BITS;
        tag_and_state
            == fingerprint << (u64::BITS - TAG_BITS) | (State::Live as u64) << VERSION_BITS
    }

    /// Whether the key has a bucket here, wanted by others or not.
    pub(super) const fn has_bucket(self) -> bool {
        matches!(self.state(), State::Live | State::Leaving)
    }

    /// The next version, in another state; the key stays.
    pub(super) const fn become_state(self, state: State) -> Self {
        self.with(self.0 & TAG_MASK, state)
    }

    /// The next version, provisionally the key's with this fingerprint.
    pub(super) const fn taken_by(self, fingerprint: u64) -> Self {
        self.with(fingerprint & TAG_MASK, State::Provisional)
    }

    /// The next version, nobody's.
    pub(super) const fn vacated(self) -> Self {
        self.with(0, State::Vacant)
    }

    /// Whether the slot has been the key's without a break since its word was
    /// `earlier`. Leaving, being taken and confirmed are three versions at least.
    #[inline(always)]
    pub(super) const fn is_same_stay(self, earlier: Self) -> bool {
        let passed = self.version().wrapping_sub(earlier.version()) & VERSION_MASK;
        self.has_bucket() && (self.0 ^ earlier.0) & TAG_MASK == 0 && passed < 3
    }

    const fn version(self) -> u64 {
        self.0 >> TAG_BITS & VERSION_MASK
    }

    const fn with(self, tag: u64, state: State) -> Self {
        let version = (self.version() + 1) & VERSION_MASK;
        Self((state as u64) << STATE_SHIFT | version << TAG_BITS | tag)
    }
}
