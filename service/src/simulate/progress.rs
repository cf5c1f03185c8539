//! How far a simulation is, on a terminal.

use core::time::Duration;
use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

use tidegate_sim::Progress;
use tidegate_sim::scenario::Scenario;

/// Often enough to be seen, and seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(200);

/// One line of the terminal that is written again and again; nothing if the errors go elsewhere.
pub(super) struct ProgressLine {
    is_terminal: bool,
    began: Instant,
    shown: Instant,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        let now = now();
        Self { is_terminal: stderr().is_terminal(), began: now, shown: now }
    }

    pub(super) fn begin(&mut self) {
        self.began = now();
    }

    pub(super) fn show(&mut self, scenario: &Scenario, number: u64, progress: Progress) {
        if !self.is_terminal || self.shown.elapsed() < INTERVAL {
            return;
        }
        self.shown = now();
        let line = line(scenario, number, progress, self.began.elapsed());
        // Nobody is helped by an error about a line of progress.
        let _ = write!(stderr(), "\r\x1b[K{line}");
    }

    pub(super) fn clear(&self) {
        if self.is_terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn line(scenario: &Scenario, number: u64, progress: Progress, passed: Duration) -> String {
    let messages = u64::from(progress.messages);
    let ended = number * messages + u64::from(progress.ended);
    let all = scenario.seeds * messages;
    let passed = passed.as_secs_f64();
    let left = if ended == 0 { 0.0 } else { passed * (all - ended.min(all)) as f64 / ended as f64 };
    format!(
        "{}: run {} of {}, {} s simulated, {} % of the messages, about {left:.0} s left",
        scenario.name,
        number + 1,
        scenario.seeds,
        progress.now / 1_000_000_000,
        ended * 100 / all.max(1),
    )
}

#[expect(clippy::disallowed_methods, reason = "progress is about real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use tidegate_sim::Progress;
    use tidegate_sim::scenario::Scenario;

    #[test]
    fn the_time_left_is_that_of_the_messages_left() -> Result<(), String> {
        let scenario = &Scenario::parse("extends = 'seed001-s3'\nseeds = 2")?[0];
        let progress = Progress { now: 7_000_000_000, ended: 500, messages: 1000, events: 1 };
        assert_eq!(
            super::line(scenario, 0, progress, Duration::from_secs(5)),
            "seed001-s3: run 1 of 2, 7 s simulated, 25 % of the messages, about 15 s left"
        );
        Ok(())
    }
}
