//! Errors that end the command, and their exit codes.

use core::fmt;
use std::process::ExitCode;

/// An error that ends the command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong: exit code 2, as for a wrong command line.
    Configuration(String),
    /// The system refused something: exit code 1.
    System(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(2),
            Self::System(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(message) | Self::System(message) => f.write_str(message),
        }
    }
}
