//! `tidegate plan`: the settings for calls under a vendor's limit, and what they lead to.

mod questions;
mod report;
mod simulated;

use std::io::{IsTerminal, stdin, stdout};
use std::path::Path;

use clap::Parser;

use crate::cli::{Cli, Command, PlanOptions};
use crate::failure::Failure;

/// Makes the plan and prints it.
pub(crate) fn run(options: &PlanOptions) -> Result<(), Failure> {
    let options = &with_file(options)?;
    let inputs = match options.inputs() {
        Some(inputs) => inputs,
        None if stdin().is_terminal() && stdout().is_terminal() => {
            let words = questions::ask(&mut stdin().lock(), &mut stdout())
                .map_err(|error| Failure::System(format!("the terminal: {error}")))?;
            parse(&words)?.inputs().ok_or_else(no_vendor)?
        }
        None => return Err(no_vendor()),
    };
    let plan = tidegate_sim::plan::plan(&inputs)
        .map_err(|error| Failure::Configuration(error.to_string()))?;
    let simulated = options.simulate.then(|| simulated::report(&inputs, &plan)).transpose()?;
    if options.json {
        let mut json = report::json(&plan);
        if let Some(report) = &simulated {
            json["simulated"] = simulated::json(report);
        }
        println!("{json}");
    } else {
        print!("{}", report::text(&inputs, &plan));
        if let Some(report) = &simulated {
            print!("{}", simulated::text(&inputs, &plan, report));
        }
    }
    if options.strict && !plan.warnings.is_empty() {
        return Err(Failure::System(format!("{} warnings, and --strict", plan.warnings.len())));
    }
    Ok(())
}

fn no_vendor() -> Failure {
    Failure::Configuration(
        "--vendor is missing: the vendor's limit, as in --vendor 10/s".to_owned(),
    )
}

/// The options with those of their file, which they take precedence over.
fn with_file(options: &PlanOptions) -> Result<PlanOptions, Failure> {
    let Some(path) = &options.file else { return Ok(options.clone()) };
    let mut words = words_of(path)?;
    // The command line again, after the words of the file: of an option that is given twice the last counts.
    // Clap has read them as text before, but for the path of the file.
    words.extend(std::env::args_os().skip(2).map(|word| word.to_string_lossy().into_owned()));
    parse(&words)
}

fn parse(words: &[String]) -> Result<PlanOptions, Failure> {
    let command = ["tidegate".to_owned(), "plan".to_owned()];
    let parsed = Cli::try_parse_from(command.iter().chain(words));
    match parsed.map_err(|error| Failure::Configuration(error.to_string()))?.command {
        Command::Plan(options) => Ok(*options),
        Command::Serve(_) | Command::Simulate(_) | Command::Rules(_) => Err(no_vendor()),
    }
}

/// The options in a file, as words of a command line.
fn words_of(path: &Path) -> Result<Vec<String>, Failure> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::System(format!("{place}: {error}")))?;
    let table: toml::Table =
        text.parse().map_err(|error| Failure::Configuration(format!("{place}: {error}")))?;
    let mut words = Vec::new();
    for (name, value) in table {
        let value = match value {
            toml::Value::Boolean(true) => None,
            toml::Value::Boolean(false) => continue,
            toml::Value::String(text) => Some(text),
            toml::Value::Integer(number) => Some(number.to_string()),
            toml::Value::Float(number) => Some(number.to_string()),
            _ => {
                let wanted = "a text, a number, true or false";
                return Err(Failure::Configuration(format!("{place}: {name}: wanted {wanted}")));
            }
        };
        // `--name=value`, so that a value that begins with a hyphen is a value.
        words.push(value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}")));
    }
    Ok(words)
}
