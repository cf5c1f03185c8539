//! The promises of the operations, on random traces.

#![allow(clippy::expect_used)]

use proptest::prelude::*;
use tidegate_core::{
    Cells, Limit, MAX_SPAN, Reservation, Reserved, Shape, cancel, change_limits, credit,
    decide_tiers, hold, reserve, reset, settle,
};

const MILLI: u64 = 1_000_000;
const START: u64 = 1_764_000_000_000_000_000;

fn limit() -> impl Strategy<Value = Limit> {
    let count = || prop_oneof![4 => 1..12u64, 1 => 1..3_000u64];
    let period = prop_oneof![
        1..1_000_000u64,
        (1..100_000u64).prop_map(|milli| milli * MILLI),
        1..10_000_000_000_000_000u64
    ];
    (count(), period, count(), any::<bool>()).prop_filter_map(
        "bounds",
        |(tokens, period, burst, stepped)| {
            if stepped {
                Limit::stepped(tokens, period / MILLI * MILLI, burst).ok()
            } else {
                Limit::smooth(tokens, period, burst).ok()
            }
        },
    )
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    prop_oneof![
        3 => limit().prop_map(|limit| vec![limit]),
        1 => prop::collection::vec(limit(), 2..=4),
    ]
}

/// One call, as random numbers that are scaled to the limits later.
type Call = (u8, u8, u64, u64);

fn calls() -> impl Strategy<Value = Vec<Call>> {
    prop::collection::vec((0..12u8, 0..6u8, any::<u64>(), any::<u64>()), 1..60)
}

fn per_token(limits: &[Limit]) -> u64 {
    let each = limits.iter().map(|limit| (limit.period() / limit.tokens()).max(1));
    each.min().unwrap_or(1).min(MAX_SPAN / 32)
}

fn smallest_burst(limits: &[Limit]) -> u64 {
    limits.iter().map(Limit::burst).min().unwrap_or(1)
}

fn gap(limits: &[Limit], kind: u8, pick: u64) -> u64 {
    let one = per_token(limits);
    match kind {
        0 | 1 => 0,
        2 => pick % (2 * one),
        3 => one,
        4 => pick % (one * smallest_burst(limits) * 2).min(MAX_SPAN / 8),
        _ => pick % 1_000,
    }
}

fn cost(limits: &[Limit], pick: u64) -> u64 {
    let burst = smallest_burst(limits);
    if pick.is_multiple_of(3) { pick % burst + 1 } else { (1 + pick % 2).min(burst) }
}

fn wait(limits: &[Limit], pick: u64) -> u64 {
    [0, per_token(limits), per_token(limits) * 20, MAX_SPAN / 64][(pick % 4) as usize]
}

fn slot(
    limits: &[Limit],
    cells: &mut Cells,
    now: u64,
    cost: u64,
    max_wait: u64,
) -> Option<Reservation> {
    match reserve(limits, cells, now, cost, max_wait).expect("a valid call") {
        Reserved::Slot(slot) => Some(slot),
        Reserved::TooFar(_) => None,
    }
}

/// The tokens that arrive after `start` up to `end`, at the rate that the rounded width gives.
fn arrived(limit: &Limit, start: u64, end: u64) -> u128 {
    match limit.shape() {
        Shape::Smooth => u128::from((end - start) / limit.period().div_ceil(limit.tokens())),
        Shape::Stepped => {
            u128::from(end / limit.period() - start / limit.period()) * u128::from(limit.tokens())
        }
    }
}

/// Checks that no window from one slot to another holds more than the burst, the tokens that
/// arrived in it, and those that were given back.
fn keeps_the_bound(
    limit: &Limit,
    spent: &mut [(u64, u64)],
    granted: u128,
) -> Result<(), TestCaseError> {
    spent.sort_unstable();
    for (first, &(start, _)) in spent.iter().enumerate() {
        let mut sum = 0;
        for &(end, cost) in &spent[first..] {
            sum += u128::from(cost);
            let bound = u128::from(limit.burst()) + arrived(limit, start, end) + granted;
            prop_assert!(sum <= bound, "{limit}: {sum} > {bound} from {start} to {end}");
        }
    }
    Ok(())
}

/// A bucket as a level, in nanoseconds of refill (smooth) or in tokens (stepped);
/// below zero it is in debt.
struct NaiveBucket {
    limit: Limit,
    level: i128,
    seen: u64,
}

impl NaiveBucket {
    fn full(limit: Limit, now: u64) -> Self {
        let mut bucket = Self { limit, level: 0, seen: now };
        bucket.level = bucket.size();
        bucket
    }

    fn width(&self) -> i128 {
        match self.limit.shape() {
            Shape::Smooth => i128::from(self.limit.period().div_ceil(self.limit.tokens())),
            Shape::Stepped => 1,
        }
    }

    fn size(&self) -> i128 {
        i128::from(self.limit.burst()) * self.width()
    }

    fn pass(&mut self, now: u64) {
        let refill = match self.limit.shape() {
            Shape::Smooth => i128::from(now) - i128::from(self.seen),
            Shape::Stepped => {
                let period = self.limit.period();
                let steps = i128::from(now / period) - i128::from(self.seen / period);
                steps * i128::from(self.limit.tokens())
            }
        };
        self.level = (self.level + refill).min(self.size());
        self.seen = now;
    }

    fn add(&mut self, tokens: i128) {
        self.level = (self.level + tokens * self.width()).min(self.size());
    }
}

fn times() -> u32 {
    if std::env::var_os("TIDEGATE_TEST_LONG").is_some() { 20 } else { 1 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000 * times(), failure_persistence: None, ..Default::default() })]

    /// Checks, reservations and cancels in any order, cancels at any later time: counted
    /// at their slots, the tokens that were not cancelled keep the bound of every tier.
    #[test]
    fn slots_keep_the_window_bound(limits in limits(), calls in calls()) {
        let mut cells = Cells::default();
        let mut now = START;
        let mut spent = Vec::new();
        let mut open: Vec<(u64, Reservation)> = Vec::new();
        for (kind, step, pick, size) in calls {
            now += gap(&limits, step, pick);
            let cost = cost(&limits, size);
            match kind {
                0..2 => if decide_tiers(&limits, &mut cells, now, cost)?.allowed {
                    spent.push((now, cost));
                },
                2..8 => if let Some(slot) = slot(&limits, &mut cells, now, cost, wait(&limits, pick)) {
                    open.push((now + slot.delay, slot));
                },
                _ if open.is_empty() => {}
                _ => {
                    let last = open.len() - 1;
                    let at = if kind % 2 == 0 { last } else { (size % open.len() as u64) as usize };
                    let (_, slot) = open.remove(at);
                    let before = cells;
                    cancel(&slot.charge, &mut cells);
                    prop_assert!(cells.iter().zip(before).all(|(now, before)| *now <= before));
                }
            }
        }
        spent.extend(open.iter().map(|(at, slot)| (*at, slot.charge.cost.of_tier(0))));
        for limit in &limits {
            keeps_the_bound(limit, &mut spent, 0)?;
        }
    }

    /// All operations in any order: no more is spent than the burst, the tokens that arrived, and
    /// those that credit, settle and reset gave back.
    #[test]
    fn nothing_mints(limit in limit(), calls in calls()) {
        let limits = [limit];
        let mut cells = Cells::default();
        let mut now = START;
        let mut spent = Vec::new();
        let mut open: Vec<(u64, Reservation)> = Vec::new();
        let mut granted = 0u128;
        for (kind, step, pick, size) in calls {
            now += gap(&limits, step, pick);
            let cost = cost(&limits, size);
            let position = limit.timeline().position(now);
            let before = cells[0].saturating_sub(position);
            let mut gives = false;
            match kind {
                0 | 1 => if decide_tiers(&limits, &mut cells, now, cost)?.allowed {
                    spent.push((now, cost));
                },
                2..6 => if let Some(slot) = slot(&limits, &mut cells, now, cost, wait(&limits, pick)) {
                    open.push((now + slot.delay, slot));
                },
                6 | 7 => if !open.is_empty() {
                    let at = (size % open.len() as u64) as usize;
                    cancel(&open.remove(at).1.charge, &mut cells);
                },
                8 => { settle(&limits, &mut cells, now, cost, pick % (cost + 3))?; gives = true; }
                9 => { credit(&limits, &mut cells, now, pick % 5)?; gives = true; }
                10 => { hold(&limits, &mut cells, now, wait(&limits, pick))?; }
                _ => if pick % 4 == 0 { reset(&mut cells); gives = true; },
            }
            let after = cells[0].saturating_sub(position);
            if gives {
                granted += u128::from(before.saturating_sub(after)).div_ceil(u128::from(limit.timeline().width()));
            }
        }
        spent.extend(open.iter().map(|(at, slot)| (*at, slot.charge.cost.of_tier(0))));
        keeps_the_bound(&limit, &mut spent, granted)?;
    }

    /// The engine's bucket equals the naive one after every charge, credit and settlement.
    #[test]
    fn is_the_naive_bucket(limit in limit(), calls in calls()) {
        let limits = [limit];
        let mut naive = NaiveBucket::full(limit, START);
        let mut cells = Cells::default();
        let mut now = START;
        for (kind, step, pick, size) in calls {
            now += gap(&limits, step, pick);
            naive.pass(now);
            let cost = cost(&limits, size);
            match kind {
                0..4 => {
                    let allowed = decide_tiers(&limits, &mut cells, now, cost)?.allowed;
                    prop_assert_eq!(allowed, naive.level >= i128::from(cost) * naive.width());
                    if allowed { naive.add(-i128::from(cost)); }
                }
                4..8 => if let Some(slot) = slot(&limits, &mut cells, now, cost, wait(&limits, pick)) {
                    // The tokens are drawn at the time of the slot.
                    naive.pass(now + slot.delay);
                    prop_assert!(naive.level >= i128::from(cost) * naive.width());
                    naive.add(-i128::from(cost));
                    naive.pass(now);
                },
                8 | 9 => {
                    let actual = pick % (3 * cost);
                    settle(&limits, &mut cells, now, cost, actual)?;
                    naive.add(i128::from(cost) - i128::from(actual));
                }
                _ => { credit(&limits, &mut cells, now, pick % 5)?; naive.add(i128::from(pick % 5)); }
            }
            let debt = cells[0].saturating_sub(limit.timeline().position(now));
            if naive.size() - naive.level > i128::from(MAX_SPAN) {
                prop_assert_eq!(debt, MAX_SPAN);
                naive.level = naive.size() - i128::from(MAX_SPAN);
            }
            prop_assert_eq!(i128::from(debt), naive.size() - naive.level);
        }
    }

    /// A later call gets a later slot, whatever its cost. A delay of 0 is an allowed check. At its
    /// slot, and not a tick before, the cost fits the bucket as it was without the charge.
    #[test]
    fn slots_are_first_come_first_served(limits in limits(), calls in calls()) {
        let mut cells = Cells::default();
        let (mut now, mut latest) = (START, 0);
        for (_, step, pick, size) in calls {
            now += gap(&limits, step, pick);
            let cost = cost(&limits, size);
            let before = cells;
            let mut checked = cells;
            let check = decide_tiers(&limits, &mut checked, now, cost)?;
            let Some(slot) = slot(&limits, &mut cells, now, cost, wait(&limits, pick)) else {
                prop_assert!(!check.allowed);
                prop_assert_eq!(cells, before, "a refusal changed a bucket");
                continue;
            };
            prop_assert_eq!(slot.delay == 0, check.allowed);
            if check.allowed {
                prop_assert_eq!((*slot.decision.decision(), cells), (check, checked));
            }
            // One tick less of `max_wait` gets no slot.
            let with = |max_wait| reserve(&limits, &mut before.clone(), now, cost, max_wait);
            prop_assert!(matches!(with(slot.delay)?, Reserved::Slot(_)));
            prop_assert!(slot.delay == 0 || matches!(with(slot.delay - 1)?, Reserved::TooFar(_)));
            let at = now + slot.delay;
            prop_assert!(at >= latest);
            latest = at;
            prop_assert!(decide_tiers(&limits, &mut before.clone(), at, cost)?.allowed);
            prop_assert!(slot.delay == 0 || !decide_tiers(&limits, &mut before.clone(), at - 1, cost)?.allowed);
            for limit in limits.iter().filter(|limit| limits.len() == 1 && slot.delay > 0 && limit.shape() == Shape::Stepped) {
                prop_assert_eq!(at % limit.period(), 0, "a delay ends on a step");
            }
        }
    }

    /// After `retry_after` the same reserve gets a slot, and one tick before it does not.
    #[test]
    fn a_refused_reserve_says_when((limits, calls) in (limits(), calls())) {
        let mut cells = Cells::default();
        let mut now = START;
        for (_, step, pick, size) in calls {
            now += gap(&limits, step, pick);
            let (cost, max_wait) = (cost(&limits, size), wait(&limits, pick));
            if let Reserved::TooFar(refused) = reserve(&limits, &mut cells, now, cost, max_wait)? {
                let after = refused.retry_after;
                prop_assert!(after > 0 && !refused.allowed);
                if now.checked_add(after).is_some() {
                    prop_assert!(slot(&limits, &mut cells.clone(), now + after, cost, max_wait).is_some());
                    prop_assert!(slot(&limits, &mut cells.clone(), now + after - 1, cost, max_wait).is_none());
                }
            }
        }
    }

    /// Reservations cancelled last first leave every bucket as it was.
    #[test]
    fn cancel_is_identity_when_last(limits in limits(), calls in calls()) {
        let mut cells = Cells::default();
        let mut now = START;
        decide_tiers(&limits, &mut cells, now, 1)?;
        let mut open = Vec::new();
        for (_, step, pick, size) in calls {
            now += gap(&limits, step, pick);
            let before = cells;
            if let Some(slot) = slot(&limits, &mut cells, now, cost(&limits, size), wait(&limits, pick)) {
                open.push((before, slot));
            }
        }
        for (before, slot) in open.into_iter().rev() {
            prop_assert!(cancel(&slot.charge, &mut cells));
            prop_assert_eq!(cells, before);
        }
    }

    /// After another call has charged the bucket, a cancel changes nothing and says so.
    #[test]
    fn cancel_gives_nothing_back_when_not_last(limits in limits(), first: u64, second: u64) {
        let mut cells = Cells::default();
        let earlier = slot(&limits, &mut cells, START, cost(&limits, first), 0);
        let later = slot(&limits, &mut cells, START, cost(&limits, second), MAX_SPAN / 64);
        if let (Some(earlier), Some(_later)) = (earlier, later) {
            let before = cells;
            prop_assert!(!cancel(&earlier.charge, &mut cells));
            prop_assert_eq!(cells, before);
        }
    }

    /// A smooth bucket has exactly one token at the end of the hold and none a tick earlier, then
    /// one more a width later. A stepped bucket has none before the first step at or after the end,
    /// then the tokens of a step.
    #[test]
    fn a_hold_ends_when_it_says(limit in limit(), spent: u64, hour in 0..3_600_000_000_000u64, pick: u64) {
        let limits = [limit];
        let mut cells = Cells::default();
        let now = START + hour;
        decide_tiers(&limits, &mut cells, now, cost(&limits, spent))?;
        let owed = cells[0].saturating_sub(limit.timeline().position(now));
        let for_how_long = wait(&limits, pick) + pick % (2 * per_token(&limits));
        hold(&limits, &mut cells, now, for_how_long)?;
        let (end, brings) = match limit.shape() {
            Shape::Smooth => (now + for_how_long, 1),
            Shape::Stepped => {
                ((now + for_how_long).div_ceil(limit.period()) * limit.period(), limit.tokens().min(limit.burst()))
            }
        };
        let debt = cells[0] - limit.timeline().position(now).min(cells[0]);
        // This does not hold if the charge lasts longer than the hold, or the hold is longer than a
        // bucket may owe.
        if debt > owed && debt < MAX_SPAN {
            prop_assert_eq!(decide_tiers(&limits, &mut cells.clone(), end, 0)?.remaining, brings);
            if end > now {
                prop_assert!(!decide_tiers(&limits, &mut cells.clone(), end - 1, 1)?.allowed);
            }
            if let Shape::Smooth = limit.shape() {
                let width = limit.timeline().width();
                prop_assert_eq!(decide_tiers(&limits, &mut cells.clone(), end + width - 1, 0)?.remaining, 1);
                prop_assert_eq!(decide_tiers(&limits, &mut cells.clone(), end + width, 0)?.remaining, limit.burst().min(2));
            }
        }
    }

    /// Holds join by maximum: applied in either order, or twice, they leave the same buckets, and
    /// no hold lowers a debt.
    #[test]
    fn holds_join_by_max(limits in limits(), spent: u64, a: u64, b: u64, between in 0..10_000_000_000u64) {
        let mut cells = Cells::default();
        decide_tiers(&limits, &mut cells, START, cost(&limits, spent))?;
        let (a, b) = (a % (1 << 50) + between, b % (1 << 50));
        let before = cells;
        let mut one = cells;
        hold(&limits, &mut one, START, a)?;
        prop_assert!(one.iter().zip(before).all(|(held, before)| *held >= before));
        let mut other = cells;
        hold(&limits, &mut other, START, b)?;
        let joined: Vec<u64> = one.iter().zip(other).map(|(a, b)| (*a).max(b)).collect();
        hold(&limits, &mut one, START, b)?;
        hold(&limits, &mut other, START, a)?;
        prop_assert_eq!(one.to_vec(), joined);
        prop_assert_eq!(one, other);
        hold(&limits, &mut other, START + between, a - between)?;
        if limits.iter().zip(one).all(|(limit, cell)| limit.shape() == Shape::Smooth && cell.saturating_sub(START) < MAX_SPAN) {
            prop_assert_eq!(one, other, "the same end, said later");
        }
    }

    /// A debt stays the same in whole tokens, and never becomes less.
    #[test]
    fn a_change_of_limit_keeps_the_debt(from in limit(), to in limit(), spent: u64, extra in 0..40u64) {
        let mut cells = Cells::default();
        settle(&[from], &mut cells, START, 0, cost(&[from], spent) + extra)?;
        let owed = |limit: &Limit, cells: &Cells| {
            let debt = cells[0].saturating_sub(limit.timeline().position(START));
            u128::from(debt).div_ceil(u128::from(limit.timeline().width()))
        };
        let before = owed(&from, &cells);
        change_limits(&[from], &[to], &mut cells, START)?;
        let most = u128::from(MAX_SPAN) / u128::from(to.timeline().width());
        prop_assert!(owed(&to, &cells) == before || (before > most && owed(&to, &cells) >= most));
    }

    /// Nothing panics or overflows at any value of any field, and an operation that only takes
    /// tokens never lowers a debt.
    #[test]
    fn the_ends_of_the_types_hold(limits in limits(), to in limits(), values: [u64; 4], now: u64, cells: [u64; 4], kind in 0..8u8) {
        let edge = |value: u64| match value % 4 {
            0 => u64::MAX - value % 1_000,
            1 => value % 1_000,
            2 => MAX_SPAN - 500 + value % 1_000,
            _ => value,
        };
        let [a, b, tokens, _] = values.map(edge);
        let now = edge(now);
        let mut cells = cells.map(edge);
        let owed = |cells: &Cells| -> Vec<u64> {
            limits.iter().zip(cells).map(|(limit, cell)| cell.saturating_sub(limit.timeline().position(now))).collect()
        };
        let before = owed(&cells);
        let mut takes = true;
        match kind {
            0 => if let Ok(Reserved::Slot(slot)) = reserve(&limits, &mut cells, now, tokens, a) {
                prop_assert!(slot.delay <= a);
                let (at, left) = (slot.charge.before, slot.charge.after);
                prop_assert_eq!(left, cells);
                prop_assert!(cancel(&slot.charge, &mut cells));
                prop_assert_eq!(at, cells);
            },
            1 => if let Ok(Reserved::Slot(slot)) = reserve(&limits, &mut cells, now, tokens % (smallest_burst(&limits) + 1), a) {
                prop_assert!(slot.delay <= a && now.checked_add(slot.delay).is_some());
            },
            2 => { takes = b >= a; settle(&limits, &mut cells, now, a, b)?; }
            3 => { takes = false; credit(&limits, &mut cells, now, tokens)?; }
            4 | 5 => { hold(&limits, &mut cells, now, a)?; }
            _ => { takes = false; change_limits(&limits, &to, &mut cells, now)?; }
        }
        if takes {
            prop_assert!(owed(&cells).iter().zip(before).all(|(after, before)| *after >= before));
        }
    }
}

#[test]
fn a_limiter_holds_one_to_four_limits() {
    let limit = Limit::parse("2/s").expect("a limit");
    for limits in [&[][..], &[limit; 5]] {
        let cells = &mut Cells::default();
        assert!(reserve(limits, cells, 7, 1, 0).is_err());
        assert!(settle(limits, cells, 7, 1, 0).is_err());
        assert!(credit(limits, cells, 7, 1).is_err());
        assert!(hold(limits, cells, 7, 1).is_err());
        assert!(change_limits(limits, &[limit], cells, 7).is_err());
        assert!(change_limits(&[limit], limits, cells, 7).is_err());
    }
}
