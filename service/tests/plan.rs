//! `tidegate plan`, the command.
#![allow(clippy::unwrap_used, clippy::panic, reason = "how a test fails")]

use std::process::{Command, Output};

fn tidegate(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).args(words).output().unwrap()
}

fn plan(words: &[&str]) -> (Option<i32>, String, String) {
    let output = tidegate(&[&["plan"], words].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The words of a command line whose arguments may be in double quotes.
fn words_of(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in command.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn what_the_page_shows_is_what_the_command_prints() {
    let page = include_str!("../../docs/planning.md");
    let mut shown = 0;
    for block in page.split("```").filter_map(|block| block.strip_prefix("console\n$ tidegate ")) {
        let (command, printed) = block.split_once('\n').unwrap();
        let words = words_of(command);
        let output = tidegate(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed, "{command}");
        shown += 1;
    }
    assert!(shown >= 4, "{shown} commands");
}

#[test]
fn the_lambda_example_has_the_plans_concurrency() {
    let template = include_str!("../../examples/lambda/template.yaml");
    let (_, after) = template.split_once("# The settings are those of: tidegate ").unwrap();
    let (first, second) = after.split_once('\n').unwrap();
    let command = format!("{first} {}", second.lines().next().unwrap().trim_start_matches('#'));
    let words = words_of(&command);
    let output = tidegate(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let printed = String::from_utf8(output.stdout).unwrap();
    let planned = |name: &str, unit: &str| -> u32 {
        let (_, after) = printed.split_once(name).unwrap();
        after.split_once(unit).unwrap().0.trim().parse().unwrap()
    };
    let set = |name: &str| -> u32 {
        let (_, after) = template.split_once(&format!("{name}: ")).unwrap();
        after.lines().next().unwrap().trim().parse().unwrap()
    };
    assert_eq!(set("MaximumConcurrency"), planned("concurrency", "batches"));
    assert!(set("Timeout") >= planned("timeout", "s for a batch"), "{printed}");
    assert!(template.contains("Default: 10 in any 1s jitter 50ms"));
}

#[test]
fn json_has_a_version_and_all_figures() {
    let words = [
        "--vendor",
        "10/s",
        "--jitter",
        "50ms",
        "--arrivals",
        "8/s",
        "--backlog",
        "1000",
        "--batch",
        "10",
    ];
    let (code, printed, _) = plan(
        &[&words[..], &["--mode=parallel", "--latency=5s", "--overhead=5s", "--json"]].concat(),
    );
    assert_eq!(code, Some(0));
    let json: serde_json::Value = printed.parse().unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["limit"]["text"], "10 in any 1s jitter 50ms");
    assert_eq!(json["limit"]["width_ns"], 105_000_001);
    assert_eq!(json["host"]["concurrency"], 10);
    assert_eq!(json["host"]["without_limit"]["worst_window"], 100);
    assert!(json["waits"]["p99"].as_f64().unwrap() > 1.0);
    assert_eq!(json["warnings"][0]["id"], "batch-in-one-second");
}

#[test]
fn a_file_has_the_same_names_and_the_command_line_takes_precedence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    std::fs::write(
        &path,
        "vendor = \"10/s\"\njitter = \"50ms\"\nbacklog = 1000\nevent-source = true\nlatency = \"1s\"\njson = true\n",
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let widths = |words: &[&str]| {
        let (code, printed, said) = plan(words);
        assert_eq!(code, Some(0), "{said}");
        printed.parse::<serde_json::Value>().unwrap()["limit"]["width_ns"].as_u64().unwrap()
    };
    assert_eq!(widths(&["--file", path]), 105_000_001);
    assert_eq!(widths(&["--file", path, "--jitter", "0s"]), 100_000_001);
    assert_eq!(widths(&["--jitter", "0s", "--file", path]), 100_000_001);

    for (text, said) in [
        ("vendro = \"10/s\"", "a similar argument exists: '--vendor'"),
        ("vendor = [1]", "vendor: wanted a text, a number, true or false"),
        ("vendor = ", "TOML parse error"),
    ] {
        let path = folder.path().join("wrong.toml");
        std::fs::write(&path, text).unwrap();
        let (code, _, message) = plan(&["--file", path.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(plan(&["--file", "missing.toml"]).0, Some(1));
}

#[test]
fn mistakes_name_the_option_and_what_to_write() {
    for (words, said) in [
        (&[][..], "--vendor is missing: the vendor's limit, as in --vendor 10/s"),
        (&["--vendor", "10/fortnight"], "unknown unit of time"),
        (&["--vendor", "10 in any 1s"], "write only the calls and their window, as in 10/s"),
        (
            &["--vendor", "10/s", "--burst", "11"],
            "burst: found 11; it is 1 to the vendor's calls in a window, 10",
        ),
        (&["--vendor", "10/s", "--arrivals", "8"], "write a number and a unit of time, as in 8/s"),
        (&["--vendor", "10/s", "--spike", "50/s"], "write a rate and a time, as in 50/s for 60s"),
        (&["--vendor", "10/s", "--failures", "100%"], "write a share from 0 to below 1"),
        (&["--vendor", "10/s", "--latency", "5"], "write a number and a unit, as in 50ms or 5s"),
        (&["--vendor", "10/s", "--batch", "2"], "latency: it takes the time of a call"),
        (&["--vendor", "10/s", "--batch", "0"], "batch and concurrency are at least 1"),
    ] {
        let (code, printed, message) = plan(words);
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{words:?}");
        assert!(message.contains(said), "{words:?}: {message}");
    }
}

#[test]
fn strict_refuses_a_plan_with_warnings_and_still_prints_it() {
    let (code, printed, _) = plan(&["--vendor", "10/s", "--strict"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("matching-the-limit-exactly"));
    assert_eq!(plan(&["--vendor", "10/s", "--jitter", "20ms", "--strict"]).0, Some(0));
}
