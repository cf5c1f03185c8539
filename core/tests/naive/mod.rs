//! A naive bucket that is easy to read, for tests and for the fuzz targets.
#![allow(unreachable_pub, dead_code, reason = "shared by several tests, which have no outside")]

use tidegate_core::{Limit, Shape};

/// A bucket as a level of tokens that refills and is drawn from. The level is a whole number,
/// because it is counted in nanoseconds of refill (smooth) or in tokens (stepped).
pub struct NaiveBucket {
    limit: Limit,
    level: i128,
    seen: u64,
}

impl NaiveBucket {
    pub fn full(limit: Limit) -> Self {
        let mut bucket = Self { limit, level: 0, seen: 0 };
        bucket.level = bucket.size();
        bucket
    }

    /// Draws the cost if the level allows it, and answers whether it did.
    pub fn spend(&mut self, now: u64, cost: u64) -> bool {
        let allowed = self.can_spend(now, cost);
        if allowed && cost > 0 {
            (self.level, self.seen) = (self.level(now) - self.charge(cost), now);
        }
        allowed
    }

    pub fn can_spend(&self, now: u64, cost: u64) -> bool {
        cost == 0 || self.fits(now, cost) && self.level(now) >= self.charge(cost)
    }

    /// Whole tokens that can be drawn at once.
    pub fn remaining(&self, now: u64) -> i128 {
        self.level(now).max(0) / self.width()
    }

    /// The shortest wait until the cost can be drawn; `None` past the end of the timeline.
    pub fn retry_after(&self, now: u64, cost: u64) -> Option<i128> {
        if self.can_spend(now, cost) {
            return Some(0);
        }
        self.fits(now, cost).then(|| self.wait_for(now, self.charge(cost)))
    }

    /// The time until the bucket is full.
    pub fn reset_after(&self, now: u64) -> i128 {
        self.wait_for(now, self.size())
    }

    /// The level at `now`. After the clock stepped back it is lower by the refill since.
    fn level(&self, now: u64) -> i128 {
        (self.level + self.position(now) - self.position(self.seen)).min(self.size())
    }

    fn wait_for(&self, now: u64, level: i128) -> i128 {
        let missing = level - self.level(now);
        let (now, tokens) = (i128::from(now), i128::from(self.limit.tokens()));
        let period = i128::from(self.limit.period());
        match self.limit.shape() {
            _ if missing <= 0 => 0,
            Shape::Smooth => missing,
            Shape::Stepped => {
                let steps = (missing + tokens - 1) / tokens;
                (now / period + steps) * period - now
            }
        }
    }

    /// Whether the cost could be drawn at all: a charge that is paid back only past 2^64 ns is
    /// refused.
    fn fits(&self, now: u64, cost: u64) -> bool {
        let debt = self.size() - self.level(now);
        self.position(now) + debt + self.charge(cost) <= i128::from(u64::MAX)
    }

    /// Everything that has flowed in since time 0.
    fn position(&self, now: u64) -> i128 {
        match self.limit.shape() {
            Shape::Smooth => i128::from(now),
            Shape::Stepped => {
                i128::from(now / self.limit.period()) * i128::from(self.limit.tokens())
            }
        }
    }

    fn width(&self) -> i128 {
        match self.limit.shape() {
            Shape::Smooth => i128::from(self.limit.period().div_ceil(self.limit.tokens())),
            Shape::Stepped => 1,
        }
    }

    fn charge(&self, cost: u64) -> i128 {
        i128::from(cost) * self.width()
    }

    fn size(&self) -> i128 {
        self.charge(self.limit.burst())
    }
}
