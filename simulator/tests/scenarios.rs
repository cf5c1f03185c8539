//! The shipped scenarios, each with its expectations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "how a test fails")]

use tidegate_sim::report::{Report, table};
use tidegate_sim::scenario::{Scenario, shipped};

#[test]
fn every_shipped_scenario_is_as_it_expects() {
    for each in shipped() {
        let scenarios = Scenario::parse(each.text);
        for scenario in scenarios.unwrap_or_else(|error| panic!("{}: {error}", each.name)) {
            let report = Report::make(&scenario, false, &mut |_, _| {});
            let printed = table(&report);
            println!("{printed}");
            assert!(scenario.name.starts_with(each.name));
            assert!(!report.verdicts.is_empty(), "{} expects nothing", each.name);
            assert!(report.is_as_expected(), "{printed}");
            assert!(report.runs.iter().all(|run| run.is_conserved), "{}", each.name);
        }
    }
}
