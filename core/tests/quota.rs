//! Quotas that are spent elsewhere: simulated proxies with token buckets of their own share one limit.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use tidegate_core::{
    Cells, Grant, LeaseError, LeaseTerms, LeasedBucket, Limit, NodeRecord, Quota, QuotaMember,
    QuotaReport, RefillRate, ShareKind, grant_lease,
};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const START: u64 = 1_764_000_000 * SECOND;

/// Envoy's token bucket: it fills continuously, and starts with the same part of its tokens, rounded
/// down to whole ones, when it is configured anew.
#[derive(Default)]
struct Proxy {
    quota: Option<Quota>,
    until: u64,
    tokens: f64,
    filled_at: u64,
    next_request: u64,
    allowed: u64,
    denied: u64,
    reported_at: u64,
    admitted: VecDeque<u64>,
}

impl Proxy {
    fn take(&mut self, now: u64) {
        let allowed = match self.quota {
            _ if now >= self.until => true,
            None => true,
            Some(Quota::Nothing) => false,
            Some(Quota::Bucket { max_tokens, refill }) => {
                let since = (now - self.filled_at) as f64 / SECOND as f64;
                let rate = f64::from(refill.tokens) / f64::from(refill.seconds);
                self.tokens = (self.tokens + since * rate).min(f64::from(max_tokens));
                self.filled_at = now;
                self.tokens >= 1.0
            }
        };
        if !allowed {
            self.denied += 1;
            return;
        }
        self.tokens -= 1.0;
        self.allowed += 1;
        self.admitted.push_back(now);
    }

    fn assign(&mut self, now: u64, quota: Quota, seconds: u64) {
        let lapsed = now >= self.until;
        self.until = now + seconds * SECOND;
        if self.quota == Some(quota) && !lapsed {
            return;
        }
        let whole = |quota: Option<Quota>| match quota {
            Some(Quota::Bucket { max_tokens, .. }) => f64::from(max_tokens),
            _ => 0.0,
        };
        let ratio = match self.quota {
            Some(Quota::Bucket { .. }) if !lapsed => (self.tokens / whole(self.quota)).max(0.0),
            _ => 1.0,
        };
        self.tokens = (whole(Some(quota)) * ratio).floor();
        self.filled_at = now;
        self.quota = Some(quota);
    }
}

struct Fleet {
    limits: Vec<Limit>,
    terms: LeaseTerms,
    interval: u64,
    cells: Cells,
    records: BTreeMap<usize, (u64, NodeRecord)>,
    members: Vec<Option<QuotaMember>>,
    proxies: Vec<Proxy>,
    calls: u64,
    random: u64,
}

impl Fleet {
    fn new(limit: &str, ttl: u64, interval: u64, count: usize) -> Self {
        let limits = vec![Limit::parse(limit).unwrap()];
        let terms = LeaseTerms::for_quotas(&limits, ttl).unwrap();
        Self {
            limits,
            terms,
            interval,
            cells: Cells::default(),
            records: BTreeMap::new(),
            members: vec![None; count],
            proxies: (0..count).map(|_| Proxy::default()).collect(),
            calls: 0,
            random: 7,
        }
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random >> 33
    }

    /// Runs until `end`, with these requests per second of each proxy.
    fn run(&mut self, now: &mut u64, seconds: u64, demands: &[u64], jitter: bool) {
        let end = *now + seconds * SECOND;
        for (proxy, demand) in self.proxies.iter_mut().zip(demands) {
            proxy.next_request = if *demand == 0 { u64::MAX } else { *now + SECOND / demand };
        }
        while *now < end {
            *now += MILLI;
            for (place, demand) in demands.iter().enumerate() {
                while self.proxies[place].next_request <= *now {
                    let gap = SECOND / demand;
                    let gap =
                        if jitter { gap * 4 / 5 + self.random() % (gap * 2 / 5 + 1) } else { gap };
                    self.proxies[place].next_request += gap;
                    self.proxies[place].take(*now);
                    if self.members[place].is_none() {
                        self.report(place, *now, 0);
                    }
                }
                let since = *now - self.proxies[place].reported_at;
                if self.members[place].is_some() && since >= self.interval {
                    // As Envoy does: in whole seconds.
                    self.report(place, *now, since / SECOND * SECOND);
                }
                if (*now / MILLI).is_multiple_of(150) {
                    self.ask_if_due(place, *now);
                }
            }
        }
    }

    fn report(&mut self, place: usize, now: u64, elapsed: u64) {
        let proxy = &mut self.proxies[place];
        proxy.reported_at = now;
        let report = QuotaReport { allowed: proxy.allowed, denied: proxy.denied, elapsed };
        (proxy.allowed, proxy.denied) = (0, 0);
        match &mut self.members[place] {
            Some(member) => member.report(now, &report),
            none => *none = Some(QuotaMember::new(self.terms, now, &report)),
        }
        self.ask_if_due(place, now);
    }

    fn ask_if_due(&mut self, place: usize, now: u64) {
        if self.members[place].is_some_and(|member| member.is_due(now)) {
            self.ask(place, now);
            let member = self.members[place].unwrap();
            if member.needs_others() {
                for other in 0..self.members.len() {
                    if other != place && self.members[other].is_some() {
                        self.ask(other, now);
                    }
                }
                self.ask(place, now);
            } else if member.has_shrunk() {
                for other in 0..self.members.len() {
                    if other != place && self.members[other].is_some_and(|it| it.is_short()) {
                        self.ask(other, now);
                    }
                }
            }
        }
    }

    fn ask(&mut self, place: usize, now: u64) {
        for _ in 0..2 {
            let member = self.members[place].as_mut().unwrap();
            let ask = member.ask(now);
            self.records.retain(|_, (until, _)| *until > now);
            let others: Vec<_> =
                self.records.iter().filter(|(id, _)| **id != place).map(|(_, it)| it.1).collect();
            let bucket =
                LeasedBucket { limits: &self.limits, cells: &mut self.cells, others: &others };
            let (grant, record) = grant_lease(bucket, &self.terms, now, &ask).unwrap();
            self.calls += 1;
            self.records.insert(place, (now + self.terms.ttl(), record));
            let quota = member.granted(now, &grant);
            let seconds = member.seconds_left(now);
            self.proxies[place].assign(now, quota, seconds);
            if !member.has_surplus(now) {
                break;
            }
        }
    }

    /// The most requests that any sliding second after `from` has admitted.
    fn busiest_second(&self, from: u64) -> usize {
        let mut all: Vec<u64> = self.proxies.iter().flat_map(|it| it.admitted.clone()).collect();
        all.retain(|time| *time >= from);
        all.sort_unstable();
        (0..all.len())
            .map(|first| all[first..].partition_point(|time| *time < all[first] + SECOND))
            .max()
            .unwrap_or(0)
    }

    /// The requests per second that each proxy has admitted from one time to another.
    fn rates(&self, from: u64, until: u64) -> Vec<f64> {
        let seconds = (until - from) as f64 / SECOND as f64;
        let within = |proxy: &Proxy| {
            proxy.admitted.iter().filter(|time| (from..until).contains(time)).count() as f64
        };
        self.proxies.iter().map(|proxy| within(proxy) / seconds).collect()
    }
}

fn share_of(rate: f64, of: f64) -> bool {
    (rate - of).abs() <= of * 0.05
}

#[test]
fn two_uneven_proxies_get_their_max_min_shares_of_one_limit() {
    for (limit, demands, shares) in [
        ("200/s", [60, 500], [60.0, 140.0]),
        ("200/s", [500, 500], [100.0, 100.0]),
        ("200/s", [150, 70], [130.0, 70.0]),
        ("1000/s", [2000, 300], [700.0, 300.0]),
        ("100/s", [30, 300], [30.0, 70.0]),
    ] {
        let mut fleet = Fleet::new(limit, 3 * SECOND, SECOND / 2, 2);
        let mut now = START;
        fleet.run(&mut now, 4, &demands, true);
        let steady = now;
        fleet.run(&mut now, 20, &demands, true);
        let rates = fleet.rates(steady, now);
        let whole = shares[0] + shares[1];
        let used = rates[0] + rates[1];
        let busiest = fleet.busiest_second(START) as f64;
        let at = format!("{limit} {demands:?}: {rates:?}, used {used}, busiest {busiest}");
        assert!(busiest <= whole * 1.05, "{at}");
        assert!(used >= whole * 0.95, "{at}");
        assert!(share_of(rates[0], shares[0]) && share_of(rates[1], shares[1]), "{at}");
        assert!(fleet.calls <= 24 * 10, "{} calls", fleet.calls);
    }
}

#[test]
fn ten_uneven_proxies_share_a_thousand_per_second() {
    let demands = [10, 20, 40, 80, 160, 320, 320, 640, 640, 640];
    let mut fleet = Fleet::new("1000/s", 3 * SECOND, SECOND / 2, 10);
    let mut now = START;
    fleet.run(&mut now, 4, &demands, true);
    let steady = now;
    fleet.run(&mut now, 20, &demands, true);
    let rates = fleet.rates(steady, now);
    let used: f64 = rates.iter().sum();
    let busiest = fleet.busiest_second(START + SECOND);
    let at = format!("{rates:?}, used {used}, busiest {busiest}");
    assert!(busiest <= 1050 && used >= 950.0, "{at}");
    for (rate, demand) in rates.iter().zip(demands) {
        // 150 are wanted by four of them; the other six share what is left.
        let share = f64::from(u16::try_from(demand).unwrap()).min(850.0 / 6.0);
        assert!((rate - share).abs() <= share * 0.05 + 1.0, "{at}");
    }
}

#[test]
fn demand_that_moves_to_one_proxy_is_met_within_a_ttl() {
    let mut fleet = Fleet::new("200/s", 3 * SECOND, SECOND / 2, 2);
    let mut now = START;
    fleet.run(&mut now, 5, &[500, 100], false);
    fleet.run(&mut now, 3, &[0, 500], false);
    let moved = now;
    fleet.run(&mut now, 5, &[0, 500], false);
    let rates = fleet.rates(moved, now);
    assert!(rates[1] >= 190.0 && fleet.busiest_second(START) <= 210, "{rates:?}");
}

#[test]
fn slow_limits_are_given_in_long_intervals_and_are_kept() {
    for (limit, most_in_a_minute) in [("30/min", 34), ("5/min", 12), ("1/s", 66)] {
        let mut fleet = Fleet::new(limit, 3 * SECOND, SECOND / 2, 2);
        let mut now = START;
        fleet.run(&mut now, 60, &[20, 20], false);
        let from = now;
        fleet.run(&mut now, 60, &[20, 20], false);
        let used: f64 = fleet.rates(from, now).iter().sum::<f64>() * 60.0;
        assert!((1.0..=f64::from(most_in_a_minute)).contains(&used), "{limit}: {used} in a minute");
    }
    let daily = [Limit::parse("10/h").unwrap()];
    assert_eq!(LeaseTerms::for_quotas(&daily, 3 * SECOND), Err(LeaseError::TooSlow));
    for ttl in [0, SECOND, 2 * SECOND + 1, 61 * SECOND] {
        assert_eq!(LeaseTerms::for_quotas(&daily, ttl), Err(LeaseError::QuotaTtl));
    }
}

#[test]
fn a_first_report_gets_a_fair_share_and_a_bad_one_hurts_nobody() {
    let limits = [Limit::parse("100/s").unwrap()];
    let terms = LeaseTerms::for_quotas(&limits, 3 * SECOND).unwrap();
    for first in [
        QuotaReport { allowed: 1, denied: 0, elapsed: 0 },
        QuotaReport { allowed: u64::MAX, denied: u64::MAX, elapsed: u64::MAX },
        QuotaReport { allowed: u64::MAX, denied: 0, elapsed: 0 },
    ] {
        let mut member = QuotaMember::new(terms, START, &first);
        let mut cells = Cells::default();
        let bucket = LeasedBucket { limits: &limits, cells: &mut cells, others: &[] };
        let (grant, _) = grant_lease(bucket, &terms, START, &member.ask(START)).unwrap();
        let Quota::Bucket { max_tokens, refill } = member.granted(START, &grant) else {
            panic!("nothing is granted");
        };
        assert!(max_tokens <= 6 && refill.tokens > 0, "{first:?}: {max_tokens} {refill:?}");
        assert_eq!(member.seconds_left(START), 3);
    }
}

#[test]
fn a_pause_denies_and_a_crowd_leaves_nothing() {
    let limits = [Limit::parse("100/s").unwrap()];
    let terms = LeaseTerms::for_quotas(&limits, 3 * SECOND).unwrap();
    let mut member = QuotaMember::new(terms, START, &QuotaReport::default());
    let paused = Grant { hold: SECOND, pace: 100_000, most: 104, ..Grant::default() };
    _ = member.ask(START);
    assert_eq!(member.granted(START, &paused), Quota::Nothing);
    let crowd = Grant { share: ShareKind::None, ..Grant::default() };
    _ = member.ask(START);
    assert_eq!(member.granted(START, &crowd), Quota::Nothing);
}

#[test]
fn a_slower_refill_is_a_configuration_that_differs_in_more_than_the_seconds() {
    let limits = [Limit::parse("1/s").unwrap()];
    let terms = LeaseTerms::for_quotas(&limits, 10 * SECOND).unwrap();
    let mut member = QuotaMember::new(terms, START, &QuotaReport::default());
    let grant = |pace| Grant { tokens: 10, pace, most: 1, share: ShareKind::Fair, hold: 0 };
    _ = member.ask(START);
    let third = member.granted(START, &grant(334));
    assert_eq!(
        third,
        Quota::Bucket { max_tokens: 1, refill: RefillRate { tokens: 1, seconds: 3 } }
    );
    _ = member.ask(START);
    let fifth = member.granted(START, &grant(200));
    let refill = RefillRate { tokens: 2, seconds: 10 };
    assert_eq!(fifth, Quota::Bucket { max_tokens: 1, refill });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_refill_rate_is_never_faster_and_hardly_slower(rate in 1..200_000_000_000_u64) {
        let RefillRate { tokens, seconds } = RefillRate::new(rate);
        prop_assert!(tokens >= 1 && seconds >= 1);
        let given = u64::from(tokens) * 1_000;
        let wanted = u128::from(rate) * u128::from(seconds);
        if rate < u64::from(u32::MAX) * 1_000 {
            prop_assert!(u128::from(given) <= wanted, "{tokens} in {seconds} s");
        }
        if (125..4_000_000_000).contains(&rate) {
            prop_assert!(u128::from(given) * 100 >= wanted * 98, "{tokens} in {seconds} s");
        }
    }

    /// Whatever is reported and granted, numbers stay in their bounds, and what is given back was held.
    #[test]
    fn any_reports_and_grants_are_survived(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), 0..5_000_u64, 0..4_u8), 1..40)
    ) {
        let limits = [Limit::parse("100/s").unwrap()];
        let terms = LeaseTerms::for_quotas(&limits, 3 * SECOND).unwrap();
        let mut now = START;
        let mut member = QuotaMember::new(terms, now, &QuotaReport::default());
        let (mut taken, mut returned) = (0_u64, 0_u64);
        for (allowed, denied, elapsed, wait, share) in steps {
            now += wait * MILLI;
            member.report(now, &QuotaReport { allowed, denied, elapsed });
            let ask = member.ask(now);
            returned += ask.returned;
            prop_assert!(ask.returned + ask.held <= taken);
            prop_assert!(returned <= taken);
            prop_assert!(ask.want <= 200_000 && ask.bound <= 104);
            let share = [ShareKind::Whole, ShareKind::Fair, ShareKind::Short, ShareKind::None][usize::from(share)];
            let pace = allowed % 104_000;
            let most = (pace / 1_000).max(1);
            let tokens = if share == ShareKind::None { 0 } else { denied % 300 };
            taken += tokens;
            match member.granted(now, &Grant { tokens, pace, most, share, hold: 0 }) {
                Quota::Bucket { max_tokens, refill } => {
                    let rate = refill.tokens / refill.seconds;
                    prop_assert!(max_tokens >= 1 && u64::from(max_tokens + rate) <= most + most / 32 + 2);
                }
                Quota::Nothing => prop_assert_eq!(share, ShareKind::None),
            }
        }
        if let Some(leaving) = member.leave(now) {
            prop_assert!(returned + leaving.returned <= taken);
            prop_assert_eq!(leaving.want, 0);
        }
    }
}
