//! The options of `tidegate simulate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const AFTER_HELP: &str = "\
Examples:
  What a queue with a short visibility timeout does before a function with a concurrency of 1:
    tidegate simulate seed001-s3

  The same with another timeout, as files and as a page:
    tidegate simulate seed001-s3 --set queue.visibility=15min --out report

  A scenario of your own, which begins with `extends = \"seed001-s3\"`:
    tidegate simulate mine.toml

Exit codes: 0 everything came out as the scenarios expect; 1 something did not; 2 a scenario is wrong.";

/// What to simulate, and where to write what came of it.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct SimulateOptions {
    #[command(subcommand)]
    pub(crate) command: Option<SimulateCommand>,

    /// Scenarios: names of shipped ones, and files (TOML)
    #[arg(value_name = "FILE|NAME")]
    pub(crate) scenarios: Vec<String>,

    /// Lists the shipped scenarios
    #[arg(long)]
    pub(crate) list: bool,

    /// Prints the files of the scenarios in place of running them
    #[arg(long)]
    pub(crate) show: bool,

    /// Changes a value of the scenarios, as in queue.visibility=15min; may be given several times
    #[arg(long, value_name = "PATH=VALUE", value_parser = change)]
    pub(crate) set: Vec<(String, String)>,

    /// The seed of the first run
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// How many runs there are, with one seed after the other
    #[arg(long, value_name = "COUNT")]
    pub(crate) seeds: Option<u64>,

    /// Writes summary.json, seconds.csv and report.html to this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,

    /// Writes also events.csv, with a row for each call
    #[arg(long, requires = "out")]
    pub(crate) log: bool,

    /// Prints the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What else can be done with simulations.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SimulateCommand {
    /// Prints the figures that differ between two summaries.
    Compare {
        /// A summary.json
        one: PathBuf,
        /// Another one
        other: PathBuf,
    },
}

fn change(text: &str) -> Result<(String, String), String> {
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| "write a path and a value, as in queue.visibility=15min".to_owned())?;
    Ok((path.trim().to_owned(), value.trim().to_owned()))
}
