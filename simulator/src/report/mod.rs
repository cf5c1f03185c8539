//! Runs a scenario with all its seeds, and writes what came of it: a table, JSON, CSV and a page.

mod compare;
mod csv;
mod html;
mod json;
mod sparkline;
mod table;

pub use compare::compare;
pub use csv::{log_csv, seconds_csv};
pub use html::html;
pub use json::summary_json;
pub use table::table;

use crate::figures::{Figure, mean};
use crate::scenario::{Scenario, Verdict};
use crate::world::{Progress, Run, run};

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario.
    pub scenario: Scenario,
    /// A run for each seed.
    pub runs: Vec<Run>,
    /// The mean of each figure.
    pub mean: Vec<Figure>,
    /// Whether what was expected came true.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Runs the scenario once for each of its seeds. `tell` hears the number of the run and how far it is.
    ///
    /// ```
    /// use tidegate_sim::{report::Report, scenario::Scenario};
    /// let scenario = &Scenario::parse("extends = 'seed001-ours'").unwrap()[0];
    /// let report = Report::make(scenario, false, &mut |_, _| {});
    /// assert_eq!(report.figure("most_in_any_second").unwrap().value, 1);
    /// ```
    pub fn make(scenario: &Scenario, with_log: bool, tell: &mut dyn FnMut(u64, Progress)) -> Self {
        let runs: Vec<Run> = (0..scenario.seeds)
            .map(|number| {
                let seed = scenario.seed.wrapping_add(number);
                run(scenario, seed, with_log, &mut |progress| tell(number, progress))
            })
            .collect();
        let figures: Vec<Vec<Figure>> = runs.iter().map(|run| run.figures.clone()).collect();
        let mean = mean(&figures);
        let verdicts = scenario
            .expectations
            .iter()
            .filter_map(|expectation| expectation.judge(&figures, &mean))
            .collect();
        Self { scenario: scenario.clone(), runs, mean, verdicts }
    }

    /// The mean of a figure.
    pub fn figure(&self, name: &str) -> Option<Figure> {
        self.mean.iter().find(|figure| figure.name == name).copied()
    }

    /// Whether everything that was expected came true.
    pub fn is_as_expected(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.is_met)
    }

    /// The least and the most of a figure in all runs.
    fn range(&self, name: &str) -> (u64, u64) {
        let values = || {
            let figures = self.runs.iter().flat_map(|run| &run.figures);
            figures.filter(|figure| figure.name == name).map(|figure| figure.value)
        };
        (values().min().unwrap_or(0), values().max().unwrap_or(0))
    }
}
