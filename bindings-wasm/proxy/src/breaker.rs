//! Keeps a service that does not answer from parking every request.

const FAILURES_TO_OPEN: u32 = 5;
const FIRST_BACKOFF: u64 = 100_000_000;
const LONGEST_BACKOFF: u64 = 5_000_000_000;

/// Counts consecutive failures. After five it is open: no call is let through for
/// 100 ms, then one, the probe. While probes fail the wait doubles, up to 5 s;
/// a success closes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breaker {
    failures: u32,
    /// Zero while closed.
    backoff: u64,
    /// When open: the time of the next probe.
    next_probe: u64,
    probing: bool,
}

impl Breaker {
    pub(crate) const CLOSED: Self = Self { failures: 0, backoff: 0, next_probe: 0, probing: false };

    /// Whether a call may be made at `now`, in nanoseconds.
    pub(crate) fn admits(&mut self, now: u64) -> bool {
        if self.backoff == 0 {
            return true;
        }
        if now < self.next_probe {
            return false;
        }
        // Should this probe's outcome never be heard of, another follows.
        self.probing = true;
        self.next_probe = now.saturating_add(self.backoff.max(LONGEST_BACKOFF));
        true
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::CLOSED;
    }

    pub(crate) fn failed(&mut self, now: u64) {
        if self.backoff == 0 {
            self.failures += 1;
            if self.failures >= FAILURES_TO_OPEN {
                self.open(now, FIRST_BACKOFF);
            }
        } else if self.probing {
            self.open(now, (self.backoff * 2).min(LONGEST_BACKOFF));
        }
        // Else: a call from before the breaker opened; it says nothing new.
    }

    fn open(&mut self, now: u64, backoff: u64) {
        self.backoff = backoff;
        self.next_probe = now.saturating_add(backoff);
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::Breaker;

    const MS: u64 = 1_000_000;

    fn opened_at(now: u64) -> Breaker {
        let mut breaker = Breaker::CLOSED;
        for _ in 0..5 {
            assert!(breaker.admits(now));
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let mut breaker = Breaker::CLOSED;
        for _ in 0..100 {
            for _ in 0..4 {
                breaker.failed(0);
            }
            assert!(breaker.admits(0));
            breaker.succeeded();
        }
    }

    #[test]
    fn opens_after_five_failures_and_probes_once_per_backoff() {
        let mut breaker = opened_at(0);
        let mut now = 0;
        for backoff in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert!(!breaker.admits(now + backoff * MS - 1), "{backoff}");
            now += backoff * MS;
            assert!(breaker.admits(now), "the probe after {backoff} ms");
            assert!(!breaker.admits(now), "only one probe");
            breaker.failed(now);
        }
    }

    #[test]
    fn a_successful_probe_closes_it() {
        let mut breaker = opened_at(0);
        assert!(breaker.admits(100 * MS));
        breaker.succeeded();
        assert!(breaker.admits(100 * MS) && breaker.admits(100 * MS));
    }

    #[test]
    fn failures_of_calls_made_before_it_opened_change_nothing() {
        let mut breaker = opened_at(0);
        breaker.failed(50 * MS);
        assert!(breaker.admits(100 * MS));
    }

    #[test]
    fn a_probe_never_heard_of_again_is_followed_by_another() {
        let mut breaker = opened_at(0);
        assert!(breaker.admits(100 * MS));
        assert!(!breaker.admits(5_099 * MS));
        assert!(breaker.admits(5_100 * MS));
    }
}
