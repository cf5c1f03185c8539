//! How much a node is asked for: averaged over a ttl, unless it has changed since.

use super::RATE_NANOS;

const BINS: usize = 32;
const BINS_PER_TTL: u64 = 16;

/// The fewest bins that a rate is taken over, so that two early tokens are no flood.
const SHORTEST: u64 = 2;
const SHORTEST_AT_FIRST: u64 = 4;

/// So many early tokens are.
pub(super) const MANY: u64 = 16;

/// A change counts as one when it is this many times the variance that arrivals by chance
/// have: 4.6 % of the times it is none.
const CERTAIN: u64 = 4;

/// The tokens that were asked for, granted or refused, over the last ttl.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// Of the bin that is being filled, at `newest % BINS`, and those before it.
    bins: [u64; BINS],
    newest: u64,
    bin: u64,
    started: u64,
    last: u64,
}

impl Demand {
    pub(super) const fn starting(now: u64, ttl: u64) -> Self {
        let bin = ttl / BINS_PER_TTL;
        Self { bins: [0; BINS], newest: now / bin, bin, started: now, last: now }
    }

    pub(super) fn offer(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        self.last = now;
        if let Some(bin) = self.bins.get_mut((self.newest % BINS as u64) as usize) {
            *bin = bin.saturating_add(tokens);
        }
    }

    /// The tokens of the last ttl.
    pub(super) fn total(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.bins.iter().fold(0, |sum, bin| sum.saturating_add(*bin))
    }

    /// How long it has been watched.
    pub(super) const fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.started)
    }

    /// When anything was asked for last.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// The rate since it last changed beyond chance, at most over a ttl.
    pub(super) fn rate(&mut self, now: u64) -> u64 {
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
        self.per_second(tokens, time, now)
    }

    /// The rate over the last ttl, changes and all.
    pub(super) fn average(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.per_second(self.newest(BINS), self.time_of(BINS, now), now)
    }

    fn per_second(&self, tokens: u64, time: u64, now: u64) -> u64 {
        let time = match self.age(now) < SHORTEST_AT_FIRST * self.bin {
            // So few tell the rate to within a quarter, and less than it would be refused.
            true if tokens >= MANY => time - time / 5,
            true => time.max(SHORTEST_AT_FIRST * self.bin),
            false => time.max(SHORTEST * self.bin),
        };
        let rate = u128::from(tokens) * RATE_NANOS / u128::from(time.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

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

    /// How much of the newest bins has been observed.
    fn time_of(&self, bins: usize, now: u64) -> u64 {
        let newest = now.saturating_sub(self.newest * self.bin);
        (newest + (bins as u64 - 1) * self.bin).min(now.saturating_sub(self.started))
    }

    /// The tokens of the newest bins.
    fn newest(&self, count: usize) -> u64 {
        let place = |age: usize| (self.newest.wrapping_sub(age as u64) % BINS as u64) as usize;
        let bins = (0..count).filter_map(|age| self.bins.get(place(age)));
        bins.fold(0, |sum, bin| sum.saturating_add(*bin))
    }
}

/// How clearly the rate of the last `late_time` differs from that before, within `all_time`:
/// how many times the variance of chance it is.
fn change(late: u64, late_time: u64, all: u64, all_time: u64) -> u64 {
    // More tokens than this make no change any clearer.
    const ENOUGH: u64 = 1 << 20;
    let scale = 1 + all / ENOUGH;
    let (late, all) = (u128::from(late / scale), u128::from(all / scale));
    let (late_time, all_time) = (u128::from(late_time), u128::from(all_time));
    // The late tokens of all of them are drawn with the chance `late_time / all_time`; in
    // units of tokens times time, so that nothing is divided yet.
    let apart = (all * late_time).abs_diff(late * all_time);
    let variance = all * late_time * (all_time - late_time);
    // Of nearly nothing, two more are no surprise.
    if variance == 0 || apart * 2 < all_time * 5 {
        return 0;
    }
    u64::try_from(apart * apart / variance).unwrap_or(u64::MAX)
}
