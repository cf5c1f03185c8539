//! Tokens taken ahead from a service that only allows or refuses, for a client that keeps no clock with it.
//!
//! [`Slice`](super::Slice) is for stores that share a rate among nodes. A [`QuotaSlice`] needs nothing
//! of the service but what Envoy's rate limit protocol has: a number of hits, and yes or no.

use crate::bounds::NANOS_PER_SECOND;

/// A key gets tokens ahead from this many tokens within a horizon on. Below, each request takes its own,
/// because tokens taken ahead would mostly lapse.
const WARM: u32 = 4;

/// A new request for tokens is due when this part of the last grant is left: a quarter.
const LOW: u32 = 4;

/// How long a refusal counts at most: 10 s, so that a bucket that is filled by hand, or a limit that is
/// raised, is noticed.
const LONGEST_DENIAL: u64 = 10 * NANOS_PER_SECOND;

/// The bounds of a [`QuotaSlice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaTerms {
    /// How long tokens may be kept, in nanoseconds.
    pub ttl: u64,
    /// The time for whose demand tokens are taken ahead, in nanoseconds.
    pub horizon: u64,
    /// How many clients share the limit, at least. One takes at most a quarter of its share ahead.
    pub clients: u32,
    /// How long the answer to a request for tokens may take, in nanoseconds. A request that is not
    /// answered by then no longer keeps another from being made.
    pub patience: u64,
}

/// One client's tokens of one shared bucket, taken ahead.
///
/// It does no I/O. Times are in nanoseconds on any monotonic clock. All zero is the empty slice of a key
/// that has not been seen. Tokens are spent only after they were granted, so the clients together never
/// spend more than the service allowed; what a client has left when its tokens lapse is lost.
///
/// ```
/// use tidegate_core::{QuotaSlice, QuotaSpend, QuotaTerms};
/// let second = 1_000_000_000;
/// let terms = QuotaTerms { ttl: second, horizon: second / 5, clients: 1, patience: second };
/// let mut slice = QuotaSlice::EMPTY;
/// // The first requests of a key ask the service themselves.
/// for _ in 0..4 {
///     assert_eq!(slice.spend(second, 1, &terms), QuotaSpend::Nothing);
/// }
/// // By now the key is worth tokens ahead: as many as the last 200 ms have used.
/// assert_eq!(slice.ask(second, 0, &terms), Some(4));
/// slice.granted(second, 4, &terms, Some(100));
/// assert_eq!(slice.spend(second, 1, &terms), QuotaSpend::Spent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSlice {
    held: u32,
    /// The tokens of the last grant.
    granted: u32,
    /// The most tokens to ask for, since more were refused; 0 if none were.
    most: u32,
    /// The service's limit; 0 if it has not told.
    limit: u32,
    /// The tokens that were asked for in the present horizon, and in the one before.
    demand: u32,
    demand_before: u32,
    /// When the present horizon began.
    since: u64,
    /// When the tokens that are held lapse.
    lapses_at: u64,
    /// Until when requests of `denied_cost` tokens or more are refused.
    denied_until: u64,
    denied_cost: u32,
    /// Whether the service has answered about the key.
    is_known: bool,
    /// Until when an answer is awaited.
    asking_until: u64,
}

/// How a [`QuotaSlice`] answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaSpend {
    /// The tokens were spent.
    Spent,
    /// The service has refused as much, and its time has not come.
    Denied {
        /// Nanoseconds until it has.
        retry_after: u64,
    },
    /// There are too few tokens: ask the service for those of this request.
    Nothing,
}

impl QuotaSlice {
    /// A slice without tokens, for a key that has not been seen.
    pub const EMPTY: Self = Self {
        held: 0,
        granted: 0,
        most: 0,
        limit: 0,
        demand: 0,
        demand_before: 0,
        since: 0,
        lapses_at: 0,
        denied_until: 0,
        denied_cost: 0,
        is_known: false,
        asking_until: 0,
    };

    /// Spends `cost` tokens at `now`, if they are there.
    pub fn spend(&mut self, now: u64, cost: u32, terms: &QuotaTerms) -> QuotaSpend {
        self.count(now, cost, terms);
        if now < self.lapses_at && self.held >= cost {
            self.held -= cost;
            return QuotaSpend::Spent;
        }
        if now < self.denied_until && cost >= self.denied_cost {
            return QuotaSpend::Denied { retry_after: self.denied_until - now };
        }
        QuotaSpend::Nothing
    }

    /// Gives back what [`spend`](Self::spend) has spent for a request that was not made after all.
    pub const fn give_back(&mut self, cost: u32) {
        self.held = self.held.saturating_add(cost);
    }

    /// The tokens to take ahead now, if any: at least `least`, and with a `least` of 0 only if the key is
    /// used so much that it is worth it, and little is left. The host asks for them, and reports the answer by
    /// [`granted`](Self::granted), [`refused`](Self::refused) or [`failed`](Self::failed); until then
    /// there is no other request.
    pub fn ask(&mut self, now: u64, least: u32, terms: &QuotaTerms) -> Option<u32> {
        if now < self.asking_until || now < self.denied_until {
            return None;
        }
        let held = if now < self.lapses_at { self.held } else { 0 };
        let demand = self.demand.max(self.demand_before);
        let is_due = demand >= WARM && (held == 0 || held <= self.granted / LOW);
        if !is_due && least == 0 {
            return None;
        }
        let mut want = demand;
        if self.limit > 0 {
            want = want.min(self.limit / 4 / terms.clients.max(1));
        }
        if self.most > 0 {
            want = want.min(self.most);
        }
        self.asking_until = now.saturating_add(terms.patience);
        Some(want.max(least).max(1))
    }

    /// Adds tokens that the service has granted at `now`. `limit` is the tokens of the limit's period, if
    /// the service tells them.
    pub const fn granted(&mut self, now: u64, tokens: u32, terms: &QuotaTerms, limit: Option<u32>) {
        let held = if now < self.lapses_at { self.held } else { 0 };
        self.held = held.saturating_add(tokens);
        self.granted = tokens;
        // More is tried again after a refusal: twice as much each time.
        self.most = self.most.saturating_mul(2);
        self.lapses_at = now.saturating_add(terms.ttl);
        self.asking_until = 0;
        self.denied_until = 0;
        self.tell_limit(limit);
    }

    /// Records that the service has refused to give `tokens` ahead at `now`, of which `remaining` were
    /// there, and that `retry_after` nanoseconds are its time to come back.
    pub fn refused(&mut self, now: u64, tokens: u32, remaining: u32, retry_after: u64) {
        self.asking_until = 0;
        if tokens > 1 {
            // Fewer may be there.
            self.most = remaining.clamp(1, (tokens / 2).max(1));
        } else {
            self.deny(now, 1, retry_after);
        }
    }

    /// Records that the service has refused a request of `cost` tokens for `retry_after` nanoseconds.
    /// Requests of fewer tokens may still be allowed.
    pub fn deny(&mut self, now: u64, cost: u32, retry_after: u64) {
        let until = now.saturating_add(retry_after.min(LONGEST_DENIAL));
        if now >= self.denied_until || cost <= self.denied_cost {
            (self.denied_until, self.denied_cost) = (until, cost);
        }
    }

    /// Records that the request for tokens has failed.
    pub const fn failed(&mut self) {
        self.asking_until = 0;
    }

    /// Whether the service has answered about the key, so that the host need not guess whether it would allow
    /// a request. What passes before the first answer may exceed the limit.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Records that the service has answered about the key, and the limit, if it tells it.
    pub const fn tell_limit(&mut self, limit: Option<u32>) {
        self.is_known = true;
        if let Some(limit) = limit {
            self.limit = limit;
        }
    }

    /// The service's limit, in tokens of its period; `None` while it is not known.
    pub const fn limit(&self) -> Option<u32> {
        if self.limit > 0 { Some(self.limit) } else { None }
    }

    /// The tokens that can be spent at `now`.
    pub const fn held(&self, now: u64) -> u32 {
        if now < self.lapses_at { self.held } else { 0 }
    }

    /// When the slice contains nothing any more: no tokens, no denial and no demand.
    pub fn empty_at(&self, terms: &QuotaTerms) -> u64 {
        let demand = self.since.saturating_add(2 * terms.horizon);
        let lapses = if self.held > 0 { self.lapses_at } else { 0 };
        lapses.max(self.denied_until).max(demand).max(self.asking_until)
    }

    /// Counts what is asked for.
    fn count(&mut self, now: u64, cost: u32, terms: &QuotaTerms) {
        let age = now.saturating_sub(self.since);
        if age >= terms.horizon {
            self.demand_before = if age < 2 * terms.horizon { self.demand } else { 0 };
            self.demand = 0;
            self.since = now;
        }
        self.demand = self.demand.saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    const TERMS: QuotaTerms =
        QuotaTerms { ttl: 1000 * MILLI, horizon: 200 * MILLI, clients: 2, patience: 500 * MILLI };

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    /// Spends once each millisecond from `from` on; answers what was spent, asked and granted.
    fn steady(slice: &mut QuotaSlice, from: u64, requests: u64, limit: Option<u32>) -> (u64, u64) {
        let (mut spent, mut calls) = (0, 0);
        for step in 0..requests {
            let now = from + step * MILLI;
            spent += u64::from(slice.spend(now, 1, &TERMS) == QuotaSpend::Spent);
            if let Some(want) = slice.ask(now, 0, &TERMS) {
                calls += 1;
                slice.granted(now, want, &TERMS, limit);
            }
        }
        (spent, calls)
    }

    #[test]
    fn a_steady_key_needs_one_call_in_a_hundred_requests_and_never_waits() {
        let mut slice = QuotaSlice::EMPTY;
        steady(&mut slice, 0, 1000, Some(100_000));
        let (spent, calls) = steady(&mut slice, 1000 * MILLI, 10_000, Some(100_000));
        assert_eq!(spent, 10_000);
        assert!(calls <= 100, "{calls}");
    }

    #[test]
    fn a_slow_key_takes_nothing_ahead() {
        let mut slice = QuotaSlice::EMPTY;
        for second in 0..100 {
            let now = second * 1000 * MILLI;
            assert_eq!(slice.spend(now, 1, &TERMS), QuotaSpend::Nothing);
            assert_eq!(slice.ask(now, 0, &TERMS), None);
        }
    }

    #[test]
    fn a_client_takes_at_most_a_quarter_of_its_share_ahead() {
        let mut slice = QuotaSlice::EMPTY;
        slice.spend(0, 1_000_000, &TERMS);
        assert!(!slice.is_known());
        slice.tell_limit(Some(800));
        assert!(slice.is_known());
        assert_eq!(slice.ask(0, 0, &TERMS), Some(100));
    }

    #[test]
    fn a_refused_request_for_many_tokens_is_made_for_fewer_before_anybody_is_refused() {
        let mut slice = QuotaSlice::EMPTY;
        slice.spend(0, 100, &TERMS);
        assert_eq!(slice.ask(0, 0, &TERMS), Some(100));
        slice.refused(0, 100, 7, 300 * MILLI);
        assert_eq!(slice.spend(0, 1, &TERMS), QuotaSpend::Nothing);
        assert_eq!(slice.ask(0, 0, &TERMS), Some(7));
        slice.granted(0, 7, &TERMS, None);
        assert_eq!(slice.spend(0, 7, &TERMS), QuotaSpend::Spent);
        assert_eq!(slice.ask(0, 0, &TERMS), Some(14));
        slice.refused(0, 14, 0, 300 * MILLI);
        assert_eq!(slice.ask(0, 0, &TERMS), Some(1));
        slice.refused(0, 1, 0, 300 * MILLI);
        let denied = |slice: &mut QuotaSlice, now| slice.spend(now, 1, &TERMS);
        assert_eq!(denied(&mut slice, 100), QuotaSpend::Denied { retry_after: 300 * MILLI - 100 });
        assert_eq!(slice.ask(100, 0, &TERMS), None);
        assert_eq!(denied(&mut slice, 300 * MILLI), QuotaSpend::Nothing);
        // A refusal of a large request refuses no small one.
        slice.deny(400 * MILLI, 50, 300 * MILLI);
        assert_eq!(slice.spend(401 * MILLI, 49, &TERMS), QuotaSpend::Nothing);
        assert!(matches!(slice.spend(401 * MILLI, 50, &TERMS), QuotaSpend::Denied { .. }));
        // No refusal counts for ever.
        let mut slice = QuotaSlice::EMPTY;
        slice.deny(0, 1, u64::MAX);
        assert_eq!(denied(&mut slice, LONGEST_DENIAL), QuotaSpend::Nothing);
    }

    #[test]
    fn one_request_is_made_at_a_time_until_patience_ends() {
        let mut slice = QuotaSlice::EMPTY;
        slice.spend(0, 10, &TERMS);
        assert_eq!(slice.ask(0, 0, &TERMS), Some(10));
        assert_eq!(slice.ask(TERMS.patience - 1, 0, &TERMS), None);
        assert_eq!(slice.ask(TERMS.patience, 0, &TERMS), Some(10));
        slice.failed();
        assert_eq!(slice.ask(TERMS.patience, 0, &TERMS), Some(10));
        // A key that is not worth it may be given what one request needs.
        let mut slice = QuotaSlice::EMPTY;
        slice.spend(0, 2, &TERMS);
        assert_eq!((slice.ask(0, 0, &TERMS), slice.ask(0, 3, &TERMS)), (None, Some(3)));
    }

    /// Any sequence of calls spends at most what was granted, no token after its time, and asks for
    /// at least one token.
    #[test]
    fn no_token_is_spent_that_was_not_granted_or_has_lapsed() {
        for seed in 0..300 {
            let mut random = Random(seed);
            let mut slice = QuotaSlice::EMPTY;
            let (mut now, mut asked) = (0, None);
            let (mut granted, mut spent) = (0_u64, 0_u64);
            let mut last_grant = None;
            for _ in 0..2_000 {
                now += random.below(50 * MILLI);
                let cost = 1 + random.below(5) as u32;
                match slice.spend(now, cost, &TERMS) {
                    QuotaSpend::Spent => {
                        spent += u64::from(cost);
                        assert!(last_grant.is_some_and(|at| now < at + TERMS.ttl), "{seed}");
                    }
                    QuotaSpend::Denied { retry_after } => {
                        assert!((1..=LONGEST_DENIAL).contains(&retry_after), "{seed}");
                    }
                    QuotaSpend::Nothing => {}
                }
                assert!(spent <= granted, "{seed}");
                if let Some(want) = slice.ask(now, 0, &TERMS) {
                    assert!(want >= 1 && slice.ask(now, 0, &TERMS).is_none(), "{seed}");
                    asked = Some(want);
                }
                let Some(want) = asked.filter(|_| random.below(3) > 0) else { continue };
                asked = None;
                match random.below(6) {
                    0 => slice.failed(),
                    1 => {
                        slice.refused(now, want, random.below(4) as u32, random.below(400) * MILLI)
                    }
                    2 => slice.deny(now, cost, random.below(400) * MILLI),
                    _ => {
                        slice.granted(now, want, &TERMS, Some(1 + random.below(9_000) as u32));
                        granted += u64::from(want);
                        last_grant = Some(now);
                    }
                }
            }
            assert!(granted > 0, "{seed}");
        }
    }
}
