//! `waiting.json` on the limiter in memory, in real time: the scenarios of which every outcome stays
//! the same when events are a little late.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::{Error, Limiter, Reservation};
use tidegate_conformance::vectors::{load, nanos};
use tidegate_conformance::waiting_vectors::{Event, Fate, Scenario, Timed, WaitingVectors};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant as Later, sleep_until};

/// An attempt counts if each event came at most this late.
const LATE: Duration = Duration::from_millis(20);
/// How often a busy machine may be late.
const ATTEMPTS: usize = 50;
/// How many scenarios run at a time.
const AT_A_TIME: usize = 8;
const KEY: &str = "key";

/// What became of everybody, and when, from the start.
type Outcomes = Arc<Mutex<BTreeMap<String, (&'static str, Duration)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_the_expected_outcome() {
    let WaitingVectors { scenarios } = load("waiting.json");
    let mut waiting: Vec<_> = scenarios.into_iter().filter(|scenario| scenario.real_time).collect();
    assert!(waiting.len() > 20);
    let (mut running, mut failures) = (JoinSet::new(), Vec::new());
    loop {
        while running.len() < AT_A_TIME
            && let Some(scenario) = waiting.pop()
        {
            running.spawn(until_in_time(scenario));
        }
        let Some(ended) = running.join_next().await else { break };
        failures.extend(ended.expect("no panic"));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a scenario until no event is late, and answers how the outcomes differ.
async fn until_in_time(scenario: Scenario) -> Vec<String> {
    for _ in 0..ATTEMPTS {
        if let Some(differences) = attempt(&scenario).await {
            return differences;
        }
    }
    vec![format!("{}: an event was late each time", scenario.name)]
}

async fn attempt(scenario: &Scenario) -> Option<Vec<String>> {
    let mut builder = Limiter::builder();
    for limit in &scenario.limits {
        builder = builder.limit(limit);
    }
    if let Some(max_waiting) = scenario.max_waiting {
        builder = builder.max_waiting(max_waiting);
    }
    let limiter = builder.build().expect("the vectors' limits are valid");
    let mut world = World {
        limiter,
        outcomes: Outcomes::default(),
        callers: HashMap::new(),
        reservations: HashMap::new(),
        start: Instant::now(),
    };
    let first = scenario.events.first().map_or(0, Timed::now);
    let (mut found, mut is_late) = (Vec::new(), false);
    for timed in &scenario.events {
        let due = world.start + Duration::from_nanos(timed.now() - first);
        sleep_until(Later::from_std(due)).await;
        let answer = world.run(&timed.event).await;
        is_late |= due.elapsed() > LATE;
        if !is_as_expected(&answer, &timed.expect) {
            found.push(format!("at {:?}: {answer:?}, not {:?}", due - world.start, timed.expect));
        }
    }
    for (_, caller) in world.callers {
        _ = caller.await;
    }
    let outcomes = world.outcomes.lock().expect("no panic");
    for (id, expected) in &scenario.outcomes {
        let outcome = outcomes.get(id);
        if outcome.map(|(kind, _)| *kind) != Some(expected.kind()) {
            found.push(format!("{id}: {outcome:?}, not {expected:?}"));
        }
        if let (Fate::Served { served }, Some((_, at))) = (expected, outcome) {
            let due = Duration::from_nanos(nanos(served) - first);
            // Nothing is early, because no event is. The limiter's clock and that of the test differ by
            // some microseconds.
            if *at + Duration::from_micros(100) < due {
                found.push(format!("{id} came at {at:?}, before {due:?}"));
            }
        }
    }
    let found = found.iter().map(|difference| format!("{}: {difference}", scenario.name)).collect();
    (!is_late).then_some(found)
}

/// Whether an answer is that of the vectors, apart from times.
fn is_as_expected(answer: &Option<Value>, expected: &Option<Value>) -> bool {
    let without_times = |value: &Option<Value>| {
        let mut value = value.clone();
        if let Some(Value::Object(fields)) = &mut value {
            fields.remove("until");
        }
        value
    };
    without_times(answer) == without_times(expected)
}

struct World {
    limiter: Limiter,
    outcomes: Outcomes,
    callers: HashMap<String, JoinHandle<()>>,
    reservations: HashMap<String, Reservation>,
    start: Instant,
}

impl World {
    async fn run(&mut self, event: &Event) -> Option<Value> {
        match event {
            Event::Arrive { ids, cost, timeout } => {
                let timeout =
                    timeout.as_deref().map(|timeout| Duration::from_nanos(nanos(timeout)));
                ids.iter().for_each(|id| self.arrive(id, *cost, timeout));
            }
            Event::Leave { ids } => {
                for id in ids {
                    self.leave(id).await;
                }
            }
            event => return self.operate(event).expect("a valid operation"),
        }
        None
    }

    /// A caller joins the line before this returns.
    fn arrive(&mut self, id: &str, cost: u64, timeout: Option<Duration>) {
        let acquiring = self.limiter.acquire_async(KEY, cost, timeout);
        let (id, outcomes, start) = (id.to_owned(), Arc::clone(&self.outcomes), self.start);
        let caller = tokio::spawn({
            let id = id.clone();
            async move {
                let kind = match acquiring.await {
                    Ok(_) => "served",
                    Err(Error::RateLimited { .. }) => "refused",
                    Err(_) => "closed",
                };
                outcomes.lock().expect("no panic").insert(id, (kind, start.elapsed()));
            }
        });
        self.callers.insert(id, caller);
    }

    async fn leave(&mut self, id: &str) {
        let Some(caller) = self.callers.remove(id) else { return };
        caller.abort();
        _ = caller.await;
        let mut outcomes = self.outcomes.lock().expect("no panic");
        outcomes.entry(id.to_owned()).or_insert(("left", self.start.elapsed()));
    }

    fn operate(&mut self, event: &Event) -> Result<Option<Value>, Error> {
        let limiter = &self.limiter;
        match event {
            Event::Waiting => {
                let waiting = limiter.waiting(KEY)?;
                return Ok(Some(json!({ "callers": waiting.callers, "tokens": waiting.tokens })));
            }
            Event::Settle { charged, actual } => drop(limiter.settle(KEY, *charged, *actual)?),
            Event::Credit { tokens } => drop(limiter.credit(KEY, *tokens)?),
            Event::Hold { wait } => drop(limiter.hold(KEY, Duration::from_nanos(nanos(wait)))?),
            Event::Reset => drop(limiter.reset(KEY)?),
            Event::Reserve { name, cost, max_wait } => {
                let max_wait = Duration::from_nanos(nanos(max_wait));
                let reservation = limiter.reserve(KEY, *cost, Some(max_wait))?;
                let allowed = reservation.allowed();
                self.reservations.insert(name.clone(), reservation);
                return Ok(Some(json!({ "allowed": allowed })));
            }
            Event::Cancel { name } => {
                let reservation = self.reservations.remove(name).expect("a given slot");
                reservation.cancel()?;
            }
            Event::Check { cost } => {
                let allowed = limiter.check(KEY, *cost)?.allowed;
                return Ok(Some(json!({ "allowed": allowed })));
            }
            Event::Close => limiter.close(),
            Event::Arrive { .. } | Event::Leave { .. } => {}
        }
        Ok(None)
    }
}
