//! A re-implementation of the algorithm of botocore's adaptive retry mode, written from its
//! description: a CUBIC rate with a factor of 0.7, a smoothed measure of the rate in half seconds,
//! and a token bucket, in each client apart. It is not botocore itself.

use super::SECOND;

#[derive(Clone)]
pub(crate) struct Adaptive {
    enabled: bool,
    most_before: f64,
    inflection: f64,
    failed_at: f64,
    measured: f64,
    half_second: f64,
    count: f64,
    fill_rate: f64,
    capacity: f64,
    tokens: f64,
    filled_at: f64,
}

const BETA: f64 = 0.7;
const SCALE: f64 = 0.4;
const SMOOTHING: f64 = 0.8;
const LEAST_RATE: f64 = 0.5;

impl Adaptive {
    pub(crate) fn new(start: u64) -> Self {
        let now = seconds(start);
        let mut adaptive = Self {
            enabled: false,
            most_before: LEAST_RATE,
            inflection: 0.0,
            failed_at: now,
            measured: 0.0,
            half_second: halves(now),
            count: 0.0,
            fill_rate: LEAST_RATE,
            capacity: 1.0,
            tokens: 0.0,
            filled_at: now,
        };
        adaptive.find_inflection();
        adaptive
    }

    /// Takes a token, or says when there may be one.
    pub(crate) fn acquire(&mut self, at: u64) -> Result<(), u64> {
        if !self.enabled {
            return Ok(());
        }
        self.fill(seconds(at));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.tokens) / self.fill_rate;
        Err(at + 1 + (wait * SECOND as f64) as u64)
    }

    pub(crate) fn answered(&mut self, at: u64, throttled: bool) {
        let now = seconds(at);
        self.measure(now);
        let rate = if throttled {
            let rate = if self.enabled { self.measured.min(self.fill_rate) } else { self.measured };
            self.enabled = true;
            self.most_before = rate;
            self.find_inflection();
            self.failed_at = now;
            rate * BETA
        } else {
            SCALE * (now - self.failed_at - self.inflection).powi(3) + self.most_before
        };
        self.fill(now);
        let rate = rate.min(2.0 * self.measured);
        self.fill_rate = rate.max(LEAST_RATE);
        self.capacity = rate.max(1.0);
        self.tokens = self.tokens.min(self.capacity);
    }

    fn find_inflection(&mut self) {
        self.inflection = (self.most_before * (1.0 - BETA) / SCALE).cbrt();
    }

    fn measure(&mut self, now: f64) {
        self.count += 1.0;
        let half_second = halves(now);
        if half_second > self.half_second {
            let rate = self.count / (half_second - self.half_second);
            self.measured = rate * SMOOTHING + self.measured * (1.0 - SMOOTHING);
            self.count = 0.0;
            self.half_second = half_second;
        }
    }

    fn fill(&mut self, now: f64) {
        self.tokens = self.capacity.min(self.tokens + (now - self.filled_at) * self.fill_rate);
        self.filled_at = now;
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / SECOND as f64
}

fn halves(now: f64) -> f64 {
    (now * 2.0).floor() / 2.0
}
