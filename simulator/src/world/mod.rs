//! The world of a scenario: everything that happens, in the order of time, with the real engine in it.
//!
//! Time is an integer, randomness is one stream for each component, and nothing is read from the machine, so that
//! a run is the same to the byte wherever it runs.

mod batches;
mod delivery;
mod events;
mod ideal;
mod ledger;
mod limiter;
mod outcome;
mod random;
mod recorder;
mod vendor;
mod workers;

use std::collections::VecDeque;

use self::batches::Batch;
use self::delivery::Poller;
use self::events::{Event, Events};
use self::ideal::Ideal;
use self::ledger::Ledger;
use self::limiter::Limiter;
pub(crate) use self::random::{Stream, fnv1a};
use self::recorder::{Busiest, Recorder};
pub use self::recorder::{LogRow, Second};
use self::vendor::Vendor;
use self::workers::Node;
use crate::figures::Figure;
use crate::scenario::{Place, Scenario};

const SECOND: u64 = 1_000_000_000;
/// The time of day at which a run begins, in nanoseconds since 1970: a bucket's cell of 0 is then one never used.
const EPOCH: u64 = 1_700_000_000 * SECOND;
/// How often a run tells how far it is, in events.
const TELLS_EACH: u64 = 65_536;

/// A run of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// The figures, in the order of [`figure_names`](crate::figures::figure_names).
    pub figures: Vec<Figure>,
    /// Each second of the run.
    pub seconds: Vec<Second>,
    /// Each call that reached the vendor, if that was asked for.
    pub log: Vec<LogRow>,
    /// The events that the run took.
    pub events: u64,
    /// Whether queued + in flight + done + lost was what had been produced, at every event.
    pub is_conserved: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The time in the run, in nanoseconds.
    pub now: u64,
    /// The messages that are done or lost.
    pub ended: u32,
    /// The messages in all.
    pub messages: u32,
    /// The events so far.
    pub events: u64,
}

/// Runs a scenario with a seed. `tell` hears now and then how far it is.
pub fn run(scenario: &Scenario, seed: u64, with_log: bool, tell: &mut dyn FnMut(Progress)) -> Run {
    let mut world = World::new(scenario, seed, with_log);
    let (events, is_conserved) = world.go(tell);
    world.into_run(seed, events, is_conserved)
}

/// All components.
struct World<'a> {
    scenario: &'a Scenario,
    now: u64,
    events: Events,
    ledger: Ledger,
    recorder: Recorder,
    vendor: Vendor,
    limiter: Option<Limiter>,
    ideal: Ideal,
    arrivals: Stream,
    /// Messages that can be received, the first first. One that is no longer queued is passed over.
    visible: VecDeque<u32>,
    pollers: Vec<Poller>,
    /// Pollers that found nothing.
    parked: Vec<u32>,
    retries: Stream,
    nodes: Vec<Node>,
    /// Slots that nodes have and not used yet.
    open_slots: u32,
    batches: Vec<Batch>,
    free_places: Vec<u32>,
    /// Instances that wait for a batch.
    idle_instances: Vec<u32>,
    running: u32,
    started: u32,
    durations: Stream,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, with_log: bool) -> Self {
        let window = scenario.vendor.limit.map_or(SECOND, |limit| limit.period());
        Self {
            scenario,
            now: 0,
            events: Events::default(),
            ledger: Ledger::new(scenario.source.messages),
            recorder: Recorder {
                log: with_log.then(Vec::new),
                in_second: Busiest::new(SECOND),
                in_window: Busiest::new(window),
                ..Recorder::default()
            },
            vendor: Vendor::new(&scenario.vendor, seed),
            limiter: scenario.limiter.as_ref().map(|terms| Limiter::new(terms, seed)),
            ideal: Ideal::new(scenario),
            arrivals: Stream::new(seed, "source"),
            visible: VecDeque::new(),
            pollers: Vec::new(),
            parked: Vec::new(),
            retries: Stream::new(seed, "retries"),
            nodes: Vec::new(),
            open_slots: 0,
            batches: Vec::new(),
            free_places: Vec::new(),
            idle_instances: Vec::new(),
            running: 0,
            started: 0,
            durations: Stream::new(seed, "function"),
        }
    }

    /// Answers the number of events, and whether no message was lost sight of.
    fn go(&mut self, tell: &mut dyn FnMut(Progress)) -> (u64, bool) {
        self.begin();
        let (mut events, mut is_conserved) = (0, true);
        while let Some((at, event)) = self.events.next() {
            if at > self.scenario.lasts.0 {
                self.now = self.scenario.lasts.0;
                break;
            }
            self.now = at;
            self.happen(event);
            events += 1;
            is_conserved &= self.ledger.is_balanced();
            debug_assert!(self.ledger.is_balanced(), "after {event:?} at {at}");
            let (queued, in_flight) = (self.ledger.queued, self.ledger.in_flight);
            let second = self.recorder.second(at);
            (second.queued, second.in_flight) = (queued, in_flight);
            if events % TELLS_EACH == 0 {
                let ended = self.ledger.done + self.ledger.all_lost();
                let messages = self.scenario.source.messages;
                tell(Progress { now: at, ended, messages, events });
            }
            if self.ledger.is_over() && self.running == 0 {
                break;
            }
        }
        (events, is_conserved && self.ledger.is_counted())
    }

    fn begin(&mut self) {
        for fault in 0..self.scenario.faults.len() {
            self.events.add(self.scenario.faults[fault].at.0, Event::Fault(fault as u32));
        }
        self.begin_source();
        self.begin_pollers();
        self.begin_nodes();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Produce => self.produce(),
            Event::Offer(message) => self.offer(message),
            Event::Reappear { message, receives } => self.reappear(message, receives),
            Event::Poll(poller) => self.poll(poller),
            Event::Try(poller) => self.try_batch(poller),
            Event::Ramp => self.ramp(),
            Event::Begin(batch) => self.begin_calls(batch),
            Event::Leave(call) => self.leave(call),
            Event::Arrive(call) => self.arrive(call),
            Event::Answer { call, reply } => self.answer(call, reply),
            Event::TimeOut(batch) => self.time_out(batch),
            Event::Wake(node) => self.wake(node),
            Event::Slot(node) => self.slot(node),
            Event::Fault(fault) => self.fault(fault),
        }
    }

    fn fault(&mut self, fault: u32) {
        let fault = &self.scenario.faults[fault as usize];
        for _ in 0..fault.crash {
            self.crash_oldest();
        }
        if let Some(limit) = &fault.vendor_limit {
            self.vendor.change_limit(limit, self.now);
            self.ideal.change_limit(limit, self.now);
        }
        if let Some(latency) = &fault.vendor_latency {
            self.vendor.change_latency(latency);
        }
        let Some(limiter) = &mut self.limiter else { return };
        if let Some(limit) = &fault.limit {
            limiter.change_limit(limit, self.now);
        }
        if fault.clock != 0 {
            limiter.change_clock(fault.clock);
        }
        if fault.store_down {
            limiter.go_down(self.now + fault.lasts.0);
        }
    }

    /// Whether the calls of a function wait for a slot.
    fn limits_calls(&self) -> bool {
        self.scenario.limiter.as_ref().is_some_and(|limiter| limiter.place == Place::InFunction)
    }
}
