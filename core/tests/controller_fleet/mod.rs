//! A fleet of workers before a vendor whose limit nobody knows, in simulated time: with our
//! controller on shared state, or with a re-implementation of botocore's adaptive mode in each
//! process.

mod botocore;
mod queue;
mod vendor;

use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tidegate_core::{
    CallOutcome, Cells, ControlPolicy, ControlReport, Controller, Gate, GateAnswer, GatePolicy,
    GateReport, change_limits, decide_tiers,
};

pub(crate) use botocore::Adaptive;
pub(crate) use queue::Queue;
pub(crate) use vendor::{Vendor, Window};

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MILLI: u64 = 1_000;
/// A time since 1970, as a store's clock has it.
const START: u64 = 1_764_000_000 * SECOND;
/// Each process tells its outcomes this often.
const TOLD_EVERY: u64 = 100 * MILLI;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % bound
    }
}

#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) processes: usize,
    pub(crate) window: Window,
    pub(crate) limit: u64,
    /// The limit from the middle of the run on.
    pub(crate) later_limit: u64,
    pub(crate) seconds: u64,
    /// Whether a refusal says when to come back.
    pub(crate) says_when: bool,
}

/// What the vendor saw in each second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Second {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

pub(crate) struct Run(pub(crate) Vec<Second>);

impl Run {
    fn sum(&self, range: core::ops::Range<usize>) -> Second {
        self.0[range].iter().fold(Second::default(), |sum, second| Second {
            accepted: sum.accepted + second.accepted,
            refused: sum.refused + second.refused,
        })
    }

    /// The refused calls among all, in percent.
    pub(crate) fn refused(&self, range: core::ops::Range<usize>) -> f64 {
        let sum = self.sum(range);
        100.0 * sum.refused as f64 / (sum.accepted + sum.refused).max(1) as f64
    }

    /// The accepted calls, of those that the limit allows, in percent.
    pub(crate) fn used(&self, range: core::ops::Range<usize>, limit: u64) -> f64 {
        let seconds = range.len() as u64;
        100.0 * self.sum(range).accepted as f64 / (limit * seconds) as f64
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The first of those who wait in a line asks for its call.
    Asks(usize),
    /// Its call arrives at the vendor.
    Arrives(usize),
    /// It has the answer, and perhaps a time for which to make no call.
    Answered(usize, bool, u64),
    /// A process tells what it has seen.
    Tells(usize),
}

/// What paces the calls.
trait Pacer {
    /// The line in which the workers of a process wait.
    fn line(&self, process: usize) -> usize;
    /// Whether the first of a line may make its call, or when to ask again.
    fn ask(&mut self, line: usize, now: u64) -> Result<(), u64>;
    fn answered(&mut self, process: usize, now: u64, accepted: bool, hold: u64, latency: u64);
    fn tell(&mut self, process: usize, now: u64);
}

/// Our controller, gate and bucket, shared by all.
struct Shared {
    controller: Controller,
    policy: ControlPolicy,
    gate: Gate,
    cells: Cells,
    untold: Vec<ControlReport>,
}

impl Pacer for Shared {
    fn line(&self, _: usize) -> usize {
        0
    }

    fn ask(&mut self, _: usize, now: u64) -> Result<(), u64> {
        match self.gate.admit(&GatePolicy::DEFAULT, now) {
            GateAnswer::Wait { until } => return Err(until),
            // The bucket paces the calls, so the others need not wait for the first one's answer.
            GateAnswer::Probe { number, .. } => {
                let probe = Some((number, CallOutcome::Throttled));
                let report = GateReport { probe, ..GateReport::default() };
                self.gate.report(&GatePolicy::DEFAULT, now, &report);
            }
            GateAnswer::Pass | GateAnswer::Ramp { .. } => {}
        }
        let pace = [self.controller.pace(&self.policy).unwrap()];
        let decision = decide_tiers(&pace, &mut self.cells, now * 1_000, 1).unwrap();
        if decision.allowed { Ok(()) } else { Err(now + decision.retry_after.div_ceil(1_000)) }
    }

    fn answered(&mut self, process: usize, now: u64, accepted: bool, hold: u64, latency: u64) {
        let report = &mut self.untold[process];
        if accepted {
            report.ok += 1;
            report.latency += latency;
        } else {
            report.throttled += 1;
            report.hold = hold;
            // A refusal is told at once.
            self.tell(process, now);
        }
    }

    fn tell(&mut self, process: usize, now: u64) {
        let report = core::mem::take(&mut self.untold[process]);
        self.gate.report(
            &GatePolicy::DEFAULT,
            now,
            &GateReport { ok: report.ok, hold: report.hold, ..GateReport::default() },
        );
        let before = [self.controller.pace(&self.policy).unwrap()];
        self.controller.report(&self.policy, now, &report);
        let after = [self.controller.pace(&self.policy).unwrap()];
        change_limits(&before, &after, &mut self.cells, now * 1_000).unwrap();
    }
}

/// Botocore's adaptive mode in each process.
struct Apart(Vec<Adaptive>);

impl Pacer for Apart {
    fn line(&self, process: usize) -> usize {
        process
    }

    fn ask(&mut self, line: usize, now: u64) -> Result<(), u64> {
        self.0[line].acquire(now)
    }

    fn answered(&mut self, process: usize, now: u64, accepted: bool, _: u64, _: u64) {
        self.0[process].answered(now, !accepted);
    }

    fn tell(&mut self, _: usize, _: u64) {}
}

impl World {
    pub(crate) fn with_ours(self) -> Run {
        self.run(&mut Shared {
            controller: Controller::new(),
            policy: ControlPolicy::DEFAULT,
            gate: Gate::new(),
            cells: Cells::default(),
            untold: vec![ControlReport::default(); self.processes],
        })
    }

    pub(crate) fn with_botocore(self) -> Run {
        self.run(&mut Apart(vec![Adaptive::new(START); self.processes]))
    }

    /// All processes together have 60 workers, each of which makes one call after the other.
    fn run(self, pacer: &mut impl Pacer) -> Run {
        let workers = 60usize.next_multiple_of(self.processes);
        let process = |worker: usize| worker % self.processes;
        let mut random = Random(self.seed);
        let mut vendor = Vendor::new(self.window, self.limit, START + random.below(SECOND));
        let mut seconds = vec![Second::default(); self.seconds as usize];
        let mut queue = BinaryHeap::new();
        let mut sent = vec![0; workers];
        let mut number = 0;
        let mut push = |queue: &mut BinaryHeap<_>, at: u64, event: Event| {
            number += 1;
            queue.push(Reverse((at, number, event)));
        };
        let mut lines = vec![VecDeque::new(); self.processes];
        for worker in 0..workers {
            lines[pacer.line(process(worker))].push_back(worker);
        }
        for line in 0..self.processes {
            push(&mut queue, START + random.below(SECOND / 10), Event::Asks(line));
        }
        for process in 0..self.processes {
            push(&mut queue, START + random.below(TOLD_EVERY), Event::Tells(process));
        }
        while let Some(Reverse((now, _, event))) = queue.pop() {
            let second = ((now - START) / SECOND) as usize;
            if second >= seconds.len() {
                break;
            }
            match event {
                Event::Asks(line) => {
                    let Some(worker) = lines[line].front().copied() else { continue };
                    match pacer.ask(line, now) {
                        Ok(()) => {
                            lines[line].pop_front();
                            sent[worker] = now;
                            let delay = 10 * MILLI + random.below(20 * MILLI);
                            push(&mut queue, now + delay, Event::Arrives(worker));
                            push(&mut queue, now, Event::Asks(line));
                        }
                        Err(again) => push(&mut queue, again.max(now + 1), Event::Asks(line)),
                    }
                }
                Event::Arrives(worker) => {
                    if second as u64 == self.seconds / 2 {
                        vendor.limit = self.later_limit;
                    }
                    let accepted = vendor.accepts(now);
                    let seen = &mut seconds[second];
                    seen.accepted += u64::from(accepted);
                    seen.refused += u64::from(!accepted);
                    let works = if accepted { 20 * MILLI + random.below(60 * MILLI) } else { 0 };
                    let back = 10 * MILLI + random.below(20 * MILLI);
                    let says_when = self.says_when && !accepted;
                    let hold = if says_when { vendor.wait(now) } else { 0 };
                    push(&mut queue, now + works + back, Event::Answered(worker, accepted, hold));
                }
                Event::Answered(worker, accepted, hold) => {
                    pacer.answered(process(worker), now, accepted, hold, now - sent[worker]);
                    let line = pacer.line(process(worker));
                    lines[line].push_back(worker);
                    if lines[line].len() == 1 {
                        push(&mut queue, now, Event::Asks(line));
                    }
                }
                Event::Tells(process) => {
                    pacer.tell(process, now);
                    push(&mut queue, now + TOLD_EVERY, Event::Tells(process));
                }
            }
        }
        Run(seconds)
    }
}
