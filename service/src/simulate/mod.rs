//! `tidegate simulate`: what comes of a scenario.

mod progress;

use std::path::Path;

use tidegate_sim::report::{Report, compare, html, log_csv, seconds_csv, summary_json, table};
use tidegate_sim::scenario::{Scenario, shipped};

use self::progress::ProgressLine;
use crate::cli::{SimulateCommand, SimulateOptions};
use crate::failure::Failure;

/// Runs the scenarios and says what came of them.
pub(crate) fn run(options: &SimulateOptions) -> Result<(), Failure> {
    if let Some(SimulateCommand::Compare { one, other }) = &options.command {
        let differences = compare(&read(one)?, &read(other)?).map_err(Failure::Configuration)?;
        print!("{differences}");
        return Ok(());
    }
    if options.list {
        print!("{}", list());
        return Ok(());
    }
    if options.scenarios.is_empty() {
        let text = "no scenario: give a file, or a name of `tidegate simulate --list`";
        return Err(Failure::Configuration(text.to_owned()));
    }
    let texts: Vec<(&str, String)> = options
        .scenarios
        .iter()
        .map(|name| text_of(name).map(|text| (name.as_str(), text)))
        .collect::<Result<_, _>>()?;
    if options.show {
        texts.iter().for_each(|(_, text)| print!("{text}"));
        return Ok(());
    }
    let mut scenarios = Vec::new();
    for (name, text) in &texts {
        let parsed = Scenario::parse_with(text, &changes(options));
        scenarios
            .extend(parsed.map_err(|error| Failure::Configuration(format!("{name}: {error}")))?);
    }
    let reports = simulate(&scenarios, options.log);
    if options.json {
        print!("{}", summary_json(&reports));
    } else {
        let tables: Vec<String> = reports.iter().map(table).collect();
        print!("{}", tables.join("\n"));
    }
    if let Some(folder) = &options.out {
        write(folder, &reports, options.log)?;
    }
    let missed =
        reports.iter().flat_map(|report| &report.verdicts).filter(|verdict| !verdict.is_met);
    match missed.count() {
        0 => Ok(()),
        count => Err(Failure::System(format!("{count} figures are not as expected"))),
    }
}

/// Runs scenarios, with a line of progress on a terminal.
pub(crate) fn simulate(scenarios: &[Scenario], with_log: bool) -> Vec<Report> {
    let mut line = ProgressLine::new();
    scenarios
        .iter()
        .map(|scenario| {
            line.begin();
            let report = Report::make(scenario, with_log, &mut |number, progress| {
                line.show(scenario, number, progress);
            });
            line.clear();
            report
        })
        .collect()
}

fn list() -> String {
    let about = |text: &str| {
        let about = text.lines().find_map(|line| line.strip_prefix("about = "));
        about.unwrap_or_default().trim_matches('"').to_owned()
    };
    shipped().iter().map(|each| format!("{:<22}{}\n", each.name, about(each.text))).collect()
}

/// The text of a shipped scenario or of a file.
fn text_of(name: &str) -> Result<String, Failure> {
    if let Some(found) = shipped().iter().find(|each| each.name == name) {
        return Ok(found.text.to_owned());
    }
    let path = Path::new(name);
    if !name.ends_with(".toml") && !path.exists() {
        let text = format!(
            "{name}: there is no such file, and no such scenario; `tidegate simulate --list` lists them"
        );
        return Err(Failure::Configuration(text));
    }
    read(path)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::System(format!("{}: {error}", path.display())))
}

fn changes(options: &SimulateOptions) -> Vec<(String, String)> {
    let number = |name: &str, number: Option<u64>| Some((name.to_owned(), number?.to_string()));
    let numbers = [number("seed", options.seed), number("seeds", options.seeds)];
    options.set.iter().cloned().chain(numbers.into_iter().flatten()).collect()
}

fn write(folder: &Path, reports: &[Report], with_log: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::System(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let put = |name: &str, text: String| std::fs::write(folder.join(name), text).map_err(failed);
    put("summary.json", summary_json(reports))?;
    put("seconds.csv", seconds_csv(reports))?;
    put("report.html", html(reports))?;
    if with_log {
        put("events.csv", log_csv(reports))?;
    }
    Ok(())
}
