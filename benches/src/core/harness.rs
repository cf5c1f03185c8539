//! Runs contenders in interleaved rounds and reports medians.
//!
//! Every contender runs once in each round, in turn, so that a slow phase of the machine slows them
//! all. Medians, because interruptions only ever add time.

use core::time::Duration;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

/// How long to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Only shows that everything runs: the figures mean nothing.
    Quick,
    Normal,
    /// Adds ten million keys.
    Full,
}

/// A contender: makes a number of calls and answers how long they took.
pub(crate) struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender of one thread that calls again and again.
    pub(crate) fn new(name: &'static str, mut call: impl FnMut() + 'a) -> Self {
        let run = move |calls| {
            let start = Instant::now();
            for _ in 0..calls {
                call();
            }
            start.elapsed()
        };
        Self { name, run: Box::new(run) }
    }

    /// A contender of several threads that start together; the slowest counts. `caller` makes the
    /// function that the thread with this number calls again and again.
    pub(crate) fn on_threads<C: FnMut()>(
        name: &'static str,
        threads: usize,
        caller: impl Fn(usize) -> C + Sync + 'a,
    ) -> Self {
        let run = move |calls| {
            let (barrier, caller) = (Barrier::new(threads), &caller);
            let work = |thread| {
                let mut call = caller(thread);
                barrier.wait();
                let start = Instant::now();
                for _ in 0..calls {
                    call();
                }
                start.elapsed()
            };
            let work = &work;
            thread::scope(|scope| {
                let running: Vec<_> =
                    (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
                let spent = running.into_iter().filter_map(|thread| thread.join().ok());
                spent.max().unwrap_or_default()
            })
        };
        Self { name, run: Box::new(run) }
    }
}

/// Measures ours, the first contender, against each of the others.
pub(crate) fn compare(effort: Effort, case: &str, contenders: Vec<Contender<'_>>) {
    compare_by(effort, case, 1, contenders);
}

/// [`compare`] for contenders whose calls do the work of `works` calls each.
pub(crate) fn compare_by(
    effort: Effort,
    case: &str,
    works: usize,
    mut contenders: Vec<Contender<'_>>,
) {
    let (rounds, slice) = match effort {
        Effort::Quick => (3, Duration::from_micros(200)),
        Effort::Normal | Effort::Full => (41, Duration::from_millis(8)),
    };
    let calls: Vec<u64> = contenders.iter_mut().map(|it| calls_in(slice, it)).collect();
    let mut nanos = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let spent = (contenders[which].run)(calls[which]);
            nanos[which].push(spent.as_nanos() as f64 / (calls[which] * works as u64) as f64);
        }
    }
    for peer in 1..contenders.len() {
        let ratios = nanos[peer].iter().zip(&nanos[0]).map(|(peer, ours)| peer / ours).collect();
        let name = contenders[peer].name;
        report(case, "ns", quantile(&nanos[0], 0.5), quantile(&nanos[peer], 0.5), name, ratios);
    }
}

/// Prints one line for people and one for programs. `ratios` are those of the single rounds.
pub(crate) fn report(
    case: &str,
    unit: &str,
    ours: f64,
    peer: f64,
    peer_name: &str,
    ratios: Vec<f64>,
) {
    let (low, ratio, high) =
        (quantile(&ratios, 0.25), quantile(&ratios, 0.5), quantile(&ratios, 0.75));
    println!(
        "{case:<44} ours {ours:>10.2} {unit:<5} {peer_name:<26} {peer:>11.2} {unit:<5} \
         ratio {ratio:>6.2} ({low:.2} to {high:.2})"
    );
    println!(
        "BENCH {{\"suite\":\"core\",\"case\":\"{case}\",\"ours\":{ours:.3},\"peer\":{peer:.3},\
         \"peer_name\":\"{peer_name}\",\"unit\":\"{unit}\",\"ratio\":{ratio:.3}}}"
    );
}

pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The number of calls that fit in a slice. Finding it warms the contender up.
fn calls_in(slice: Duration, contender: &mut Contender<'_>) -> u64 {
    let mut calls = 64;
    loop {
        let spent = (contender.run)(calls);
        if spent >= slice / 2 {
            let fitting = calls as f64 * slice.as_secs_f64() / spent.as_secs_f64();
            return (fitting as u64).max(1);
        }
        calls *= 2;
    }
}
