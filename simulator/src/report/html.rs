//! The report as a page of its own: figures and timelines, without a script and without anything from elsewhere.

use core::fmt::Write as _;

use super::Report;
use super::sparkline::largest_of;
use super::table::{BY_THE_CLOCK, shown};
use crate::figures::about;

/// The drawing's size in its own units; the page scales it.
const WIDTH: usize = 720;
const HEIGHT: usize = 150;
/// Room for the numbers beside and below.
const LEFT: usize = 52;
const BELOW: usize = 22;
const MOST_COLUMNS: usize = 360;

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2330;--soft:#5a6577;--line:#d5dbe4;--calls:#2563a8;--refused:#c2410c;--ideal:#0f7b52;--waiting:#7c5cbf}
@media(prefers-color-scheme:dark){:root{--paper:#12161d;--ink:#e6eaf0;--soft:#9aa6b8;--line:#303846;--calls:#6aa9ec;--refused:#fb8c55;--ideal:#4cc994;--waiting:#b9a2f0}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:58rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.15rem;margin:2.5rem 0 .2rem;border-top:1px solid var(--line);padding-top:1.2rem}
p{margin:.3rem 0}.soft,figcaption{color:var(--soft);font-size:.87rem}figure{margin:1rem 0}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}
.calls{fill:var(--calls)}.busiest{fill:var(--calls);opacity:.3}.refused{fill:var(--refused)}.waiting{fill:var(--waiting)}
.ideal{fill:none;stroke:var(--ideal);stroke-width:1.5}.axis{stroke:var(--line);fill:none}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:.16rem .5rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}td:last-child,th:last-child{text-align:left;white-space:normal;width:40%;color:var(--soft);font-size:.87rem}
.missed{color:var(--refused);font-weight:600}.key{display:inline-block;width:.7em;height:.7em;margin:0 .25em 0 .8em}
@media print{:root{--paper:#fff;--ink:#000;--soft:#333;--line:#bbb;--calls:#2563a8;--refused:#c2410c;--ideal:#0f7b52;--waiting:#7c5cbf}
body{max-width:none;margin:0;font-size:10pt}figure,tr{break-inside:avoid}h2{break-after:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// The reports as one page.
pub fn html(reports: &[Report]) -> String {
    let title = match reports {
        [only] => escaped(&only.scenario.name),
        _ => format!("{} scenarios", reports.len()),
    };
    // All timelines have the same length, so that scenarios can be compared by eye.
    let length =
        reports.iter().filter_map(|report| report.runs.first()).map(|run| run.seconds.len());
    let length = length.max().unwrap_or(0);
    let sections: String = reports.iter().map(|report| section(report, length)).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>Tidegate simulation: {title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n\
         <h1>Tidegate simulation: {title}</h1>\n\
         <p class=\"soft\">The limiter in these runs is the engine itself. The ideal is one bucket at the vendor's rate that \
         knows of every message at once.</p>\n{sections}</body>\n</html>\n"
    )
}

fn section(report: &Report, length: usize) -> String {
    let scenario = &report.scenario;
    let mut out =
        format!("<h2>{}</h2>\n<p>{}</p>\n", escaped(&scenario.name), escaped(&scenario.about));
    if let Some(run) = report.runs.first() {
        let column = |part: fn(&crate::world::Second) -> u32| -> Vec<u32> {
            let mut values: Vec<u32> = run.seconds.iter().map(part).collect();
            values.resize(length, 0);
            values
        };
        let (calls, refused) = (column(|second| second.calls), column(|second| second.refused));
        let ideal = column(|second| second.ideal);
        let are_merged = length > MOST_COLUMNS;
        let busiest = if are_merged {
            "; the light columns are the busiest second of each column, the others its mean"
        } else {
            ""
        };
        let caption = format!(
            "<span class=\"key\" style=\"background:var(--calls)\"></span>calls that reach the vendor in a second\
             <span class=\"key\" style=\"background:var(--refused)\"></span>refused\
             <span class=\"key\" style=\"background:var(--ideal)\"></span>done in the ideal{busiest}"
        );
        let series = [
            ("busiest", largest_of(&calls, MOST_COLUMNS).into_iter().map(thousandths).collect()),
            ("calls", means(&calls)),
            ("refused", means(&refused)),
        ];
        out += &figure(&caption, length, &series, &means(&ideal));
        let queued = column(|second| second.queued);
        let queued = largest_of(&queued, MOST_COLUMNS).into_iter().map(thousandths).collect();
        out += &figure(
            "<span class=\"key\" style=\"background:var(--waiting)\"></span>messages that wait",
            length,
            &[("waiting", queued)],
            &[],
        );
    }
    out += &figures(report);
    for text in &scenario.calibrated {
        let _ = writeln!(out, "<p class=\"soft\">Calibrated: {}</p>", escaped(text));
    }
    for verdict in &report.verdicts {
        let expected = &verdict.expectation;
        let (class, mark) =
            if verdict.is_met { ("soft", "As expected") } else { ("missed", "Not as expected") };
        let of_mean = if expected.of_mean { " on average" } else { "" };
        let found = verdict.found.unit.show(verdict.found.value);
        let _ = writeln!(
            out,
            "<p class=\"{class}\">{mark}: {}{of_mean} {}, found {found}</p>",
            escaped(&expected.figure),
            escaped(&expected.text)
        );
    }
    out
}

fn figures(report: &Report) -> String {
    let has_range = report.runs.len() > 1;
    let head = if has_range {
        format!("<th>mean of {}</th><th>least</th><th>most</th>", report.runs.len())
    } else {
        "<th>value</th>".to_owned()
    };
    let mut out = format!("<table>\n<tr><th>figure</th>{head}<th>ideal</th><th></th></tr>\n");
    for figure in shown(report) {
        let show = |value: u64| figure.unit.show(value);
        let range = if has_range {
            let (least, most) = report.range(figure.name);
            format!("<td>{}</td><td>{}</td>", show(least), show(most))
        } else {
            String::new()
        };
        let ideal = figure.ideal.map_or_else(String::new, |ideal| show(ideal).to_string());
        let by = if BY_THE_CLOCK.contains(&figure.name) { " (as seed 001 counts)" } else { "" };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td>{range}<td>{ideal}</td><td>{}{by}</td></tr>",
            figure.name,
            show(figure.value),
            escaped(about(figure.name))
        );
    }
    out + "</table>\n"
}

/// A drawing of columns, one series in front of the other, and a line. Values are in thousandths.
fn figure(caption: &str, seconds: usize, series: &[(&str, Vec<u64>)], line: &[u64]) -> String {
    let all = series.iter().flat_map(|(_, values)| values).chain(line);
    let most = all.max().copied().unwrap_or(0).div_ceil(1000).max(1);
    let mut svg = String::new();
    for (class, values) in series {
        let _ = write!(svg, "<path class=\"{class}\" d=\"{}\"/>", columns(values, most));
    }
    if !line.is_empty() {
        let _ = write!(svg, "<path class=\"ideal\" d=\"{}\"/>", outline(line, most));
    }
    let (right, bottom) = (LEFT + WIDTH, HEIGHT + 10);
    let _ = write!(
        svg,
        "<path class=\"axis\" d=\"M{LEFT} 10V{bottom}H{right}\"/>\
         <text x=\"{}\" y=\"16\" text-anchor=\"end\">{most}</text>\
         <text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>",
        LEFT - 6,
        LEFT - 6
    );
    for quarter in 0..=4 {
        let anchor = match quarter {
            0 => "start",
            4 => "end",
            _ => "middle",
        };
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{} s</text>",
            LEFT + WIDTH * quarter / 4,
            bottom + 16,
            seconds * quarter / 4
        );
    }
    format!(
        "<figure><svg viewBox=\"0 0 {} {}\" role=\"img\">{svg}</svg><figcaption>{caption}</figcaption></figure>\n",
        right + 6,
        bottom + BELOW
    )
}

fn thousandths(value: u32) -> u64 {
    u64::from(value) * 1000
}

/// The mean of each of at most so many stretches, in thousandths.
fn means(values: &[u32]) -> Vec<u64> {
    let columns = values.len().min(MOST_COLUMNS);
    let start = |column: usize| column * values.len() / columns.max(1);
    (0..columns)
        .map(|column| {
            let part = &values[start(column)..start(column + 1)];
            part.iter().copied().map(thousandths).sum::<u64>() / part.len().max(1) as u64
        })
        .collect()
}

/// A path of filled columns. Places are in hundredths of a unit, from integers.
fn columns(values: &[u64], most: u64) -> String {
    let bottom = HEIGHT + 10;
    let mut path = String::new();
    for (at, value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
        let (from, to) = (x(at, values.len()), x(at + 1, values.len()));
        let (from, to, top) = (hundredths(from), hundredths(to), hundredths(y(*value, most)));
        let _ = write!(path, "M{from} {bottom}V{top}H{to}V{bottom}Z");
    }
    path
}

fn outline(values: &[u64], most: u64) -> String {
    let mut path = String::new();
    for (at, value) in values.iter().enumerate() {
        let command = if at == 0 { 'M' } else { 'L' };
        let middle = (x(at, values.len()) + x(at + 1, values.len())) / 2;
        let _ = write!(path, "{command}{} {}", hundredths(middle), hundredths(y(*value, most)));
    }
    path
}

fn x(at: usize, count: usize) -> u64 {
    (LEFT * 100 + WIDTH * 100 * at / count.max(1)) as u64
}

/// The place of a value in thousandths, on an axis up to a whole number.
fn y(value: u64, most: u64) -> u64 {
    let height = (HEIGHT * 100) as u64;
    1000 + height - height * value / (most * 1000)
}

fn hundredths(value: u64) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
