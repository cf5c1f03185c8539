//! A clock that reads the processor's counter.

use once_cell::race::OnceBox;
use tidegate_core::Clock;

use super::MonotonicClock;
use super::discipline::{Discipline, rate};

/// The default clock of `memory://`: the processor's own counter, kept to the operating system's
/// monotonic clock.
///
/// Reading it takes a few nanoseconds and no system call. It is aligned to the Unix
/// epoch once per process, when first used; all of a process's `FastClock`s show the same
/// time. Later steps of the wall clock change nothing.
///
/// - *Which counter.* The time stamp counter on x86-64 where the processor says that it is
///   invariant, the system counter on 64-bit ARM; elsewhere the monotonic clock itself.
/// - *First use* measures the counter's rate. This usually takes two milliseconds, and at most a
///   fifth of a second on a machine that is too busy to measure on.
/// - *Drift.* In every 100 ms in which it is read, one reading also reads the system's monotonic
///   clock and corrects: forward at once, and more slowly if the counter was ahead. It stays within
///   microseconds of `std::time::Instant` for as long as the process runs.
/// - *Backward.* Corrections do not turn it back. Readings on different processors can be out of
///   order by the difference of their counters: nanoseconds on most machines, microseconds on some
///   virtual ones. A bucket that gets the earlier time later only finds less.
/// - *Unstable counters* may jump, for example when a virtual machine moves. The next correction sees
///   the jump, within 100 ms. Until then the clock is off by the jump, at most 300 ms. If it was
///   ahead, it then slows down or stands still until time has caught up. If it was back, nothing was
///   minted, as with any clock that goes backward.
/// - *Suspend.* It follows the monotonic clock, which stands still meanwhile on Linux and macOS.
/// - *Its end.* The 64-bit count of nanoseconds ends in the year 2554. It then stays at its end, and
///   nothing is admitted any more. It does not wrap before.
///
/// ```
/// use tidegate::{Clock, FastClock};
/// let clock = FastClock::new();
/// let started = clock.now();
/// // ... some work ...
/// let nanoseconds = clock.now().saturating_sub(started);
/// # assert!(nanoseconds < 60_000_000_000);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FastClock(&'static Timebase<MonotonicClock>);

/// The processor's counter, kept to a slower clock, the truth.
#[derive(Debug)]
pub(crate) struct Timebase<C> {
    source: Source<C>,
    discipline: Discipline,
}

#[derive(Debug)]
struct Source<C> {
    counter: quanta::Clock,
    truth: C,
}

/// How long the counter's rate is measured before the clock is first read.
const CALIBRATION_NANOS: u64 = 1_000_000;
/// Three readings of clocks take no longer than this, unless they are interrupted.
const INTERRUPTED_NANOS: u64 = 200;

static TIMEBASE: OnceBox<Timebase<MonotonicClock>> = OnceBox::new();

impl FastClock {
    /// The process's fast clock; the first call measures the counter's rate.
    pub fn new() -> Self {
        Self(TIMEBASE.get_or_init(|| Box::new(Timebase::new(MonotonicClock::new()))))
    }
}

impl Default for FastClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FastClock {
    #[inline]
    fn now(&self) -> u64 {
        self.0.now()
    }
}

impl<C: Clock> Timebase<C> {
    /// Measures the counter's rate by `truth`, which never goes backward.
    pub(crate) fn new(truth: C) -> Self {
        // quanta measures a rate too, but only once, and without a guard against interruptions. So
        // only its counter is used.
        let source = Source { counter: quanta::Clock::new(), truth };
        let (first_ticks, first) = source.sample();
        let (ticks, nanos) = loop {
            let (ticks, nanos) = source.sample();
            if nanos - first >= CALIBRATION_NANOS {
                break (ticks, nanos);
            }
            core::hint::spin_loop();
        };
        let rate = rate(ticks.wrapping_sub(first_ticks), nanos - first);
        Self { discipline: Discipline::new(rate, ticks, nanos), source }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self.discipline.read(self.source.counter.raw()) {
            Some(now) => now,
            None => self.correct(),
        }
    }

    #[cold]
    fn correct(&self) -> u64 {
        self.discipline.correct(|| self.source.sample())
    }
}

impl<C: Clock> Source<C> {
    /// The counter and the truth at one moment. A thread may be interrupted between the two readings,
    /// so the closest pair of a few is taken.
    fn sample(&self) -> (u64, u64) {
        let mut closest = (u64::MAX, 0, 0);
        for _ in 0..8 {
            let before = self.counter.raw();
            let truth = self.truth.now();
            let apart = self.counter.raw().wrapping_sub(before);
            if apart < closest.0 {
                closest = (apart, before.wrapping_add(apart / 2), truth);
            }
            if self.counter.delta_as_nanos(0, apart) < INTERRUPTED_NANOS {
                break;
            }
        }
        (closest.1, closest.2)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};
    use core::time::Duration;
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// How much two processors' counters may differ: microseconds (16 were seen on a virtual machine).
    /// A wrong line would be off by a part of 100 ms.
    const SKEW: u64 = 100_000;

    /// A reading lies between the monotonic clock's readings before and after it, however
    /// long the thread was interrupted, but for the error of one interval: 100 ppm of 100 ms,
    /// which is what an error of 100 ns in the millisecond of the first measurement makes.
    #[test]
    fn agrees_with_the_monotonic_clock() {
        let clock = FastClock::new();
        let end = Instant::now() + Duration::from_millis(350);
        while Instant::now() < end {
            let before = clock.0.source.truth.now();
            let now = clock.now();
            let after = clock.0.source.truth.now();
            assert!(now + 10_000 >= before, "{} ns behind", before - now);
            assert!(now <= after + 10_000, "{} ns ahead", now - after);
        }
    }

    #[test]
    fn is_in_order_over_threads() {
        let latest = AtomicU64::new(0);
        let end = Instant::now() + Duration::from_millis(350);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let clock = FastClock::new();
                    let mut mine = 0;
                    while Instant::now() < end {
                        for _ in 0..1_000 {
                            let seen = latest.load(Ordering::SeqCst);
                            let now = clock.now();
                            assert!(now + SKEW >= mine, "{now} after {mine} of the same thread");
                            assert!(now + SKEW >= seen, "{now} after {seen} of another thread");
                            mine = now;
                            latest.fetch_max(now, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert!(latest.into_inner() > 0);
    }

    #[test]
    fn all_fast_clocks_show_one_time() {
        let (one, other) = (FastClock::new(), FastClock::new());
        let before = one.now();
        let between = other.now();
        assert!(before <= between + SKEW && between <= one.now() + SKEW);
    }
}
