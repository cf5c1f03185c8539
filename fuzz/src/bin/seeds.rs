//! Writes the first inputs of every target, made from the vectors: `seeds <folder>` writes
//! `<folder>/<target>/<number>`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use tidegate::bindings::value;
use tidegate_conformance::signal_vectors::{SignalCase, SignalVectors, WrittenProfile, fields};
use tidegate_conformance::vectors::{DecideVectors, GrammarVectors, RedisVectors, Step, load};
use tidegate_core::{Cells, Limit, decide_tiers};
use tidegate_fuzz::bytes::{write_limits, write_number};
use tidegate_fuzz::operations::{self, Call, Operations};
use tidegate_fuzz::steps::Steps;

// Code that is built with coverage needs libFuzzer's hooks, although nothing is fuzzed here.
use libfuzzer_sys as _;

/// Longer traces are cut to this length, because they cover no more than shorter ones.
const STEPS: usize = 40;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("usage: seeds <folder>"))?;
    write_all(&folder, "grammar", &grammar())?;
    write_all(&folder, "steps", &steps())?;
    write_all(&folder, "operations", &operations())?;
    write_all(&folder, "value", &values())?;
    write_all(&folder, "signal", &signals())?;
    write_all(&folder, "filter_config", &configurations())?;
    write_all(&folder, "usage", &responses())
}

/// Responses that tell what was used, after eight sizes of pieces.
fn responses() -> Vec<Vec<u8>> {
    let json = r#"{"choices":[{"text":"a\"{"}],"usage":{"prompt_tokens":5,"total_tokens":12}}"#;
    let events = format!("event: x\r\ndata: {json}\r\n\r\ndata: [DONE]\n\n");
    [json, &events].map(|body| [&[3, 1, 7, 40, 2, 9, 1, 5], body.as_bytes()].concat()).to_vec()
}

fn write_all(folder: &Path, target: &str, seeds: &[Vec<u8>]) -> io::Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("{number:03}")), seed)?;
    }
    Ok(())
}

fn grammar() -> Vec<Vec<u8>> {
    let vectors: GrammarVectors = load("grammar.json");
    let invalid = vectors.invalid.into_iter().map(|case| case.text);
    vectors.valid.into_iter().map(|case| case.text).chain(invalid).map(String::into_bytes).collect()
}

fn steps() -> Vec<Vec<u8>> {
    let seed = |(limits, steps): (Vec<Limit>, Vec<Step>)| {
        let calls: Vec<_> = steps.iter().take(STEPS).map(|step| (step.now(), step.cost)).collect();
        Steps::to_bytes(&limits, &calls)
    };
    traces().map(seed).collect()
}

/// The traces of checks as traces of operations: every seventh call is a cancel, every seventh a
/// settlement, and every seventh a peek.
fn operations() -> Vec<Vec<u8>> {
    let seed = |(limits, steps): (Vec<Limit>, Vec<Step>)| {
        let calls = steps.iter().take(STEPS).enumerate().map(|(number, step)| {
            let (now, cost) = (step.now(), step.cost);
            let step = match number % 7 {
                0 => operations::Step::Check { cost },
                1 | 2 => operations::Step::Reserve { cost, max_wait: u64::MAX },
                3 => operations::Step::Cancel { which: 1 },
                4 => operations::Step::Settle { charged: cost, actual: 2 * cost },
                5 => operations::Step::Peek { cost },
                _ => operations::Step::Credit { tokens: cost },
            };
            Call { now, step }
        });
        Operations::to_bytes(&limits, &calls.collect::<Vec<_>>())
    };
    traces().map(seed).collect()
}

/// The value of every trace's bucket in Redis after half of its checks, and values that no bucket
/// has.
fn values() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (limits, steps) in traces() {
        let (before, after) = steps.split_at(steps.len() / 2);
        let Some(step) = after.first() else { continue };
        let mut cells = Cells::default();
        for earlier in before {
            // A cost that is too large is an error and charges nothing.
            let _ = decide_tiers(&limits, &mut cells, earlier.now(), earlier.cost);
        }
        let value = value::write(&cells, &limits, step.now());
        seeds.push(value_seed(&limits, step, &value));
    }
    let vectors: RedisVectors = load("redis.json");
    if let Some((limits, steps)) = traces().next() {
        let foreign = vectors.corrupt.iter();
        seeds.extend(foreign.map(|value| value_seed(&limits, &steps[0], value)));
    }
    seeds
}

fn value_seed(limits: &[Limit], step: &Step, value: &str) -> Vec<u8> {
    let mut seed = Vec::new();
    write_limits(limits, &mut seed);
    write_number(step.now(), &mut seed);
    write_number(step.cost, &mut seed);
    seed.push(0);
    seed.extend(value.as_bytes());
    seed
}

fn traces() -> impl Iterator<Item = (Vec<Limit>, Vec<Step>)> {
    let vectors: DecideVectors = load("decide.json");
    vectors.traces.into_iter().map(|trace| {
        let parse = |text: &String| Limit::parse(text).expect("the vectors' limits are valid");
        (trace.limits.iter().map(parse).collect(), trace.steps)
    })
}

/// Every response of the vectors, one header or field on each line.
fn signals() -> Vec<Vec<u8>> {
    let vectors: SignalVectors = load("signals.json");
    let seed = |case: &SignalCase| {
        let profile = match &case.profile {
            WrittenProfile::Named(name) => name,
            WrittenProfile::Rows(_) => "generic",
        };
        let mut text = format!("{} {profile}", case.status);
        for (name, value) in &case.headers {
            text += &format!("\n{name}:{value}");
        }
        for (path, value) in fields(&case.body) {
            text += &format!("\nbody.{path}:{value}");
        }
        text.into_bytes()
    };
    vectors.cases.iter().map(seed).collect()
}

/// A configuration as JSON and in the protobuf form that Envoy sends, and an answer of a service.
fn configurations() -> Vec<Vec<u8>> {
    let json = r#"{"key": {"header": "X-Api-Key"}, "missing_key": "deny",
        "local": {"limits": ["100/s burst 20", "1000/h window", "unlimited", "6/s"], "max_keys": 64},
        "service": {"cluster": "tide\u0067ate", "domain": "d", "descriptor": "e",
                    "timeout": "60s", "on_error": "deny"},
        "status": 599, "stat_prefix": "a_b-C.9", "headers": false}"#;

    let text = |text: &str| field(3, text.as_bytes());
    let number = |number: f64| [&[0x11], &number.to_le_bytes()[..]].concat();
    let protobuf = [
        entry("key", &field(5, &entry("path", &field(5, b"")))),
        entry("local", &field(5, &entry("limits", &field(6, &field(1, &text("10/s")))))),
        entry("service", &field(5, &entry("cluster", &text("quota")))),
        entry("status", &number(429.0)),
        entry("headers", &[0x20, 1]),
    ];

    let status = b"\x08\x02\x12\x02\x08\x0a\x18\x03\x22\x04\x08\x01\x10\x01";
    let header = b"\x0a\x01a\x12\x01b";
    let answer = [b"\x08\x02", &field(2, status)[..], &field(3, header), &field(5, b"slow down")];
    let none = r#"{"key": {"path": {}}, "local": {"limits": ["5/s", "none"]}}"#;
    vec![json.into(), none.into(), protobuf.concat(), answer.concat()]
}

/// A field of a protobuf message, shorter than 128 bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, value.len() as u8], value].concat()
}

/// A field of a `google.protobuf.Struct`.
fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
}
