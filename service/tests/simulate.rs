//! `tidegate simulate`, the command.
#![allow(clippy::unwrap_used, clippy::panic, reason = "how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

struct Printed {
    code: Option<i32>,
    out: String,
    error: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn tidegate_in(folder: &Path, words: &[&str]) -> Printed {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
}

fn simulate(words: &[&str]) -> Printed {
    tidegate_in(&root(), &[&["simulate"], words].concat())
}

#[test]
fn what_the_page_shows_is_what_the_command_prints() {
    let page = include_str!("../../docs/simulator.md");
    let folder = tempfile::tempdir().unwrap();
    let mut shown = 0;
    for block in page.split("```").filter_map(|block| block.strip_prefix("console\n")) {
        // Several commands of a block write to a folder of their own; only the last one's output is shown.
        let (commands, printed) = split(block);
        let in_folder = commands.len() > 1;
        let place = if in_folder { folder.path().to_owned() } else { root() };
        let mut last = String::new();
        for command in &commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            let found = tidegate_in(&place, &words);
            assert_eq!(found.code, Some(0), "{command}: {}", found.error);
            last = found.out;
        }
        assert_eq!(last, printed, "{commands:?}");
        shown += 1;
    }
    assert!(shown >= 6, "{shown} blocks");
    let example = std::fs::read_to_string(root().join("examples/simulator/nightly-import.toml"));
    assert!(page.contains(&example.unwrap()), "the example of the page is the file");
}

fn split(block: &str) -> (Vec<&str>, String) {
    let is_command = |line: &&str| line.starts_with("$ tidegate ");
    let commands: Vec<&str> = block.lines().take_while(is_command).collect();
    let printed = block.lines().skip(commands.len()).map(|line| format!("{line}\n")).collect();
    (commands.iter().map(|line| line.trim_start_matches("$ tidegate ")).collect(), printed)
}

#[test]
fn files_are_written_and_two_summaries_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (one, other) = (at("one"), at("other"));
    assert_eq!(simulate(&["seed001-s5", "--seeds=1", "--out", &one, "--log"]).code, Some(0));
    assert_eq!(simulate(&["seed001-ours-5", "--out", &other]).code, Some(0));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();

    let summary: serde_json::Value = read("one/summary.json").parse().unwrap();
    assert_eq!(summary["version"], 1);
    assert_eq!(summary["scenarios"][0]["mean"]["done"]["value"], 1000);
    assert_eq!(summary["scenarios"][0]["mean"]["time"]["unit"], "ns");
    assert!(read("one/seconds.csv").starts_with("scenario,second,produced,calls,refused,done,"));
    let events = read("one/events.csv");
    assert!(events.starts_with("id,sent_at,started_at,group_id,batch_id,cache_id,created_at\n"));
    assert_eq!(events.lines().count(), 1001);
    assert!(!Path::new(&at("other/events.csv")).exists());
    let page = read("one/report.html");
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("@media print"));
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("http"));

    let summaries = [at("one/summary.json"), at("other/summary.json")];
    let compared = simulate(&["compare", &summaries[0], &summaries[1]]);
    assert!(compared.out.contains("seed001-s5 | seed001-ours-5"), "{}", compared.out);
    let time = compared.out.lines().find(|line| line.contains("  time ")).unwrap();
    assert!(
        time.contains("261.240 s") && time.contains("201.105 s") && time.contains("-23.0 %"),
        "{time}"
    );
    let same = simulate(&["compare", &summaries[0], &summaries[0]]);
    assert!(same.out.contains("no figure differs"));
    let page = at("one/report.html");
    assert_eq!(simulate(&["compare", &page, &page]).code, Some(2));
}

#[test]
fn a_wrong_expectation_exits_with_1_and_a_wrong_scenario_with_2() {
    let missed = simulate(&["seed001-ours", "--set", "expect.time=<= 999s"]);
    assert_eq!(missed.code, Some(1));
    assert!(
        missed.out.contains("NOT AS EXPECTED: time <= 999s, found 1000.000 s"),
        "{}",
        missed.out
    );
    assert!(missed.error.contains("1 figures are not as expected"), "{}", missed.error);
    // A run that does nothing is no quick one.
    let idle = simulate(&["seed001-ours", "--set", "vendor.failures=100%"]);
    assert_eq!(idle.code, Some(1));
    assert!(idle.out.contains("NOT AS EXPECTED: time"), "{}", idle.out);
    for (words, said) in [
        (&[][..], "no scenario"),
        (&["seed001-s9"], "tidegate simulate --list"),
        (&["seed001-s3", "--set", "queue.visiblity=1s"], "did you mean `visibility`?"),
        (&["seed001-s3", "--set", "queue"], "write a path and a value"),
        (&["seed001-s3", "--log"], "--out <FOLDER>"),
    ] {
        let found = simulate(words);
        assert_eq!((found.code, found.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(found.error.contains(said), "{words:?}: {}", found.error);
    }
    assert_eq!(simulate(&["missing.toml"]).code, Some(1));
}

#[test]
fn the_shipped_scenarios_are_listed_and_shown() {
    let listed = simulate(&["--list"]).out;
    assert!(listed.lines().count() >= 20, "{listed}");
    assert!(listed.contains("seed001-s2            S2: a function"), "{listed}");
    assert!(simulate(&["seed001-s3", "--show"]).out.contains("max_receives = 2"));
}

#[test]
fn a_plan_is_simulated_beside_its_figures() {
    let plan = |words: &[&str]| {
        let found =
            tidegate_in(&root(), &[&["plan", "--vendor", "10/s", "--simulate"], words].concat());
        assert_eq!(found.code, Some(0), "{}", found.error);
        found.out
    };
    let figures = |printed: &str, name: &str| -> (f64, f64) {
        let line = printed.lines().rev().find(|line| line.trim_start().starts_with(name)).unwrap();
        let rest =
            line.trim_start().strip_prefix(name).unwrap().replace("/s", "").replace(" s", "");
        let numbers: Vec<f64> = rest.split_whitespace().map(|each| each.parse().unwrap()).collect();
        (numbers[0], numbers[1])
    };
    let waits = plan(&["--jitter", "1ms", "--arrivals", "8/s"]);
    let (planned, simulated) = figures(&waits, "wait of 1 in 100");
    assert!((simulated / planned - 1.0).abs() < 0.05, "{waits}");
    assert_eq!(figures(&waits, "refused").1, 0.0);

    let backlog = plan(&["--jitter", "50ms", "--backlog", "1000", "--latency", "300ms"]);
    let (planned, simulated) = figures(&backlog, "backlog done");
    assert!((simulated / planned - 1.0).abs() < 0.01, "{backlog}");
    assert_eq!(figures(&backlog, "worst window"), (10.0, 10.0));

    let json = plan(&["--jitter", "50ms", "--backlog", "100", "--json"]);
    let json: serde_json::Value = json.parse().unwrap();
    assert_eq!(json["simulated"]["done"]["value"], 100);
}
