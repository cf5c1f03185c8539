//! The report as JSON. It has integers only, in the order of the tables, so that it is the same everywhere.

use core::fmt::Write as _;

use super::Report;
use crate::figures::Figure;

/// The version of the form: it changes when a field changes its meaning or goes.
pub(super) const VERSION: u64 = 1;

/// The reports as JSON.
pub fn summary_json(reports: &[Report]) -> String {
    let scenarios: Vec<String> = reports.iter().map(scenario).collect();
    let tidegate = text(env!("CARGO_PKG_VERSION"));
    format!(
        "{{\n\"version\": {VERSION},\n\"tidegate\": {tidegate},\n\"scenarios\": [\n{}\n]\n}}\n",
        scenarios.join(",\n")
    )
}

fn scenario(report: &Report) -> String {
    let scenario = &report.scenario;
    let calibrated: Vec<String> = scenario.calibrated.iter().map(|each| text(each)).collect();
    let runs: Vec<String> = report
        .runs
        .iter()
        .map(|run| {
            let figures = figures(&run.figures);
            format!(
                "    {{ \"seed\": {}, \"events\": {}, \"figures\": {figures} }}",
                run.seed, run.events
            )
        })
        .collect();
    let verdicts: Vec<String> = report
        .verdicts
        .iter()
        .map(|verdict| {
            let expected = &verdict.expectation;
            format!(
                "    {{ \"figure\": {}, \"bound\": {}, \"of_mean\": {}, \"found\": {}, \"met\": {} }}",
                text(&expected.figure),
                text(&expected.text),
                expected.of_mean,
                verdict.found.value,
                verdict.is_met
            )
        })
        .collect();
    format!(
        "  {{\n  \"name\": {},\n  \"about\": {},\n  \"hash\": \"{:016x}\",\n  \"calibrated\": [{}],\n  \
         \"mean\": {},\n  \"runs\": [\n{}\n  ],\n  \"expectations\": [\n{}\n  ]\n  }}",
        text(&scenario.name),
        text(&scenario.about),
        scenario.hash,
        calibrated.join(", "),
        figures(&report.mean),
        runs.join(",\n"),
        verdicts.join(",\n")
    )
}

fn figures(figures: &[Figure]) -> String {
    let mut out = String::from("{");
    for figure in figures {
        let comma = if out.len() == 1 { "" } else { "," };
        let unit = figure.unit.as_str();
        let ideal = figure.ideal.map_or_else(|| "null".to_owned(), |ideal| ideal.to_string());
        let _ = write!(
            out,
            "{comma} {}: {{ \"value\": {}, \"unit\": \"{unit}\", \"ideal\": {ideal} }}",
            text(figure.name),
            figure.value
        );
    }
    out + " }"
}

fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            letter if u32::from(letter) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out + "\""
}
