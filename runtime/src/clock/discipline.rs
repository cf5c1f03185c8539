//! Keeps a counter to the true time, as a line that is measured anew now and then.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// How long readers follow a line before one compares the counter with the true time again.
pub(super) const REFRESH_NANOS: u64 = 100_000_000;
/// How long readers may follow a line while another thread makes that comparison.
const TRUST_NANOS: u64 = 2 * REFRESH_NANOS;
/// How far the counter of one processor may be behind that of another.
const SKEW_NANOS: u64 = 1_000_000;
/// How long after its sample a line may be laid. In this time, lines that differ by 100 ppm part by
/// one nanosecond.
const PROMPT_NANOS: u64 = 10_000;
const LAYING_TRIES: u32 = 8;

/// Turns the ticks of a free-running counter into nanoseconds that stay close to the true time, as
/// NTP disciplines a clock.
///
/// Time is a line through a point (ticks, nanoseconds) with a rate. Readers follow it without a lock.
/// After [`REFRESH_NANOS`], the next reader reads the true time and lays a new line through the
/// present.
#[derive(Debug)]
pub(super) struct Discipline {
    /// How many lines have been laid; the current one is `lines[laid % 2]`.
    laid: AtomicU64,
    lines: [Line; 2],
    refresh: u64,
    trust: u64,
    skew: u64,
    prompt: u64,
    first_rate: u64,
    /// A lock for the one thread that lays a line. If it is never released (a fork may happen while it
    /// is held), readers read the true time each time, which is slower but not wrong.
    correcting: AtomicBool,
    true_rate: AtomicU64,
    sampled_ticks: AtomicU64,
    sampled_truth: AtomicU64,
}

#[derive(Debug)]
struct Line {
    ticks: AtomicU64,
    nanos: AtomicU64,
    /// Nanoseconds per tick, with 32 fractional bits.
    rate: AtomicU64,
}

#[derive(Clone, Copy)]
struct Point {
    ticks: u64,
    nanos: u64,
    rate: u64,
}

impl Discipline {
    /// A line from `ticks`, which is the time `nanos`, with `rate` nanoseconds per tick (32 fractional
    /// bits).
    pub(super) fn new(rate: u64, ticks: u64, nanos: u64) -> Self {
        let rate = rate.max(1);
        Self {
            laid: AtomicU64::new(0),
            lines: [(); 2].map(|()| Line {
                ticks: AtomicU64::new(ticks),
                nanos: AtomicU64::new(nanos),
                rate: AtomicU64::new(rate),
            }),
            refresh: ticks_of(REFRESH_NANOS, rate),
            trust: ticks_of(TRUST_NANOS, rate),
            skew: ticks_of(SKEW_NANOS, rate),
            prompt: ticks_of(PROMPT_NANOS, rate),
            first_rate: rate,
            correcting: AtomicBool::new(false),
            true_rate: AtomicU64::new(rate),
            sampled_ticks: AtomicU64::new(ticks),
            sampled_truth: AtomicU64::new(nanos),
        }
    }

    /// The time at `ticks`; `None` if a new line is due.
    #[inline]
    pub(super) fn read(&self, ticks: u64) -> Option<u64> {
        let line = self.line();
        // If the counter has gone backward, the difference wraps to a large one.
        let distance = ticks.wrapping_sub(line.ticks);
        (distance < self.refresh).then(|| line.after(distance))
    }

    /// The time now, after laying a line that leads to the true time. `sample` gives the ticks and the
    /// true time of one moment. Time never goes back: if the line was ahead, the next one is flatter,
    /// so that it meets the true time at its end.
    pub(super) fn correct(&self, sample: impl Fn() -> (u64, u64)) -> u64 {
        if self.correcting.swap(true, Ordering::Acquire) {
            return self.while_another_corrects(sample());
        }
        let now = self.correct_alone(&sample);
        self.correcting.store(false, Ordering::Release);
        now
    }

    /// Only for the holder of `correcting`.
    fn correct_alone(&self, sample: impl Fn() -> (u64, u64)) -> u64 {
        // A sample taken here is later than the sample of the current line.
        let (mut ticks, mut truth) = sample();
        let line = self.line();
        if line.ticks.wrapping_sub(ticks) < self.skew {
            return line.nanos;
        }
        if let Some(now) = self.read(ticks) {
            return now;
        }
        // Other threads follow the old line until the new one is laid. If this thread was interrupted
        // meanwhile, the two lines have parted, and it starts again from a new sample.
        for _ in 0..LAYING_TRIES {
            let (later, later_truth) = sample();
            if later.wrapping_sub(ticks) < self.prompt {
                break;
            }
            (ticks, truth) = (later, later_truth);
        }
        let now = truth.max(self.most_told(line, ticks));
        self.measure(ticks, truth);
        let ahead = (now - truth).min(REFRESH_NANOS);
        let rate = self.true_rate.load(Ordering::Relaxed);
        self.lay(Point {
            ticks,
            nanos: now,
            rate: scale(rate, REFRESH_NANOS - ahead, REFRESH_NANOS),
        });
        now
    }

    #[inline]
    fn line(&self) -> Point {
        loop {
            let laid = self.laid.load(Ordering::Acquire);
            let line = &self.lines[(laid & 1) as usize];
            let point = Point {
                ticks: line.ticks.load(Ordering::Relaxed),
                nanos: line.nanos.load(Ordering::Relaxed),
                rate: line.rate.load(Ordering::Relaxed),
            };
            // A line is overwritten by the second one after it, so only a reader that slept through a
            // whole refresh interval has to look again.
            fence(Ordering::Acquire);
            if self.laid.load(Ordering::Relaxed) == laid {
                return point;
            }
        }
    }

    /// Only for the holder of `correcting`.
    fn lay(&self, point: Point) {
        let laid = self.laid.load(Ordering::Relaxed).wrapping_add(1);
        // A reader that sees any of the new values also sees that its line is no longer the current
        // one.
        fence(Ordering::Release);
        let line = &self.lines[(laid & 1) as usize];
        line.ticks.store(point.ticks, Ordering::Relaxed);
        line.nanos.store(point.nanos, Ordering::Relaxed);
        line.rate.store(point.rate, Ordering::Relaxed);
        self.laid.store(laid, Ordering::Release);
    }

    /// The counter's rate since the last sample. A rate that is off by more than a factor of two is a
    /// jump of the counter, and not used.
    fn measure(&self, ticks: u64, truth: u64) {
        let ticks_passed = ticks.wrapping_sub(self.sampled_ticks.swap(ticks, Ordering::Relaxed));
        let passed = truth.saturating_sub(self.sampled_truth.swap(truth, Ordering::Relaxed));
        let rate = rate(ticks_passed, passed);
        if rate / 2 < self.first_rate && rate > self.first_rate / 2 {
            self.true_rate.store(rate, Ordering::Relaxed);
        }
    }

    fn while_another_corrects(&self, (ticks, truth): (u64, u64)) -> u64 {
        let line = self.line();
        let distance = ticks.wrapping_sub(line.ticks);
        if distance < self.trust {
            line.after(distance)
        } else if line.ticks > ticks {
            truth.max(line.nanos)
        } else {
            truth.max(line.after(self.trust))
        }
    }

    /// The latest time that any reader of `line` can have got by the time `ticks`.
    fn most_told(&self, line: Point, ticks: u64) -> u64 {
        let distance = ticks.wrapping_sub(line.ticks);
        if distance < self.trust {
            line.after(distance)
        } else if line.ticks > ticks {
            // The counter was set back. Readers got at most to the point where a refresh is due.
            line.after(self.refresh)
        } else {
            line.after(self.trust)
        }
    }
}

impl Point {
    /// The nanoseconds of `ticks`. Less than about a second of them fits without overflow, because the
    /// product has 32 fractional bits.
    #[inline]
    fn after(self, ticks: u64) -> u64 {
        self.nanos.saturating_add((ticks * self.rate) >> 32)
    }
}

/// Nanoseconds per tick, with 32 fractional bits.
pub(super) fn rate(ticks: u64, nanos: u64) -> u64 {
    scale(1 << 32, nanos, ticks.max(1))
}

fn ticks_of(nanos: u64, rate: u64) -> u64 {
    scale(nanos, 1 << 32, rate).max(1)
}

/// `value * numerator / denominator`, at most `u64::MAX`.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;
    /// A counter of 2 GHz: two ticks per nanosecond.
    const RATE: u64 = 1 << 31;
    const START: u64 = 1_000 * MILLI;

    /// A counter and a true time that a test moves.
    struct Machine {
        discipline: Discipline,
        ticks: u64,
        truth: u64,
        latest: u64,
    }

    impl Machine {
        fn new(rate: u64) -> Self {
            let discipline = Discipline::new(rate, 7_000, START);
            Self { discipline, ticks: 7_000, truth: START, latest: 0 }
        }

        /// The clock's reading; panics if it went backward.
        fn now(&mut self) -> u64 {
            let now = self
                .discipline
                .read(self.ticks)
                .unwrap_or_else(|| self.discipline.correct(|| (self.ticks, self.truth)));
            assert!(now >= self.latest, "{now} after {}", self.latest);
            self.latest = now;
            now
        }

        /// Reads every millisecond for `millis`, with a counter of `ticks_per_milli`, and
        /// gives the clock's largest error from then on.
        fn run(&mut self, millis: u64, ticks_per_milli: u64) -> u64 {
            let mut worst = 0;
            for _ in 0..millis {
                self.truth += MILLI;
                self.ticks = self.ticks.wrapping_add(ticks_per_milli);
                worst = worst.max(self.now().abs_diff(self.truth));
            }
            worst
        }
    }

    #[test]
    fn follows_a_true_counter_to_the_nanosecond() {
        assert!(Machine::new(RATE).run(60_000, 2 * MILLI) <= 1);
    }

    #[test]
    fn a_rate_measured_wrongly_is_right_after_one_interval() {
        // 50 ppm fast, then 50 ppm slow.
        for ticks in [2 * MILLI + 100, 2 * MILLI - 100] {
            let mut machine = Machine::new(RATE);
            assert!(machine.run(101, ticks) <= 5_100);
            machine.run(110, ticks);
            assert!(machine.run(10_000, ticks) <= 2);
        }
    }

    #[test]
    fn a_pause_of_any_length_is_followed() {
        let mut machine = Machine::new(RATE);
        machine.run(5, 2 * MILLI);
        for pause in [150, 250, 86_400_000, 40_000_000_000] {
            machine.truth += pause * MILLI;
            machine.ticks += 2 * pause * MILLI;
            assert_eq!(machine.now().abs_diff(machine.truth), 0);
        }
    }

    /// The counter stops while time goes on: a virtual machine that stood still.
    #[test]
    fn lost_ticks_are_made_up_for_at_the_next_correction() {
        let mut machine = Machine::new(RATE);
        machine.run(5, 2 * MILLI);
        machine.truth += 3_600_000 * MILLI;
        machine.run(100, 2 * MILLI);
        machine.run(110, 2 * MILLI);
        assert!(machine.run(1_000, 2 * MILLI) <= 2);
    }

    /// The true time stands still while the counter goes on, as in a suspended machine.
    #[test]
    fn a_jump_of_the_counter_is_bounded_and_forgotten() {
        for jump in [1, 50, 99, 150, 199, 5_000, 1_000_000_000] {
            let mut machine = Machine::new(RATE);
            machine.run(5, 2 * MILLI);
            machine.ticks += 2 * jump * MILLI;
            assert!(machine.run(500, 2 * MILLI) <= TRUST_NANOS + REFRESH_NANOS, "{jump} ms");
            assert!(machine.run(1_000, 2 * MILLI) <= 2, "{jump} ms");
        }
    }

    #[test]
    fn a_counter_set_back_never_turns_time_back() {
        for back in [150, 5_000, 1_000_000_000] {
            let mut machine = Machine::new(RATE);
            machine.run(50, 2 * MILLI);
            machine.ticks = machine.ticks.wrapping_sub(2 * back * MILLI);
            assert!(machine.run(500, 2 * MILLI) <= TRUST_NANOS, "{back} ms");
            assert!(machine.run(1_000, 2 * MILLI) <= 2, "{back} ms");
        }
    }

    #[test]
    fn a_changed_frequency_is_learnt() {
        let mut machine = Machine::new(RATE);
        machine.run(500, 2 * MILLI);
        machine.run(2_000, 3 * MILLI);
        assert!(machine.run(1_000, 3 * MILLI) <= 2);
    }

    #[test]
    fn a_counter_may_wrap() {
        let mut machine = Machine::new(RATE);
        machine.discipline = Discipline::new(RATE, u64::MAX - 3, START);
        machine.ticks = u64::MAX - 3;
        assert!(machine.run(1_000, 2 * MILLI) <= 1);
    }

    #[test]
    fn slow_and_fast_counters_fit() {
        // 24 MHz, as on ARM, and 5 GHz.
        assert!(Machine::new((1 << 32) * 1_000 / 24).run(10_000, 24_000) <= 50);
        assert!(Machine::new((1 << 32) / 5).run(10_000, 5 * MILLI) <= 2);
    }

    #[test]
    fn stays_at_the_end_of_64_bits() {
        let discipline = Discipline::new(RATE, 0, u64::MAX - 5);
        assert_eq!(discipline.read(100), Some(u64::MAX));
    }

    #[test]
    fn readers_go_on_while_a_corrector_is_away() {
        let mut machine = Machine::new(RATE);
        machine.discipline.correcting.store(true, Ordering::Relaxed);
        // Beyond the trusted stretch the true time is the answer, but not before what was answered.
        assert!(machine.run(1_000, 2 * MILLI) <= 1);
        machine.discipline.correcting.store(false, Ordering::Relaxed);
        assert!(machine.run(1_000, 2 * MILLI) <= 1);
    }
}
