//! The limits that a response tells about, each with its window.

use super::SECOND;
use super::fields::{Number, Time, divide_up, time_at_rate};

/// Times that a response gives for one thing, each with the name that it was read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times<'a> {
    after: Option<(u64, &'a str)>,
    at: Option<(u64, &'a str)>,
}

impl<'a> Times<'a> {
    pub(super) const fn none() -> Self {
        Self { after: None, at: None }
    }

    /// Adds a time. Of several of one form the latest counts.
    pub(super) fn add(&mut self, time: Time, source: &'a str) {
        let (known, nanos) = match time {
            Time::After(nanos) => (&mut self.after, nanos),
            Time::At(nanos) => (&mut self.at, nanos),
        };
        if known.is_none_or(|(earlier, _)| earlier < nanos) {
            *known = Some((nanos, source));
        }
    }

    /// The time from `now` on, and its source. A duration goes before a point in time, because the
    /// latter is as exact as a clock.
    pub(super) fn resolve(&self, now: u64, age: u64) -> Option<(u64, &'a str)> {
        match (self.after, self.at) {
            (Some((nanos, source)), _) => Some((nanos.saturating_sub(age), source)),
            (None, Some((nanos, source))) => Some((nanos.saturating_sub(now), source)),
            (None, None) => None,
        }
    }
}

/// Where a window was read from; the first is the most trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Standard,
    Profile,
    Usual,
}

/// The lengths in seconds that names of limits tell.
const NAMED_LENGTHS: [(&str, u64); 5] =
    [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400), ("month", 2_592_000)];

/// One limit of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) rank: Rank,
    pub(super) name: &'a [u8],
    pub(super) limit: Option<u64>,
    pub(super) remaining: Option<u64>,
    /// The length, in nanoseconds.
    length: Option<u64>,
    pub(super) reset: Times<'a>,
    pub(super) cost: Option<u64>,
    pub(super) restore_rate: Option<u64>,
    /// The name that what is left was read from.
    pub(super) source: &'a str,
}

impl<'a> Window<'a> {
    pub(super) fn add_limit(&mut self, limit: u64, length: Option<u64>) {
        match self.limit {
            Some(known) if known < limit => {}
            Some(known) if known == limit => self.length = length.or(self.length),
            _ => {
                self.limit = Some(limit);
                self.length = length.or(self.length);
            }
        }
    }

    pub(super) fn add_remaining(&mut self, remaining: u64, source: &'a str) {
        if self.remaining.is_none_or(|known| remaining < known) {
            self.remaining = Some(remaining);
            self.source = source;
        }
    }

    pub(super) fn add_length(&mut self, length: u64) {
        self.length = self.length.max(Some(length));
    }

    /// Adds what is used, which is less of the limit that is left.
    pub(super) fn add_used(&mut self, used: Number<'_>, limit: Number<'_>, source: &'a str) {
        self.add_limit(limit.floor(), None);
        self.add_remaining(limit.floor().saturating_sub(used.floor()), source);
    }

    /// What is left; never more than the limit.
    pub(super) fn left(&self) -> Option<u64> {
        Some(self.remaining?.min(self.limit.unwrap_or(u64::MAX)))
    }

    /// The length in nanoseconds, perhaps by the name.
    pub(super) fn length(&self) -> Option<u64> {
        let by_name = || {
            let is_it = |named: &&(&str, u64)| named.0.as_bytes().eq_ignore_ascii_case(self.name);
            let (_, seconds) = NAMED_LENGTHS.iter().find(is_it)?;
            (self.rank != Rank::Standard).then_some(seconds * SECOND)
        };
        self.length.or_else(by_name)
    }

    /// The time until the reset, and where it was read from.
    pub(super) fn reset(&self, now: u64) -> Option<(u64, &'a str)> {
        if let Some((reset, source)) = self.reset.resolve(now, 0) {
            // The standard allows a reset after the window's end, which says nothing.
            let most = self.length.filter(|_| self.rank == Rank::Standard).unwrap_or(u64::MAX);
            return Some((reset.min(most), source));
        }
        let missing = self.limit?.saturating_sub(self.left()?);
        let rate = self.restore_rate.filter(|&rate| rate > 0)?;
        Some((time_at_rate(missing, rate), self.source))
    }

    /// Whether nothing is left, or less than the call costs.
    pub(super) fn is_spent(&self) -> bool {
        self.left().is_some_and(|left| left < self.needed())
    }

    /// The time until a call may be made, if the response tells: that of the reset, of one token's
    /// share of it if the limit refills evenly, or of the missing points at the restore rate.
    pub(super) fn wait(&self, now: u64, refills: bool) -> Option<(u64, &'a str)> {
        let rate = self.restore_rate.filter(|&rate| rate > 0);
        if let (Some(rate), Some(left)) = (rate, self.left()) {
            return Some((time_at_rate(self.needed().saturating_sub(left), rate), self.source));
        }
        let (reset, source) = self.reset(now)?;
        let limit = self.limit.filter(|_| refills).unwrap_or(1);
        Some((divide_up(u128::from(reset), limit), source))
    }

    fn needed(&self) -> u64 {
        self.cost.unwrap_or(1).max(1)
    }
}

/// The limits of a response. Those beyond the first eight are ignored, so that no response takes more
/// memory or time.
#[derive(Clone, Debug)]
pub(super) struct Windows<'a>([Option<Window<'a>>; 8]);

impl<'a> Windows<'a> {
    pub(super) const fn new() -> Self {
        Self([None; 8])
    }

    /// The window of this name, which may be new; `None` if there is no room.
    pub(super) fn entry(&mut self, rank: Rank, name: &'a [u8]) -> Option<&mut Window<'a>> {
        let is_it = |place: &Option<Window<'_>>| {
            place.as_ref().is_none_or(|it| it.rank == rank && it.name.eq_ignore_ascii_case(name))
        };
        let place = self.0.iter_mut().find(|place| is_it(place))?;
        Some(place.get_or_insert(Window {
            rank,
            name,
            limit: None,
            remaining: None,
            length: None,
            reset: Times::none(),
            cost: None,
            restore_rate: None,
            source: "",
        }))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Window<'a>> {
        self.0.iter().flatten()
    }

    /// The windows of the most trusted rank that says what is left or when.
    pub(super) fn best(&self) -> impl Iterator<Item = &Window<'a>> {
        let says = |window: &&Window<'_>, now: u64| {
            window.remaining.is_some() || window.reset(now).is_some()
        };
        let rank = self.iter().filter(|it| says(it, 0)).map(|window| window.rank).min();
        let rank = rank.or_else(|| self.iter().map(|window| window.rank).min());
        self.iter().filter(move |window| Some(window.rank) == rank)
    }

    /// The window that binds: one that the response names as broken, a spent one with the latest
    /// reset, or the one with the smallest share left.
    pub(super) fn binding(&self, now: u64, violated: &[u8]) -> Option<&Window<'a>> {
        let is_named = |window: &Window<'_>| {
            !violated.is_empty() && window.name.eq_ignore_ascii_case(violated)
        };
        let mut binding: Option<&Window<'_>> = None;
        for window in self.best() {
            let Some(known) = binding else {
                binding = Some(window);
                continue;
            };
            let key = |it: &Window<'_>| (is_named(it), it.is_spent());
            let is_tighter = match key(window).cmp(&key(known)) {
                core::cmp::Ordering::Equal if window.is_spent() => {
                    let reset = |it: &Window<'_>| it.reset(now).map(|(nanos, _)| nanos);
                    reset(window) > reset(known)
                }
                core::cmp::Ordering::Equal => has_smaller_share(window, known),
                different => different.is_gt(),
            };
            if is_tighter {
                binding = Some(window);
            }
        }
        binding
    }

    /// The length of this window, perhaps by a policy that has the same limit and says nothing else.
    pub(super) fn length_of(&self, window: &Window<'a>) -> Option<u64> {
        let is_policy = |it: &&Window<'_>| {
            it.remaining.is_none() && it.limit == window.limit && it.limit.is_some()
        };
        let by_policy = || self.iter().filter(is_policy).find_map(|policy| policy.length);
        window.length().or_else(by_policy)
    }
}

/// Whether a smaller share of the limit is left. A window that does not say has all of it.
fn has_smaller_share(window: &Window<'_>, other: &Window<'_>) -> bool {
    let share = |it: &Window<'_>| match (it.left(), it.limit) {
        (Some(left), Some(limit)) => (u128::from(left), u128::from(limit.max(1))),
        _ => (1, 1),
    };
    let ((left, limit), (other_left, other_limit)) = (share(window), share(other));
    left * other_limit < other_left * limit
}
