//! What a slice has given out within the last second, token by token.

use super::grant::{Grant, Part};

const SECOND: u64 = 1_000_000_000;

/// Larger shares are not counted: of those one token more or less is no matter.
const COUNTED: usize = 128;

/// When the last tokens were spent, and how many any second may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    most: usize,
    /// What it was before the node itself came to want less, and when: what was spent before
    /// that, was by right.
    most_before: usize,
    shrunk: u64,
    /// The next token overwrites that of `oldest`.
    spent: [u64; COUNTED],
    oldest: usize,
}

impl Second {
    pub(super) const fn empty() -> Self {
        Self { most: 0, most_before: 0, shrunk: 0, spent: [0; COUNTED], oldest: 0 }
    }

    pub(super) fn change_most(&mut self, now: u64, grant: &Grant) {
        let most = usize::try_from(grant.most).unwrap_or(usize::MAX);
        // Where others take over, what was spent above the new share counts against them.
        if grant.part == Part::Whole && most < self.most / 4 * 3 {
            (self.most_before, self.shrunk) = (self.most, now);
        }
        self.most = most;
    }

    /// Whether so many tokens fit into a second at all.
    pub(super) fn holds(&self, tokens: u64) -> bool {
        self.most == 0 || self.most > COUNTED || tokens <= self.most as u64
    }

    /// How long the second before `now` is still too full for so many tokens more.
    pub(super) fn full_for(&self, now: u64, tokens: u64) -> u64 {
        let is_new = now < self.shrunk.saturating_add(SECOND);
        let most = if is_new { self.most.max(self.most_before) } else { self.most };
        if most == 0 || most > COUNTED {
            return 0;
        }
        // The latest of the tokens that must be a second old, counted back from the newest.
        let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
        let back = (most + 1).saturating_sub(tokens).max(1);
        let place = (self.oldest + COUNTED - back) % COUNTED;
        match self.spent.get(place) {
            Some(&at) if at > 0 => at.saturating_add(SECOND).saturating_sub(now),
            _ => 0,
        }
    }

    pub(super) fn spend(&mut self, now: u64, tokens: u64) {
        for _ in 0..tokens.min(COUNTED as u64) {
            if let Some(at) = self.spent.get_mut(self.oldest) {
                *at = now;
            }
            self.oldest = (self.oldest + 1) % COUNTED;
        }
    }
}
