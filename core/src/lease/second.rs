//! What a node has given out within the last second, and the most that may be.

const SECOND: u64 = 1_000_000_000;

/// Tokens are counted in spans of an eighth of a sixteenth of a second.
const PARTS: u64 = 128;
const PART: u64 = SECOND / PARTS;

/// Those that make up a second, wherever in a part it begins.
const COUNTED: usize = PARTS as usize + 1;

/// The tokens of the last second. Those of one part count until the last of them is a second
/// old, so that no second ever holds more than it seems to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    most: u64,
    /// `newest` and those before it, at their number modulo `COUNTED`.
    parts: [Part; COUNTED],
    newest: u64,
    total: u64,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    tokens: u32,
    /// When the last of them was spent, since the part began.
    last: u32,
}

impl Second {
    pub(super) const fn empty() -> Self {
        let parts = [Part { tokens: 0, last: 0 }; COUNTED];
        Self { most: 0, parts, newest: 0, total: 0 }
    }

    /// The most tokens that it may hold.
    pub(super) const fn most(&self) -> u64 {
        self.most
    }

    pub(super) const fn allow(&mut self, most: u64) {
        self.most = most;
    }

    /// What has been spent in the second up to `now`.
    pub(super) fn spent(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.total
    }

    /// How many tokens more the second up to `now` may hold.
    pub(super) fn room(&mut self, now: u64) -> u64 {
        self.most.saturating_sub(self.spent(now))
    }

    /// How long the second before `now` is still too full for so many tokens more.
    pub(super) fn full_for(&mut self, now: u64, tokens: u64) -> u64 {
        let mut above = self.spent(now).saturating_add(tokens).saturating_sub(self.most);
        if above == 0 {
            return 0;
        }
        for number in self.oldest()..=self.newest {
            let part = self.parts[place(number)];
            above = above.saturating_sub(u64::from(part.tokens));
            if above == 0 {
                return part.ends(number).saturating_sub(now);
            }
        }
        SECOND
    }

    pub(super) fn spend(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        let part = &mut self.parts[place(self.newest)];
        let before = part.tokens;
        part.tokens = part.tokens.saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX));
        part.last = part.last.max((now.max(self.newest * PART) - self.newest * PART) as u32);
        self.total += u64::from(part.tokens - before);
    }

    fn advance(&mut self, now: u64) {
        let passed = (now / PART).saturating_sub(self.newest);
        for later in 1..=passed.min(COUNTED as u64) {
            self.forget(self.newest + later);
        }
        self.newest += passed;
        let oldest = self.oldest();
        let part = self.parts[place(oldest)];
        if part.tokens > 0 && now >= part.ends(oldest) {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, number: u64) {
        let part = &mut self.parts[place(number)];
        self.total -= u64::from(part.tokens);
        *part = Part { tokens: 0, last: 0 };
    }

    const fn oldest(&self) -> u64 {
        (self.newest + 1).saturating_sub(COUNTED as u64)
    }
}

impl Part {
    /// When its tokens are a second old.
    const fn ends(self, number: u64) -> u64 {
        number * PART + self.last as u64 + SECOND
    }
}

const fn place(part: u64) -> usize {
    (part % COUNTED as u64) as usize
}
