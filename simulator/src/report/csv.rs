//! The seconds and the calls of a run as CSV.

use core::fmt::Write as _;

use super::Report;

/// Each second of the first run of each scenario.
pub fn seconds_csv(reports: &[Report]) -> String {
    let mut out = String::from(
        "scenario,second,produced,calls,refused,done,lost,queued,in_flight,ideal_done\n",
    );
    for report in reports {
        let Some(run) = report.runs.first() else { continue };
        for (at, second) in run.seconds.iter().enumerate() {
            let _ = writeln!(
                out,
                "{},{at},{},{},{},{},{},{},{},{}",
                field(&report.scenario.name),
                second.produced,
                second.calls,
                second.refused,
                second.done,
                second.lost,
                second.queued,
                second.in_flight,
                second.ideal
            );
        }
    }
    out
}

/// Each call that reached the vendor, with the columns of seed 001's own table. `group_id` is the scenario; times
/// are in seconds.
pub fn log_csv(reports: &[Report]) -> String {
    let mut out = String::from("id,sent_at,started_at,group_id,batch_id,cache_id,created_at\n");
    for report in reports {
        for row in report.runs.iter().flat_map(|run| &run.log) {
            let _ = writeln!(
                out,
                "{},{},{},{},{},{},{}",
                row.id,
                seconds(row.sent_at),
                seconds(row.started_at),
                field(&report.scenario.name),
                row.batch_id,
                row.cache_id,
                seconds(row.created_at)
            );
        }
    }
    out
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
