//! One step of the Lua twin, and the step that the engine takes from the same state.

use std::iter::zip;

use tidegate::bindings::{Call, Request, Snapshot, plan, step, value};
use tidegate_core::{Cells, Cost, Limit, Operation, Timeline};

use crate::lua_twin::{Change, Ran};
use crate::{MILLI, SECOND};

/// The longest time to live, in milliseconds.
const FOREVER: u128 = 1_000_000_000_000_000;

/// The last second at which every debt has a word of ten digits of seconds.
const LAST_SECOND: u64 = 9_990_992_799;

/// How long a test of the expiry in a real Redis may take, in milliseconds.
const SLACK: u64 = 1_000;

/// One step: what the keys hold, the clock, the limits and the operation.
#[derive(Clone, Debug)]
pub struct Case {
    /// The server's clock, in nanoseconds.
    pub now: u64,
    /// The values of the keys: one for all limits, or one for each.
    pub values: Vec<Option<Vec<u8>>>,
    /// The limiter's limits.
    pub limits: Vec<Limit>,
    /// The operation.
    pub operation: Operation,
}

impl Case {
    /// The state that the script sees.
    pub fn seen(&self) -> Snapshot {
        Snapshot { now: self.now, values: self.values.clone() }
    }

    /// The script and its arguments.
    ///
    /// # Panics
    /// For a cost above the burst, which is never sent.
    pub fn call(&self) -> Call {
        call(self.values.len(), &self.limits, self.operation)
            .expect("the cost is at most the burst")
    }

    /// Compares a run of the script with the engine.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn compare(&self, ran: &Ran) -> Result<(), String> {
        self.compare_with(ran, |expected, got| expected == got)
    }

    /// Compares a run in Redis with the engine; a time to live may be a second shorter.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn compare_redis(&self, ran: &Ran) -> Result<(), String> {
        self.compare_with(ran, |expected, got| {
            (expected.saturating_sub(SLACK)..=*expected).contains(got)
        })
    }

    fn compare_with(&self, ran: &Ran, same_ttl: impl Fn(&u64, &u64) -> bool) -> Result<(), String> {
        compare(&self.expected(), ran, same_ttl).map_err(|how| format!("{self}: {how}"))
    }

    /// What the script should do: it writes the buckets whose debts have changed, and debts that it
    /// carried over from another limit.
    ///
    /// # Panics
    /// For a cost above the burst.
    pub fn expected(&self) -> Ran {
        let Self { now, values, limits, operation } = self;
        if *now / SECOND > LAST_SECOND {
            return Ran::Failed("CLOCK ".to_owned());
        }
        match (operation, values.as_slice()) {
            (Operation::Check { cost }, [_]) => {
                return expected_of_checks(*now, values, limits, &[(0, *cost)]);
            }
            // It runs in the script of the checks, and charges nothing.
            (Operation::Peek { .. }, [_]) => {
                return expected_of_checks(*now, values, limits, &[(0, Cost::default())]);
            }
            _ => {}
        }
        let stored = match value::read(values, limits, *now) {
            Ok(stored) => stored,
            Err(key) => return Ran::Failed(format!("CORRUPT key {} ", key + 1)),
        };
        let (_, cells) =
            step(&stored, limits, *now, *operation).expect("the cost is at most the burst");
        if *operation == Operation::Reset {
            return expected_of_reset(values, limits);
        }
        let debt = |tier: usize, cells: &Cells| {
            cells[tier].saturating_sub(limits[tier].timeline().position(*now))
        };
        let change = |tiers: core::ops::Range<usize>| {
            let is_same = |tier: usize| {
                debt(tier, &cells) == debt(tier, &stored.cells)
                    && !is_carried(tier, &stored, limits, *now)
            };
            if tiers.clone().all(is_same) {
                return None;
            }
            let lives = tiers.clone().map(|tier| full_in(&limits[tier], debt(tier, &cells), *now));
            let words = tiers.clone().enumerate().map(|(place, tier)| {
                let kept = debt(tier, &cells) == debt(tier, &stored.cells);
                if kept && stored.own[tier] == Some(true) {
                    return word_of(&values[tier - place], place);
                }
                let (cells, limit) = ([cells[tier], 0, 0, 0], &limits[tier..=tier]);
                match operation {
                    // A cancel writes the cell as it was before, at whatever time that was.
                    Operation::Cancel(_) if !kept => value::write_anytime(&cells, limit),
                    _ => value::write(&cells, limit, *now),
                }
            });
            let value = words.collect::<Vec<_>>().join(" ").into_bytes();
            Some(Change { value, ttl: lives.max().unwrap_or(0) + 1 })
        };
        let one_key = || vec![change(0..limits.len())];
        let each = || (0..limits.len()).map(|tier| change(tier..tier + 1)).collect();
        Ran::Changed(if values.len() == 1 { one_key() } else { each() })
    }
}

/// Checks of many buckets in one call of the script.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The server's clock, in nanoseconds.
    pub now: u64,
    /// The values of the keys; each holds all tiers.
    pub values: Vec<Option<Vec<u8>>>,
    /// The limiter's limits.
    pub limits: Vec<Limit>,
    /// The key and the cost of each check, in order of arrival. Every key is checked.
    pub checks: Vec<(usize, Cost)>,
}

impl Checks {
    /// The state that the script sees.
    pub fn seen(&self) -> Snapshot {
        Snapshot { now: self.now, values: self.values.clone() }
    }

    /// The script and its arguments. Keys come in the order in which they are checked first.
    ///
    /// # Panics
    /// For a cost above the burst, which is never sent.
    pub fn call(&self) -> Call {
        let limits: std::sync::Arc<[Limit]> = self.limits.as_slice().into();
        let request = |&(key, cost): &(usize, Cost)| {
            let name = format!("bucket{key}").into_bytes();
            Request::new(vec![name], limits.clone(), Operation::Check { cost }).expect("a request")
        };
        let mut calls = plan(self.checks.iter().map(request));
        assert_eq!(calls.len(), 1, "one call for all checks");
        calls.remove(0)
    }

    /// What the script should do.
    pub fn expected(&self) -> Ran {
        expected_of_checks(self.now, &self.values, &self.limits, &self.checks)
    }

    /// Compares a run of the script with the engine, which takes one check after the other.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn compare(&self, ran: &Ran) -> Result<(), String> {
        compare(&self.expected(), ran, |expected, got| expected == got)
            .map_err(|how| format!("{self:?}: {how}"))
    }

    /// Compares a run in Redis with the engine; a time to live may be a second shorter.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn compare_redis(&self, ran: &Ran) -> Result<(), String> {
        let same_ttl =
            |expected: &u64, got: &u64| (expected.saturating_sub(SLACK)..=*expected).contains(got);
        compare(&self.expected(), ran, same_ttl).map_err(|how| format!("{self:?}: {how}"))
    }
}

/// The call of an operation on `keys` keys.
///
/// # Errors
/// The errors of the operation.
pub fn call(keys: usize, limits: &[Limit], operation: Operation) -> Result<Call, tidegate::Error> {
    let keys: Vec<_> = (0..keys).map(|key| format!("bucket{key}").into_bytes()).collect();
    Ok(Call::new(Request::new(keys, limits.into(), operation)?))
}

/// What the script should do with many checks: it leaves foreign values alone and takes every other
/// bucket through its checks.
fn expected_of_checks(
    now: u64,
    values: &[Option<Vec<u8>>],
    limits: &[Limit],
    checks: &[(usize, Cost)],
) -> Ran {
    let change = |(key, value): (usize, &Option<Vec<u8>>)| {
        let mut stored = value::read(core::slice::from_ref(value), limits, now).ok()?;
        let before = stored.cells;
        let carried = (0..limits.len()).any(|tier| is_carried(tier, &stored, limits, now));
        for &(_, cost) in checks.iter().filter(|(checked, _)| *checked == key) {
            (_, stored.cells) = step(&stored, limits, now, Operation::Check { cost })
                .expect("the cost is at most the burst");
        }
        let debt =
            |tier: usize| stored.cells[tier].saturating_sub(limits[tier].timeline().position(now));
        let lives = (0..limits.len()).map(|tier| full_in(&limits[tier], debt(tier), now)).max();
        let value = value::write(&stored.cells, limits, now).into_bytes();
        (carried || stored.cells != before).then(|| Change { value, ttl: lives.unwrap_or(0) + 1 })
    };
    Ran::Changed(values.iter().enumerate().map(change).collect())
}

/// What the script should do with a reset: it makes every bucket that exists one never used, for the
/// shortest time.
fn expected_of_reset(values: &[Option<Vec<u8>>], limits: &[Limit]) -> Ran {
    let tiers_of = |key: usize| if values.len() == 1 { 0..limits.len() } else { key..key + 1 };
    let change = |(key, value): (usize, &Option<Vec<u8>>)| {
        let unused = value::write_anytime(&Cells::default(), &limits[tiers_of(key)]);
        value.is_some().then(|| Change { value: unused.into_bytes(), ttl: 1 })
    };
    Ran::Changed(values.iter().enumerate().map(change).collect())
}

/// Whether a tier owes something that was written under another limit.
fn is_carried(tier: usize, stored: &value::Stored, limits: &[Limit], now: u64) -> bool {
    let position = limits[tier].timeline().position(now);
    stored.own[tier] == Some(false) && stored.cells[tier] > position
}

fn compare(expected: &Ran, ran: &Ran, same_ttl: impl Fn(&u64, &u64) -> bool) -> Result<(), String> {
    let same = match (expected, ran) {
        (Ran::Failed(expected), Ran::Failed(error)) => error.starts_with(expected),
        (Ran::Changed(expected), Ran::Changed(changes)) => {
            expected.len() == changes.len()
                && zip(expected, changes).all(|pair| match pair {
                    (Some(expected), Some(got)) => {
                        expected.value == got.value && same_ttl(&expected.ttl, &got.ttl)
                    }
                    (expected, change) => expected == change,
                })
        }
        _ => false,
    };
    if same { Ok(()) } else { Err(format!("expected {expected:?}, got {ran:?}")) }
}

impl core::fmt::Display for Case {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let limits: Vec<String> = self.limits.iter().map(Limit::to_string).collect();
        let text = |value: &Option<Vec<u8>>| {
            value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let values: Vec<_> = self.values.iter().map(text).collect();
        write!(f, "{:?} on {values:?} at {} with {limits:?}", self.operation, self.now)
    }
}

/// The word of a value at `place`, unchanged.
fn word_of(value: &Option<Vec<u8>>, place: usize) -> String {
    let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
    value.split(' ').filter(|word| !word.is_empty()).nth(place).unwrap_or_default().to_owned()
}

/// The time until a bucket is full, in whole milliseconds, rounded up.
fn full_in(limit: &Limit, debt: u64, now: u64) -> u64 {
    match limit.timeline() {
        _ if debt == 0 => 0,
        Timeline::Smooth { .. } => debt.div_ceil(MILLI),
        Timeline::Stepped { tokens, period } => {
            let period = period / MILLI;
            let steps = u128::from(debt.div_ceil(tokens)) * u128::from(period);
            u64::try_from(steps.min(FOREVER)).unwrap_or(u64::MAX) - now / MILLI % period
        }
    }
}
