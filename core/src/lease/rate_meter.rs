//! Measures a rate of tokens: over two ttls, or since the rate last changed.

use super::rate::RATE_NANOS;
use crate::bounds::NANOS_PER_SECOND;

/// Tokens are counted in bins of a 16th of a ttl. The bins of two ttls are kept.
const BINS: usize = 32;
const BINS_PER_TTL: u64 = 16;

/// A rate is taken over at least this many bins, so that two tokens in quick succession do not
/// count as a high rate.
const SHORTEST: u64 = 2;

/// In a meter younger than this many bins, few tokens (less than [`MANY`]) are taken over this
/// many bins.
const SHORTEST_AT_FIRST: u64 = 4;

/// From this many tokens on, demand counts as established even in a very young window.
pub(super) const MANY: u64 = 16;

/// The rate has changed when the tokens of the newest bins differ from what an even rate would
/// have put there by more than two standard deviations: their variance times this. Chance alone
/// does that in 4.6 % of comparisons.
const CERTAIN: u64 = 4;

/// Counts tokens, and tells at which rate they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateMeter {
    /// Bin number `n` is at `n % BINS`; `newest` is the number of the one that is being filled.
    bins: [u64; BINS],
    newest: u64,
    /// Nanoseconds in a bin.
    bin: u64,
    started: u64,
    /// When tokens were counted last.
    last: u64,
}

impl RateMeter {
    pub(super) const fn starting(now: u64, ttl: u64) -> Self {
        let bin = ttl / BINS_PER_TTL;
        Self { bins: [0; BINS], newest: now / bin, bin, started: now, last: now }
    }

    pub(super) fn count(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        self.last = now;
        if let Some(bin) = self.bins.get_mut((self.newest % BINS as u64) as usize) {
            *bin = bin.saturating_add(tokens);
        }
    }

    /// Counts tokens that came at an even rate since `began`.
    pub(super) fn count_since(&mut self, began: u64, now: u64, tokens: u64) {
        let time = now.saturating_sub(began);
        let oldest = (now / self.bin).saturating_sub(BINS as u64 - 1);
        let mut counted = 0;
        for bin in oldest.max(began / self.bin)..now / self.bin {
            let passed = ((bin + 1) * self.bin).saturating_sub(began);
            let until = u128::from(tokens) * u128::from(passed) / u128::from(time.max(1));
            let until = u64::try_from(until).unwrap_or(tokens).min(tokens);
            // What belongs to forgotten bins is not counted in the oldest one.
            if bin > oldest || bin == began / self.bin {
                self.count((bin * self.bin).max(began), until - counted);
            }
            counted = until;
        }
        self.count(now, tokens - counted);
    }

    /// The tokens of the last second, if they came at an even rate in the bins that reach into it.
    pub(super) fn last_second(&mut self, now: u64) -> u64 {
        self.advance(now);
        let bins = (1..=BINS).find(|bins| self.time_of(*bins, now) >= NANOS_PER_SECOND);
        let bins = bins.unwrap_or(BINS);
        let time = self.time_of(bins, now).max(NANOS_PER_SECOND);
        let tokens = u128::from(self.newest(bins)) * u128::from(NANOS_PER_SECOND);
        u64::try_from(tokens.div_ceil(u128::from(time))).unwrap_or(u64::MAX)
    }

    /// The tokens of the last two ttls.
    pub(super) fn total(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.bins.iter().fold(0, |sum, bin| sum.saturating_add(*bin))
    }

    /// How long the meter has been counting.
    pub(super) const fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.started)
    }

    /// When tokens were counted last.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// The rate since it last changed by more than chance explains; over the last two ttls if it
    /// has not.
    pub(super) fn rate(&mut self, now: u64) -> u64 {
        let (tokens, time) = self.since_last_change(now);
        self.per_second(tokens, time, now)
    }

    /// [`rate`](Self::rate) where the counts are those of whole intervals, so that a young meter is
    /// as good as an old one.
    pub(super) fn exact_rate(&mut self, now: u64) -> u64 {
        let (tokens, time) = self.since_last_change(now);
        let rate = u128::from(tokens) * RATE_NANOS / u128::from(time.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// The tokens since the rate last changed, and the time in which they came.
    fn since_last_change(&mut self, now: u64) -> (u64, u64) {
        self.advance(now);
        let (all, all_time) = (self.newest(BINS), self.time_of(BINS, now));
        let (mut tokens, mut time, mut clearest) = (all, all_time, CERTAIN);
        for bins in 2..BINS {
            let (late, late_time) = (self.newest(bins), self.time_of(bins, now));
            let clear = change(late, late_time, all, all_time);
            if clear > clearest {
                (tokens, time, clearest) = (late, late_time, clear);
            }
        }
        (tokens, time)
    }

    /// The rate over the last two ttls, whether it has changed or not.
    pub(super) fn average(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.per_second(self.newest(BINS), self.time_of(BINS, now), now)
    }

    fn per_second(&self, tokens: u64, time: u64, now: u64) -> u64 {
        let time = match self.age(now) < SHORTEST_AT_FIRST * self.bin {
            // With 16 tokens the estimate is off by up to 25 %; it is rounded up, because an
            // estimate below the true rate would refuse calls.
            true if tokens >= MANY => time - time / 5,
            true => time.max(SHORTEST_AT_FIRST * self.bin),
            false => time.max(SHORTEST * self.bin),
        };
        let rate = u128::from(tokens) * RATE_NANOS / u128::from(time.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Empties the bins that have begun since the newest one.
    fn advance(&mut self, now: u64) {
        let bin = now / self.bin;
        let passed = bin.saturating_sub(self.newest);
        for later in 1..=passed.min(BINS as u64) {
            if let Some(bin) = self.bins.get_mut(((self.newest + later) % BINS as u64) as usize) {
                *bin = 0;
            }
        }
        self.newest = self.newest.max(bin);
    }

    /// How much of the newest `bins` bins has passed since the meter started.
    fn time_of(&self, bins: usize, now: u64) -> u64 {
        let newest = now.saturating_sub(self.newest * self.bin);
        (newest + (bins as u64 - 1) * self.bin).min(now.saturating_sub(self.started))
    }

    /// The tokens of the newest `count` bins.
    fn newest(&self, count: usize) -> u64 {
        let place = |age: usize| (self.newest.wrapping_sub(age as u64) % BINS as u64) as usize;
        let bins = (0..count).filter_map(|age| self.bins.get(place(age)));
        bins.fold(0, |sum, bin| sum.saturating_add(*bin))
    }
}

/// How clearly the rate of the last `late_time` differs from that of all of `all_time`: the
/// squared difference of the counts over the variance that chance gives it. 0 where the counts
/// are too small to tell.
fn change(late: u64, late_time: u64, all: u64, all_time: u64) -> u64 {
    // Larger counts are scaled down to this, which is enough to see any change.
    const ENOUGH: u64 = 1 << 20;
    let scale = 1 + all / ENOUGH;
    let (late, all) = (u128::from(late / scale), u128::from(all / scale));
    let (late_time, all_time) = (u128::from(late_time), u128::from(all_time));
    // At an even rate each token falls into the late part with the probability
    // `late_time / all_time`. Both sides are multiplied by `all_time`, so that nothing is divided
    // before the end.
    let apart = (all * late_time).abs_diff(late * all_time);
    let variance = all * late_time * (all_time - late_time);
    // A difference of less than two and a half tokens says nothing.
    if variance == 0 || apart * 2 < all_time * 5 {
        return 0;
    }
    u64::try_from(apart * apart / variance).unwrap_or(u64::MAX)
}
