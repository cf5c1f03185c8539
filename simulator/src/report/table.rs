//! The report as text.

use core::fmt::Write as _;

use super::Report;
use super::sparkline::sparkline;
use crate::figures::Figure;

/// The figures of seed 001's own tables.
pub(super) const BY_THE_CLOCK: [&str; 3] = ["seed_mean", "seed_most", "seed_least"];

/// The report as text: figures beside the ideal's, a sparkline of the calls, and what was expected.
pub fn table(report: &Report) -> String {
    let scenario = &report.scenario;
    let mut out = format!("{}\n", scenario.name);
    if !scenario.about.is_empty() {
        let _ = writeln!(out, "  {}", scenario.about);
    }
    let has_range = report.runs.len() > 1;
    let range = if has_range { "         least          most" } else { "" };
    let of = if has_range { format!("mean of {}", report.runs.len()) } else { "value".to_owned() };
    let _ = writeln!(out, "\n  {:<20}{of:>14}{range}{:>14}", "", "ideal");
    for figure in shown(report) {
        line(&mut out, report, figure);
    }
    if let Some(first) = report.runs.first() {
        let calls: Vec<u32> = first.seconds.iter().map(|second| second.calls).collect();
        let most = calls.iter().max().copied().unwrap_or(0);
        let _ = writeln!(
            out,
            "\n  calls   {} {} s, at most {most} in a second",
            sparkline(&calls),
            calls.len()
        );
        let queued: Vec<u32> = first.seconds.iter().map(|second| second.queued).collect();
        let most = queued.iter().max().copied().unwrap_or(0);
        let _ = writeln!(out, "  waiting {} at most {most}", sparkline(&queued));
    }
    for text in &scenario.calibrated {
        let _ = writeln!(out, "  calibrated: {text}");
    }
    for verdict in &report.verdicts {
        let expected = &verdict.expectation;
        let of_mean = if expected.of_mean { " on average" } else { "" };
        let (figure, found) = (&expected.figure, &verdict.found);
        let mark = if verdict.is_met { "as expected" } else { "NOT AS EXPECTED" };
        let _ = writeln!(
            out,
            "  {mark}: {figure}{of_mean} {}, found {}",
            expected.text,
            found.unit.show(found.value)
        );
    }
    out
}

/// The figures that say something: those that are not 0, or should not be.
pub(super) fn shown(report: &Report) -> impl Iterator<Item = &Figure> {
    report.mean.iter().filter(|figure| {
        let (least, most) = report.range(figure.name);
        let is_zero = most == 0 && least == 0 && figure.ideal.unwrap_or(0) == 0;
        !is_zero || figure.name == "lost"
    })
}

fn line(out: &mut String, report: &Report, figure: &Figure) {
    let show = |value: u64| figure.unit.show(value);
    if figure.name == BY_THE_CLOCK[0] {
        let _ = writeln!(out, "  as seed 001 counts:");
    }
    let _ = write!(out, "  {:<20}{:>14}", figure.name, show(figure.value));
    if report.runs.len() > 1 {
        let (least, most) = report.range(figure.name);
        let _ = write!(out, "{:>14}{:>14}", show(least), show(most));
    }
    match figure.ideal {
        Some(ideal) => {
            let _ = writeln!(out, "{:>14}", show(ideal));
        }
        None => out.push('\n'),
    }
}
