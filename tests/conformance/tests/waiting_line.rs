//! `waiting.json` on the waiting line, over an exact bucket and a clock that the test moves.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tidegate_conformance::vectors::{load, nanos};
use tidegate_conformance::waiting_vectors::{Event, Fate, Scenario, WaitingVectors};
use tidegate_core::{
    AnyLimit, Cells, Charge, Cost, Limit, Operation, Outcome, Reserved, Source, TieredDecision,
    apply,
};
use tidegate_protocol::{Action, Error, Line, LineOptions};

/// The bound of a line for which none is given.
const MAX_WAITING: usize = 10_000;
/// Everybody has been answered this long after the last event.
const ANSWERED_WITHIN: u64 = 1_000_000_000_000;

#[test]
fn everybody_has_the_expected_outcome() {
    let WaitingVectors { scenarios } = load("waiting.json");
    assert!(scenarios.len() > 50);
    let failures: Vec<_> = scenarios.iter().flat_map(differences).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn differences(scenario: &Scenario) -> Vec<String> {
    let mut key = Key::new(scenario);
    let mut found = Vec::new();
    for timed in &scenario.events {
        key.run_to(timed.now());
        let answer = key.run(&timed.event);
        if answer != timed.expect {
            found.push(format!("at {}: {answer:?}, not {:?}", timed.at, timed.expect));
        }
    }
    key.run_to(key.now + ANSWERED_WITHIN);
    if !key.line.is_idle() {
        found.push(format!("the line is not idle: {:?}", key.line));
    }
    for (id, expected) in &scenario.outcomes {
        let outcome = key.outcomes.remove(id);
        if outcome.as_ref() != Some(expected) {
            found.push(format!("{id}: {outcome:?}, not {expected:?}"));
        }
    }
    found.extend(key.outcomes.iter().map(|(id, outcome)| format!("{id}: {outcome:?}")));
    found.iter().map(|difference| format!("{}: {difference}", scenario.name)).collect()
}

/// One key: its buckets, those who wait for it, and what a limiter in memory does with both.
struct Key {
    limits: Vec<Limit>,
    cells: Cells,
    line: Line,
    options: LineOptions,
    now: u64,
    is_closed: bool,
    callers: HashMap<u64, String>,
    reservations: HashMap<String, (u64, Charge)>,
    outcomes: BTreeMap<String, Fate>,
}

impl Key {
    fn new(scenario: &Scenario) -> Self {
        let parse = |text: &String| Limit::parse(text).expect("the vectors' limits are valid");
        let limits: Vec<_> = scenario.limits.iter().map(parse).collect();
        let all: Vec<_> = limits.iter().copied().map(AnyLimit::Rate).collect();
        let max_waiting = scenario.max_waiting.unwrap_or(MAX_WAITING);
        let options = LineOptions::new(&all, Source::Memory, max_waiting);
        Self {
            limits,
            cells: Cells::default(),
            line: Line::new(options),
            options,
            now: scenario.events.first().map_or(0, |first| first.now()),
            is_closed: false,
            callers: HashMap::new(),
            reservations: HashMap::new(),
            outcomes: BTreeMap::new(),
        }
    }

    /// Lets time pass. What is due at its end comes before what happens then.
    fn run_to(&mut self, time: u64) {
        while let Some(due) = self.line.due().filter(|due| *due <= time) {
            self.now = self.now.max(due);
            self.line.tick(self.now);
            self.act();
        }
        self.now = time;
    }

    fn run(&mut self, event: &Event) -> Option<Value> {
        match event {
            Event::Arrive { ids, cost, timeout } => {
                let max_wait = timeout.as_deref().map_or(u64::MAX, nanos);
                ids.iter().for_each(|id| self.arrive(id, *cost, max_wait));
            }
            Event::Leave { ids } => ids.iter().for_each(|id| self.leave(id)),
            Event::Waiting => {
                let waiting = self.line.waiting(self.now);
                let until = waiting.until.to_string();
                return Some(json!({
                    "callers": waiting.callers, "tokens": waiting.tokens, "until": until,
                }));
            }
            Event::Settle { charged, actual } => {
                let taken = self.share(charged.saturating_sub(*actual));
                let charged = Cost::from(*charged).saturating_sub(&taken);
                self.bucket(Operation::Settle { charged, actual: (*actual).into() });
            }
            Event::Credit { tokens } => {
                let taken = self.share(*tokens);
                let tokens = Cost::from(*tokens).saturating_sub(&taken);
                self.bucket(Operation::Credit { tokens });
            }
            Event::Hold { wait } => {
                let wait = nanos(wait);
                self.bucket(Operation::Hold { wait });
                if !self.line.is_idle() {
                    self.line.held(self.now, self.now + wait);
                }
            }
            Event::Reset => {
                self.bucket(Operation::Reset);
                if !self.line.is_idle() {
                    self.line.restarted(self.now);
                }
            }
            Event::Reserve { name, cost, max_wait } => {
                let cost = (*cost).into();
                let reserve = Operation::Reserve { cost, max_wait: nanos(max_wait), min_wait: 0 };
                let Outcome::Reserved(reserved) = self.bucket(reserve) else {
                    panic!("a reservation has another answer")
                };
                let slot = match reserved {
                    Reserved::Slot(slot) => Some((self.now + slot.delay, slot.charge)),
                    Reserved::TooFar(_) => None,
                };
                let allowed = slot.is_some();
                self.reservations.extend(slot.map(|slot| (name.clone(), slot)));
                return Some(json!({ "allowed": allowed }));
            }
            Event::Cancel { name } => {
                let (at, charge) = self.reservations.remove(name).expect("a given slot");
                let delay = at.saturating_sub(self.now);
                if !self.line.has_waiters()
                    || !self.line.adopt(self.now, delay, charge.cost, charge)
                {
                    self.bucket(Operation::Cancel(charge));
                }
            }
            Event::Check { cost } => return Some(json!({ "allowed": self.check(*cost) })),
            Event::Close => {
                self.is_closed = true;
                self.line.close(self.now, &Error::Store("the limiter is closed".into()));
            }
        }
        self.act();
        None
    }

    fn arrive(&mut self, id: &str, cost: u64, max_wait: u64) {
        let now = self.now.to_string();
        if self.is_closed {
            self.outcomes.insert(id.to_owned(), Fate::Closed { closed: now });
        } else if !self.line.has_waiters() && self.check(cost) {
            self.outcomes.insert(id.to_owned(), Fate::Served { served: now });
        } else {
            let number = self.line.arrive(self.now, cost, max_wait);
            self.callers.insert(number, id.to_owned());
            self.act();
        }
    }

    fn leave(&mut self, id: &str) {
        let Some(number) = self.callers.iter().find(|(_, name)| *name == id).map(|(it, _)| *it)
        else {
            return;
        };
        self.callers.remove(&number);
        self.line.leave(self.now, number);
        self.outcomes.insert(id.to_owned(), Fate::Left { left: self.now.to_string() });
        self.act();
    }

    /// Gives tokens to those who wait, and answers how many they take.
    fn share(&mut self, tokens: u64) -> Cost {
        if tokens == 0 || !self.line.has_waiters() {
            return Cost::default();
        }
        let taken = self.line.returned(self.now, tokens);
        self.act();
        taken
    }

    fn check(&mut self, cost: u64) -> bool {
        let outcome = self.bucket(Operation::Check { cost: cost.into() });
        matches!(outcome, Outcome::Decision(decision) if decision.allowed)
    }

    fn bucket(&mut self, operation: Operation) -> Outcome {
        apply(&self.limits, &mut self.cells, self.now, operation).expect("a valid operation")
    }

    /// Carries out what the line asks for.
    fn act(&mut self) {
        while let Some(action) = self.line.next_action() {
            match action {
                Action::Reserve(asked) => {
                    let Outcome::Reserved(reserved) = self.bucket(asked.operation()) else {
                        panic!("a reservation has another answer")
                    };
                    self.line.reserved(self.now, self.now, asked, Ok(reserved));
                }
                Action::Cancel(cancelled) => {
                    let Outcome::Cancelled(all) =
                        self.bucket(Operation::Cancel(cancelled.charge()))
                    else {
                        panic!("a cancel has another answer")
                    };
                    self.line.cancelled(self.now, cancelled, Ok(all));
                }
                Action::Look => panic!("nobody else holds a bucket in memory"),
                Action::Answer { id, answer } => self.tell(id, answer),
            }
        }
        if self.line.is_idle() {
            // A limiter forgets a line that is idle.
            self.line = Line::new(self.options).numbered_after(self.line.last_id());
        }
    }

    fn tell(&mut self, id: u64, answer: Result<TieredDecision, Error>) {
        let now = self.now.to_string();
        let outcome = match answer {
            Ok(decision) if decision.allowed => Fate::Served { served: now },
            Ok(decision) => {
                let retry_after = decision.retry_after.to_string();
                Fate::Refused { refused: now, retry_after }
            }
            Err(_) => Fate::Closed { closed: now },
        };
        let name = self.callers.remove(&id).expect("a caller that waits");
        self.outcomes.insert(name, outcome);
    }
}
