//! The engine beside its peers, in one run: direct buckets, keyed buckets, memory per key and
//! the worst single call.
//!
//! `make bench-core` takes about two minutes. `ARGS=--quick` takes a few seconds and only shows
//! that all of it runs. `ARGS=--full` adds 10 million keys.

mod direct;
mod footprint;
mod harness;
mod keyed;
mod peers;

use std::process::ExitCode;

use harness::Effort;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (effort, part) = match arguments[..] {
        [] => (Effort::Normal, None),
        ["--quick"] => (Effort::Quick, None),
        ["--full"] => (Effort::Full, None),
        ["--full", part] => (Effort::Full, Some(part)),
        ["--full", "keyed", keys] => return keyed::run_one(keys),
        ["--footprint", kind, keys] => return footprint::child(kind, keys),
        _ => {
            eprintln!("usage: core [--quick | --full [direct | keyed [KEYS] | tiers | footprint]]");
            return ExitCode::from(2);
        }
    };
    println!("nanoseconds per call, medians; ratio: peer / ours, above 1 is better for ours,");
    println!("as the median (and quartiles) of the rounds' own ratios\n");
    let wanted = |name| part.is_none_or(|part| part == name);
    if wanted("direct") {
        direct::run(effort);
    }
    if wanted("keyed") {
        keyed::run(effort);
    }
    if wanted("tiers") {
        keyed::two_limits(effort);
    }
    if wanted("footprint") {
        footprint::run(effort);
    }
    ExitCode::SUCCESS
}
