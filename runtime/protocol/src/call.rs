//! Script calls: the checks of many requests in one, every other operation in one of its own.

use core::fmt::Write as _;
use std::sync::Arc;

use indexmap::IndexMap;
use tidegate_core::{Cells, Cost, Limit, MAX_SPAN, Operation, Outcome, Source};

use crate::error::Error;
use crate::plan::{Planner, Together};
use crate::replay::step;
use crate::request::Request;
use crate::script::{CANCEL, CHECK, CHECK_EACH, HOLD, RESERVE, RESET, SETTLE, Script, ScriptCall};
use crate::snapshot::Snapshot;
use crate::value;

/// One call of a script: a single operation, or the checks of many requests.
#[derive(Debug)]
pub struct Call {
    /// The script.
    pub script: &'static Script,
    /// `KEYS`.
    pub keys: Vec<Vec<u8>>,
    /// `ARGV`.
    pub arguments: Vec<String>,
    /// Whether the call can be sent again when nobody knows if it was carried out: a call that is
    /// carried out twice must not give tokens twice.
    pub repeatable: bool,
    limits: Arc<[Limit]>,
    asked: Asked,
}

/// The requests that a call carries, each with its place among the requests of the batch.
#[derive(Debug)]
enum Asked {
    /// Any number of checks and peeks, which each take all tiers from one key.
    Checks(Vec<AskedCheck>),
    /// One operation on all keys of the call.
    One { place: usize, operation: Operation },
}

#[derive(Debug)]
struct AskedCheck {
    place: usize,
    /// The place of its key among the keys of the call.
    key: usize,
    operation: CheckOrPeek,
}

/// Either of the operations that share a call.
#[derive(Clone, Copy, Debug)]
enum CheckOrPeek {
    Check { cost: Cost },
    Peek { cost: Cost },
}

impl From<CheckOrPeek> for Operation {
    fn from(asked: CheckOrPeek) -> Self {
        match asked {
            CheckOrPeek::Check { cost } => Self::Check { cost },
            CheckOrPeek::Peek { cost } => Self::Peek { cost },
        }
    }
}

/// What an answer shows about a key's later calls.
#[derive(Clone, Debug)]
pub enum Learned {
    /// The key in Redis whose bucket was written under other limits until now. A refusal under those
    /// says nothing any more.
    Carried(Vec<u8>),
    /// A check of one key was refused.
    Refused(Refusal),
}

/// A key that was refused, and the bucket as it then was.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The key in Redis.
    pub key: Vec<u8>,
    /// The limits of the limiter that was refused.
    pub limits: Arc<[Limit]>,
    /// The server's clock, in nanoseconds since the Unix epoch.
    pub now: u64,
    /// What the bucket owes.
    pub cells: Cells,
}

impl Call {
    /// The call of one request alone.
    pub fn new(request: Request) -> Self {
        match request.plain_charge() {
            Some(_) => {
                let mut checks = Checks::new(&request);
                checks.add(0, request);
                checks.into_call()
            }
            None => Self::of_one(0, request),
        }
    }

    /// The call of a request that travels in a call of its own.
    pub(crate) fn of_one(place: usize, request: Request) -> Self {
        let Request { keys, limits, operation } = request;
        let (script, own, repeatable) = match &operation {
            Operation::Check { cost } => (&CHECK_EACH, cost_text(cost), true),
            // A check of cost 0 charges nothing.
            Operation::Peek { .. } => (&CHECK_EACH, "0".to_owned(), true),
            Operation::Reserve { cost, max_wait, min_wait } => {
                let (cost, most) = (cost_text(cost), duration(*max_wait));
                let least = if *min_wait == 0 {
                    String::new()
                } else {
                    format!(" {}", duration(*min_wait))
                };
                (&RESERVE, format!("{cost} {most}{least}"), true)
            }
            Operation::Cancel(charge) => {
                let after = value::write_anytime(&charge.after, &limits);
                let before = value::write_anytime(&charge.before, &limits);
                (&CANCEL, format!("{after} {before}"), true)
            }
            Operation::Settle { charged, actual } => {
                let (text, gives_back) = change_text(charged, actual);
                (&SETTLE, text, !gives_back)
            }
            Operation::Credit { tokens } => {
                let (text, gives_back) = change_text(tokens, &Cost::default());
                (&SETTLE, text, !gives_back)
            }
            Operation::Hold { wait } => (&HOLD, duration(*wait), true),
            Operation::Reset => (&RESET, String::new(), true),
        };
        let arguments = arguments(own, &limits);
        let asked = Asked::One { place, operation };
        let keys = keys.into_vec();
        Self { script, keys, arguments, repeatable, limits, asked }
    }

    /// Answers the requests that the call carries, each by its place in the batch, from the
    /// snapshot that the script took or from the failure that came instead. `learned` gets what the
    /// answer shows about keys whose buckets hold all tiers.
    pub fn answer(
        self,
        snapshot: Result<Snapshot, Error>,
        mut give: impl FnMut(usize, Result<Outcome, Error>),
        mut learned: impl FnMut(Learned),
    ) {
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => {
                match self.asked {
                    Asked::Checks(checks) => {
                        checks.iter().for_each(|check| give(check.place, Err(error.clone())));
                    }
                    Asked::One { place, .. } => give(place, Err(error)),
                }
                return;
            }
        };
        let together = if core::ptr::eq(self.script, &CHECK) { 1 } else { self.keys.len() };
        let mut buckets: Vec<Result<value::Stored, Error>> = snapshot
            .values
            .chunks(together.max(1))
            .zip(self.keys.chunks(together.max(1)))
            .map(|(values, keys)| {
                value::read(values, &self.limits, snapshot.now)
                    .map_err(|key| corrupt_bucket(keys.get(key).map_or(&[], Vec::as_slice)))
            })
            .collect();
        for (bucket, key) in buckets.iter().zip(&self.keys).take_while(|_| together == 1) {
            if bucket.as_ref().is_ok_and(|stored| stored.own.contains(&Some(false))) {
                learned(Learned::Carried(key.clone()));
            }
        }
        let mut last_refused = None;
        let mut answer = |place: usize, key: usize, operation: Operation| {
            let outcome = match buckets.get_mut(key) {
                Some(Ok(stored)) => step(stored, &self.limits, snapshot.now, operation)
                    .map_err(Error::from_engine)
                    .map(|(outcome, cells)| {
                        stored.cells = cells;
                        outcome.from_source(Source::Redis)
                    }),
                Some(Err(error)) => Err(error.clone()),
                None => Err(Error::Store("the script's answer has another form".into())),
            };
            if let Ok(Outcome::Decision(decision)) = outcome
                && !decision.allowed
                && together == 1
                && last_refused.replace(key) != Some(key)
                && let Some(Ok(value::Stored { cells, .. })) = buckets.get(key)
            {
                let (limits, key) = (Arc::clone(&self.limits), self.keys[key].clone());
                let refusal = Refusal { key, limits, now: snapshot.now, cells: *cells };
                learned(Learned::Refused(refusal));
            }
            give(place, outcome);
        };
        match self.asked {
            Asked::Checks(checks) => {
                for AskedCheck { place, key, operation } in checks {
                    answer(place, key, operation.into());
                }
            }
            Asked::One { place, operation } => answer(place, 0, operation),
        }
    }

    /// The checks of the call in one call for each hash slot; none if it cannot be split.
    pub(crate) fn split(&self) -> Vec<Self> {
        let Asked::Checks(checks) = &self.asked else { return Vec::new() };
        if self.keys.len() < 2 {
            return Vec::new();
        }
        let mut planner = Planner::new(Together::Slot);
        for AskedCheck { place, key, operation } in checks {
            let (key, limits) = (self.keys[*key].clone(), Arc::clone(&self.limits));
            let operation = (*operation).into();
            planner.add(*place, Request { keys: vec![key].into(), limits, operation });
        }
        planner.into_calls()
    }

    /// The answer to the only request of the call.
    ///
    /// # Errors
    /// What went wrong, and [`Error::CorruptBucket`] for a value that Tidegate did not write.
    pub fn answer_alone(self, snapshot: Result<Snapshot, Error>) -> Result<Outcome, Error> {
        let mut answer = Err(Error::Store("nothing was asked".into()));
        self.answer(snapshot, |_, outcome| answer = outcome, |_| {});
        answer
    }

    /// The error of a script that found no bucket under a key, from the words after its code
    /// `CORRUPT`: `key 2 ...`.
    pub fn corrupt(&self, detail: &str) -> Error {
        let number = detail.split(' ').nth(1).and_then(|number| number.parse::<usize>().ok());
        let named = number.and_then(|number| self.keys.get(number.checked_sub(1)?));
        corrupt_bucket(named.or_else(|| self.keys.first()).map_or(&[], Vec::as_slice))
    }
}

impl ScriptCall for Call {
    fn script(&self) -> &'static Script {
        self.script
    }

    fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    fn arguments(&self) -> &[String] {
        &self.arguments
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable
    }
}

/// Checks that share one call: each of one key that holds all tiers, all under the same limits.
pub(crate) struct Checks {
    limits: Arc<[Limit]>,
    keys: IndexMap<Vec<u8>, Costs, foldhash::fast::RandomState>,
    asked: Vec<AskedCheck>,
}

/// The costs of a key's checks in order of arrival, and how many of each there are in a row.
#[derive(PartialEq, Eq)]
struct Costs {
    last: (Cost, u64),
    before: Vec<(Cost, u64)>,
}

impl Checks {
    /// Checks like this one.
    pub(crate) fn new(request: &Request) -> Self {
        let (limits, keys) = (Arc::clone(&request.limits), IndexMap::default());
        Self { limits, keys, asked: Vec::new() }
    }

    /// Whether a check can join: only one of the same limiter, so that keys which one
    /// limiter may not touch fail no other's.
    #[inline]
    pub(crate) fn takes(&self, request: &Request, most_keys: usize) -> bool {
        Arc::ptr_eq(&self.limits, &request.limits)
            && (self.keys.len() < most_keys || self.keys.contains_key(&request.keys[0]))
    }

    /// Adds a check, after those that came before.
    pub(crate) fn add(&mut self, place: usize, request: Request) {
        let (charge, operation) = match request.operation {
            Operation::Peek { cost } => (Cost::default(), CheckOrPeek::Peek { cost }),
            _ => {
                let cost = request.plain_charge().unwrap_or_default();
                (cost, CheckOrPeek::Check { cost })
            }
        };
        let known = self.keys.entry(request.keys.into_first());
        let key = known.index();
        known.and_modify(|costs| costs.add(charge)).or_insert_with(|| Costs::of_one(charge));
        self.asked.push(AskedCheck { place, key, operation });
    }

    pub(crate) fn into_call(self) -> Call {
        let Self { limits, keys, asked } = self;
        let first = keys.first().and_then(|(_, costs)| costs.only());
        let own = match first {
            Some(cost) if keys.values().all(|costs| costs.only() == first) => cost_text(&cost),
            _ => texts(keys.values()),
        };
        let (arguments, keys) = (arguments(own, &limits), keys.into_keys().collect());
        let asked = Asked::Checks(asked);
        Call { script: &CHECK, keys, arguments, repeatable: true, limits, asked }
    }
}

impl Costs {
    fn of_one(cost: Cost) -> Self {
        Self { last: (cost, 1), before: Vec::new() }
    }

    fn add(&mut self, cost: Cost) {
        if self.last.0 == cost {
            self.last.1 += 1;
        } else {
            self.before.push(core::mem::replace(&mut self.last, (cost, 1)));
        }
    }

    /// The cost of a key's only check.
    fn only(&self) -> Option<Cost> {
        (self.before.is_empty() && self.last.1 == 1).then_some(self.last.0)
    }
}

/// The costs of each key's checks, as the script reads them.
fn texts<'c>(of_keys: impl Iterator<Item = &'c Costs>) -> String {
    let mut text = String::new();
    for costs in of_keys {
        if !text.is_empty() {
            text.push(' ');
        }
        if let Some(cost) = costs.only() {
            write_cost(&mut text, &cost);
            continue;
        }
        for (cost, count) in &costs.before {
            write_cost(&mut text, cost);
            _ = write!(text, "*{count},");
        }
        let (cost, count) = costs.last;
        write_cost(&mut text, &cost);
        _ = write!(text, "*{count}");
    }
    text
}

/// `ARGV`: what is the call's own, then the limits.
pub(crate) fn arguments(own: String, limits: &[Limit]) -> Vec<String> {
    let mut arguments = Vec::with_capacity(1 + 2 * limits.len());
    arguments.push(own);
    for limit in limits {
        arguments.push(value::timeline_text(limit));
        arguments.push(limit.burst().to_string());
    }
    arguments
}

pub(crate) fn corrupt_bucket(key: &[u8]) -> Error {
    Error::CorruptBucket { key: String::from_utf8_lossy(key).into_owned() }
}

/// A cost as the scripts read it: one number, or one for each limit, joined by colons.
fn cost_text(cost: &Cost) -> String {
    let mut text = String::new();
    write_cost(&mut text, cost);
    text
}

fn write_cost(text: &mut String, cost: &Cost) {
    for (place, tokens) in cost.numbers().iter().enumerate() {
        let before = if place == 0 { "" } else { ":" };
        _ = write!(text, "{before}{tokens}");
    }
}

/// The tokens to charge beyond those that were charged, as a settlement's script reads them, and
/// whether any limit gets tokens back.
fn change_text(charged: &Cost, actual: &Cost) -> (String, bool) {
    let count = charged.numbers().len().max(actual.numbers().len());
    let changes = (0..count).map(|tier| (charged.of_tier(tier), actual.of_tier(tier)));
    let texts = changes.clone().map(|(charged, actual)| match actual > charged {
        true => tokens(actual - charged).to_string(),
        false => format!("-{}", tokens(charged - actual)),
    });
    let gives_back = changes.into_iter().any(|(charged, actual)| actual < charged);
    (texts.collect::<Vec<_>>().join(":"), gives_back)
}

/// A debt ends at [`MAX_SPAN`] and a token is at least 1 wide, so more tokens are as many.
fn tokens(count: u64) -> u64 {
    count.min(MAX_SPAN)
}

/// Durations can pass 2^53 ns.
fn duration(nanos: u64) -> String {
    format!("{} {}", nanos / value::MILLI, nanos % value::MILLI)
}
