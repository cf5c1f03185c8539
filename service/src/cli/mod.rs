//! The command line.

mod plan_options;
mod rules_options;
mod serve_options;
mod simulate_options;
#[cfg(test)]
mod tests;

use clap::{Parser, Subcommand};

pub(crate) use self::plan_options::PlanOptions;
pub(crate) use self::rules_options::{CheckOptions, ImportOptions, Project, RulesCommand};
pub(crate) use self::serve_options::{LogFormat, ServeOptions};
pub(crate) use self::simulate_options::{SimulateCommand, SimulateOptions};

/// One rate limiter for every runtime a fleet is made of.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves the shared buckets to Envoy over its rate limit service protocol (v3).
    Serve(Box<ServeOptions>),
    /// Plans the settings for calls under a vendor's limit, and says what they lead to.
    Plan(Box<PlanOptions>),
    /// Simulates scenarios of queues, functions and vendors, with the engine itself as the limit.
    Simulate(Box<SimulateOptions>),
    /// Checks rules files, and writes them from the configuration of other services.
    #[command(subcommand)]
    Rules(RulesCommand),
}

#[cfg(test)]
impl ServeOptions {
    /// The options of a whole command line, which begins with the words `tidegate serve`.
    pub(crate) fn parse_words(words: &[&str]) -> Result<Self, String> {
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Serve(options) => Ok(*options),
            Command::Plan(_) | Command::Simulate(_) | Command::Rules(_) => {
                Err("it is another command".to_owned())
            }
        }
    }
}
