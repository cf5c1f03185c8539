//! The tokens that a node has spent within the last second, and the most it may spend in one.

use crate::bounds::NANOS_PER_SECOND;

/// Tokens are counted in intervals of a 128th of a second (7.8 ms). Shorter intervals would count
/// tokens for less time after they are a second old, and take more memory for each slice.
const INTERVALS_PER_SECOND: u64 = 128;
const INTERVAL: u64 = NANOS_PER_SECOND / INTERVALS_PER_SECOND;

/// A second that begins within an interval reaches into one interval more.
const KEPT: usize = INTERVALS_PER_SECOND as usize + 1;

/// A sliding window of one second.
///
/// The tokens of an interval count until the last of them is a second old, so no second ever
/// holds more than is counted here.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlidingSecond {
    most: u64,
    /// Interval number `n` is at `n % KEPT`.
    intervals: [Interval; KEPT],
    /// The number of the newest interval.
    newest: u64,
    /// The tokens of all intervals.
    total: u64,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    tokens: u32,
    /// When the last of them was spent, in nanoseconds since the interval began.
    last: u32,
}

impl SlidingSecond {
    pub(super) const fn empty() -> Self {
        let intervals = [Interval { tokens: 0, last: 0 }; KEPT];
        Self { most: 0, intervals, newest: 0, total: 0 }
    }

    /// The most tokens that any second may hold.
    pub(super) const fn most(&self) -> u64 {
        self.most
    }

    pub(super) const fn allow(&mut self, most: u64) {
        self.most = most;
    }

    /// The tokens spent in the second up to `now`.
    pub(super) fn spent(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.total
    }

    /// How many more tokens the second up to `now` may hold.
    pub(super) fn room(&mut self, now: u64) -> u64 {
        self.most.saturating_sub(self.spent(now))
    }

    /// How long it takes until the second before then has room for `tokens` more.
    pub(super) fn full_for(&mut self, now: u64, tokens: u64) -> u64 {
        let mut above = self.spent(now).saturating_add(tokens).saturating_sub(self.most);
        if above == 0 {
            return 0;
        }
        for number in self.oldest()..=self.newest {
            let interval = self.intervals[place(number)];
            above = above.saturating_sub(u64::from(interval.tokens));
            if above == 0 {
                return interval.ends(number).saturating_sub(now);
            }
        }
        NANOS_PER_SECOND
    }

    pub(super) fn spend(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        let interval = &mut self.intervals[place(self.newest)];
        let before = interval.tokens;
        interval.tokens = interval.tokens.saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX));
        let began = self.newest * INTERVAL;
        interval.last = interval.last.max((now.max(began) - began) as u32);
        self.total += u64::from(interval.tokens - before);
    }

    fn advance(&mut self, now: u64) {
        let passed = (now / INTERVAL).saturating_sub(self.newest);
        for later in 1..=passed.min(KEPT as u64) {
            self.forget(self.newest + later);
        }
        self.newest += passed;
        let oldest = self.oldest();
        let interval = self.intervals[place(oldest)];
        if interval.tokens > 0 && now >= interval.ends(oldest) {
            self.forget(oldest);
        }
    }

    /// Empties the interval at the place of `number`.
    fn forget(&mut self, number: u64) {
        let interval = &mut self.intervals[place(number)];
        self.total -= u64::from(interval.tokens);
        *interval = Interval { tokens: 0, last: 0 };
    }

    const fn oldest(&self) -> u64 {
        (self.newest + 1).saturating_sub(KEPT as u64)
    }
}

impl Interval {
    /// When the last token of this interval, which is number `number`, is a second old.
    const fn ends(self, number: u64) -> u64 {
        number * INTERVAL + self.last as u64 + NANOS_PER_SECOND
    }
}

const fn place(number: u64) -> usize {
    (number % KEPT as u64) as usize
}
