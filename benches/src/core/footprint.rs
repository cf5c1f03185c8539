//! Benchmark of the memory per live key: how much a process grows, with a fresh process for each
//! contender.

use std::process::{Command, ExitCode};

use crate::harness::{Effort, report};
use crate::keyed::{HALF, governors, half, key, ours};

const KINDS: [&str; 2] = ["ours", "governor (DashMap)"];

pub(crate) fn run(effort: Effort) {
    let keys: usize = match effort {
        Effort::Quick => 10_000,
        Effort::Normal => 1_000_000,
        Effort::Full => 10_000_000,
    };
    let [Some(ours), Some(peer)] = KINDS.map(|kind| measure(kind, keys)) else {
        println!("memory per live key: this system does not tell a process its size");
        return;
    };
    report(&format!("memory, {keys} keys"), "B/key", ours, peer, KINDS[1], vec![peer / ours]);
}

fn measure(kind: &str, keys: usize) -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let output =
        Command::new(program).args(["--footprint", kind, &keys.to_string()]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Runs in the fresh process and prints the bytes per key.
pub(crate) fn child(kind: &str, keys: &str) -> ExitCode {
    let Ok(keys) = keys.parse::<usize>() else { return ExitCode::FAILURE };
    let grown = if kind == KINDS[0] {
        let limiter = ours();
        grown_by(keys, |key| _ = limiter.check(key, u64::from(HALF)))
    } else {
        let limiter = governors();
        grown_by(keys, |key| _ = limiter.check_key_n(&key.to_owned(), half()))
    };
    let Some(grown) = grown else { return ExitCode::FAILURE };
    println!("{}", grown as f64 / keys as f64);
    ExitCode::SUCCESS
}

fn grown_by(keys: usize, check: impl Fn(&str)) -> Option<u64> {
    check("warm-up");
    let before = resident()?;
    for number in 0..keys {
        check(&key(number));
    }
    Some(resident()?.saturating_sub(before))
}

/// The process's memory in bytes; `None` on systems without Linux's `/proc`.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
