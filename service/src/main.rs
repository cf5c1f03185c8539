//! The `tidegate` command. `tidegate serve` is the quota service: it answers Envoy's rate limit
//! service protocol from the buckets that the whole fleet shares. `tidegate rules` checks and imports its
//! rules, `tidegate plan` makes plans for calls under a vendor's limit, and `tidegate simulate` shows what comes of them.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

mod bucket_key;
mod cli;
mod connections;
mod counters;
mod current_rules;
mod failure;
mod failures;
mod grpc;
mod grpc_server;
mod health;
mod hits;
mod http_api;
mod import;
mod listeners;
mod logging;
mod messages_codec;
mod metrics;
mod open_responses;
mod overrides;
mod plan;
mod quota_service;
mod response;
mod rlqs;
mod rlqs_bucket;
mod rlqs_counters;
mod rlqs_messages;
mod rlqs_peers;
mod rlqs_stream;
mod rule_counters;
mod rules;
mod rules_check;
mod rules_file;
mod rules_status;
mod rules_watch;
mod ruling;
mod serve;
mod simulate;
mod sockets;
mod store_options;
mod store_watch;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, RulesCommand};

fn main() -> ExitCode {
    // A mistake on the command line ends here, with exit code 2.
    let done = match Cli::parse().command {
        Command::Serve(options) => {
            logging::start(&options);
            serve::run(&options)
        }
        Command::Plan(options) => plan::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Rules(RulesCommand::Check(options)) => rules_check::run(&options),
        Command::Rules(RulesCommand::Import(options)) => import::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}
