//! A slot's key word: 48 bits of the fingerprint, a 14-bit version, a state.

const TAG_BITS: u32 = 48;
const VERSION_BITS: u32 = 14;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;
const STATE_SHIFT: u32 = TAG_BITS + VERSION_BITS;

/// The key of a slot and the state of its stay there. All zero is a slot that was never used.
///
/// Every change of the word raises the version, so that the compare-and-swap of a thread that was
/// paused while the word changed fails (the ABA problem). Without a version, a thread that froze a
/// cell and was then paused would take another thread's `Leaving` for its own, and with it a bucket
/// that was charged in the meantime.
///
/// One case remains: during such a pause the word changes an exact multiple of 2^14 times and is
/// then `Leaving` with the same key again. If the number of changes is as good as random, that
/// happens in one of 16,384 pauses of that length. It forgets one bucket's debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The slot belongs to no key.
    Vacant,
    /// Being inserted; becomes `Live` unless another insertion of the key is seen.
    Provisional,
    /// The key's bucket is in this slot.
    Live,
    /// The slot is being taken for another key. A thread that needs the bucket makes it `Live`
    /// again.
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

    /// Whether the slot belongs, or is about to belong, to the key with this fingerprint.
    pub(super) const fn is_of(self, fingerprint: u64) -> bool {
        (self.0 ^ fingerprint) & TAG_MASK == 0 && self.0 >> STATE_SHIFT != 0
    }

    /// Whether the key has a bucket here that is not being taken away.
    #[inline(always)]
    pub(super) const fn is_live_of(self, fingerprint: u64) -> bool {
        // Only tag and state are kept, side by side: this takes few instructions, and every check
        // runs them.
        let tag_and_state = self.0.rotate_left(u64::BITS - STATE_SHIFT) << VERSION_BITS;
        tag_and_state
            == fingerprint << (u64::BITS - TAG_BITS) | (State::Live as u64) << VERSION_BITS
    }

    /// Whether a key has a bucket here, be it one that is being taken away.
    pub(super) const fn has_bucket(self) -> bool {
        matches!(self.state(), State::Live | State::Leaving)
    }

    /// The next version, in another state; the key stays.
    pub(super) const fn become_state(self, state: State) -> Self {
        self.with(self.0 & TAG_MASK, state)
    }

    /// The next version, which belongs provisionally to the key with this fingerprint.
    pub(super) const fn taken_by(self, fingerprint: u64) -> Self {
        self.with(fingerprint & TAG_MASK, State::Provisional)
    }

    /// The next version, which belongs to no key.
    pub(super) const fn vacated(self) -> Self {
        self.with(0, State::Vacant)
    }

    /// Whether the slot has belonged to the key without a break since its word was `earlier`. To
    /// leave, to be taken and to be confirmed are at least three versions.
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

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: u64 = 0xBA98_7654_3210;
    /// [`TAG`] below 16 bits that a word does not keep.
    const FINGERPRINT: u64 = 0xFEDC << 48 | TAG;
    const STATES: [State; 4] = [State::Vacant, State::Provisional, State::Live, State::Leaving];

    fn word(state: u64, version: u64, tag: u64) -> Word {
        Word(state << 62 | version << 48 | tag)
    }

    /// The bits must not change: files of shared memory hold them.
    #[test]
    fn a_stay_changes_state_and_version() {
        let taken = Word(0).taken_by(FINGERPRINT);
        assert_eq!(taken, word(1, 1, TAG));
        let live = taken.become_state(State::Live);
        assert_eq!(live, word(2, 2, TAG));
        let leaving = live.become_state(State::Leaving);
        assert_eq!(leaving, word(3, 3, TAG));
        assert_eq!(leaving.vacated(), word(0, 4, 0));
        assert_eq!(leaving.taken_by(!FINGERPRINT), word(1, 4, TAG ^ TAG_MASK));
    }

    #[test]
    fn versions_wrap_around_and_touch_nothing_else() {
        let last = word(3, VERSION_MASK, TAG);
        assert_eq!(last.become_state(State::Live), word(2, 0, TAG));
        assert_eq!(last.vacated(), Word(0));
        assert_eq!(VERSION_MASK, 16_383);
    }

    #[test]
    fn a_word_tells_its_state() {
        for version in [0, 1, VERSION_MASK] {
            let words = [0, 1, 2, 3].map(|state| word(state, version, TAG));
            assert_eq!(words.map(Word::state), STATES);
            assert_eq!(words.map(Word::has_bucket), [false, false, true, true]);
            assert_eq!(words.map(|it| it.is_of(FINGERPRINT)), [false, true, true, true]);
            assert_eq!(words.map(|it| it.is_live_of(FINGERPRINT)), [false, false, true, false]);
        }
    }

    #[test]
    fn a_word_is_of_one_tag() {
        for bit in 0..64 {
            let other = FINGERPRINT ^ 1 << bit;
            let same = bit >= TAG_BITS;
            let live = word(2, 7, TAG);
            assert_eq!((live.is_of(other), live.is_live_of(other)), (same, same), "bit {bit}");
        }
    }

    #[test]
    fn a_stay_lasts_two_versions() {
        for version in [5, VERSION_MASK, VERSION_MASK - 1] {
            let earlier = word(2, version, TAG);
            let later = |passed| word(2, (version + passed) & VERSION_MASK, TAG);
            let same = [0, 1, 2, 3, 4, VERSION_MASK].map(|it| later(it).is_same_stay(earlier));
            assert_eq!(same, [true, true, true, false, false, false]);
            assert!(earlier.become_state(State::Leaving).is_same_stay(earlier));
            assert!(!word(2, version, TAG ^ 1).is_same_stay(earlier), "another key");
            assert!(!earlier.vacated().is_same_stay(earlier));
            assert!(!word(1, version, TAG).is_same_stay(earlier), "not there any more");
        }
    }
}
