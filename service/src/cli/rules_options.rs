//! The options of `tidegate rules`, which works on files and needs no store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The subcommands of `tidegate rules`.
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Checks a rules file, and says what each rule means and which one never decides.
    Check(CheckOptions),
    /// Writes rules from the configuration of envoyproxy/ratelimit or limitador.
    Import(ImportOptions),
}

const CHECK_CODES: &str = "\
Exit codes: 0 the file can be used; 1 with --strict, a rule never decides; 2 the file
cannot be used. The message names the field and the bound.";

#[derive(Args, Debug)]
#[command(after_help = CHECK_CODES)]
pub(crate) struct CheckOptions {
    /// The rules file (TOML)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Exits with 1 if a rule never decides
    #[arg(long)]
    pub(crate) strict: bool,

    /// Prints nothing about rules that are in order
    #[arg(long)]
    pub(crate) quiet: bool,
}

const IMPORT_CODES: &str = "\
Examples:
  tidegate rules import config.yaml > rules.toml
  tidegate rules import --strict --output rules.toml config/*.yaml

What cannot be said as rules is listed on standard error, with its place, and as
comments at the start of the output.

Exit codes: 0 the rules are written; 1 with --strict, something could not be said, or
the system refused something; 2 a file is no such configuration.";

#[derive(Args, Debug)]
#[command(after_help = IMPORT_CODES)]
pub(crate) struct ImportOptions {
    /// The files (YAML); several become one rules file
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// The project whose configuration the files are; without it, their shape tells
    #[arg(long, value_enum, value_name = "PROJECT")]
    pub(crate) from: Option<Project>,

    /// Writes smooth limits in place of fixed windows, where the period is a week or shorter: the
    /// requests of a period come back one by one, and not all at its end
    #[arg(long)]
    pub(crate) smooth: bool,

    /// Exits with 1, after writing, if something cannot be said as rules
    #[arg(long)]
    pub(crate) strict: bool,

    /// The file to write; without it, standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// A project whose configuration can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Project {
    /// envoyproxy/ratelimit: domain, descriptors
    Envoyproxy,
    /// limitador: a list of limits with namespace, max_value, seconds
    Limitador,
}
