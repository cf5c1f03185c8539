//! The figures of a run, from what was written down.

use super::ledger::Loss;
use super::{Run, SECOND, World};
use crate::figures::{Figure, figure};

impl World<'_> {
    pub(super) fn into_run(mut self, seed: u64, events: u64, is_conserved: bool) -> Run {
        self.ideal.finish();
        let ends: Vec<u64> = self.ideal.ends().collect();
        // The ideal may be slower: where a run breaks the vendor's limit.
        for end in ends.into_iter().filter(|end| *end <= self.scenario.lasts.0) {
            self.recorder.second(end).ideal += 1;
        }
        let figures = self.figures();
        let recorder = self.recorder;
        Run {
            seed,
            figures,
            seconds: recorder.seconds,
            log: recorder.log.unwrap_or_default(),
            events,
            is_conserved,
        }
    }

    fn figures(&mut self) -> Vec<Figure> {
        let (ledger, recorder, ideal) = (&self.ledger, &mut self.recorder, &mut self.ideal);
        let lost = |loss: Loss| u64::from(ledger.lost[loss as usize]);
        let (time, ideal_time) = (recorder.done_at.last().copied().unwrap_or(0), ideal.end());
        let done = u64::from(ledger.done);
        let produced = u64::from(ledger.produced);
        let mean_rate = rate(done, time);
        let used = |mean: u128| ideal.rate().map(|most| (mean * 1_000_000 / most.max(1)) as u64);
        let ideal_rate = rate(produced, ideal_time);
        let window = self.scenario.vendor.limit.map_or(SECOND, |limit| limit.period());
        let busy = || {
            recorder.seconds.iter().map(|second| u64::from(second.calls)).filter(|calls| *calls > 0)
        };
        let seconds = busy().count() as u64;
        let count = |name, value: u64| figure(name, value, None);
        let with = |name, value: u64, ideal: u64| figure(name, value, Some(ideal));
        let (most_in_second, most_in_window) = (ideal.most_in(SECOND), ideal.most_in(window));
        let mut figures = vec![
            count("produced", produced),
            with("done", done, produced),
            with("lost", u64::from(ledger.all_lost()), 0),
            count("lost_received", lost(Loss::Received)),
            count("lost_given_up", lost(Loss::GivenUp)),
            count("lost_failed", lost(Loss::Failed)),
            count("lost_stale", lost(Loss::Stale)),
            count("unfinished", u64::from(ledger.queued + ledger.in_flight)),
            with("time", time, ideal_time),
            with("mean_rate", mean_rate as u64, ideal_rate as u64),
            with("steady_rate", steady(&recorder.done_at) as u64, steady(&ideal.starts) as u64),
            figure("used", used(mean_rate).unwrap_or(0), used(ideal_rate)),
            with("most_in_any_second", recorder.in_second.most, most_in_second),
            with("most_in_any_window", recorder.in_window.most, most_in_window),
        ];
        let seed_mean = rate(busy().sum(), seconds * SECOND) as u64;
        let (seed_most, seed_least) = (busy().max().unwrap_or(0), busy().min().unwrap_or(0));
        let (waits, ideals) = (Waits::of(&mut recorder.waits), Waits::of(&mut ideal.waits));
        figures.extend([
            with("wait_mean", waits.mean, ideals.mean),
            with("wait_p50", waits.p50, ideals.p50),
            with("wait_p99", waits.p99, ideals.p99),
            with("wait_max", waits.max, ideals.max),
            count("late", u64::from(recorder.late)),
            with("calls", recorder.calls, produced),
            with("refused", recorder.refused, 0),
            count("failed", recorder.failed),
            with("duplicates", recorder.duplicates, 0),
            count("receives", recorder.receives),
            with("throttles", recorder.throttles, 0),
            count("killed", recorder.killed),
            count("max_concurrency", u64::from(recorder.max_concurrency)),
            count("instances", u64::from(recorder.instances)),
            count("store_errors", recorder.store_errors),
            count("seed_mean", seed_mean),
            count("seed_most", seed_most),
            count("seed_least", seed_least),
        ]);
        figures
    }
}

/// How many of these times lie in a second between the first and the last tenth of them, in thousandths; 0 if they are
/// too few or all the same.
fn steady(times: &[u64]) -> u128 {
    let (from, to) = (times.len() / 10, times.len() * 9 / 10);
    let time = times.get(to).zip(times.get(from)).map_or(0, |(last, first)| last - first);
    rate((to - from) as u64, time)
}

/// The number of events in a time, in thousandths of one in a second, rounded to the nearest.
fn rate(count: u64, time: u64) -> u128 {
    let thousandths = u128::from(count) * 1000 * u128::from(SECOND) + u128::from(time / 2);
    thousandths.checked_div(u128::from(time)).unwrap_or(0)
}

/// Times in nanoseconds.
#[derive(Default)]
struct Waits {
    mean: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Waits {
    fn of(waits: &mut [u64]) -> Self {
        waits.sort_unstable();
        let Some(max) = waits.last().copied() else { return Self::default() };
        let sum: u128 = waits.iter().map(|wait| u128::from(*wait)).sum();
        let quantile = |percent: usize| waits[(waits.len() * percent / 100).min(waits.len() - 1)];
        let mean = (sum / waits.len() as u128) as u64;
        Self { mean, p50: quantile(50), p99: quantile(99), max }
    }
}
