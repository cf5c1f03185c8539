//! The value of a shared bucket, as `check.lua` writes it: one word per tier,
//! the tier's timeline and the cell under it. See the script for the form.

use core::fmt::Write as _;

use tidegate_core::{Cells, Limit, MAX_SPAN, MAX_TIERS, Timeline};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// The text of a timeline, by which the script knows under which limit a cell was written.
pub fn timeline_text(limit: &Limit) -> String {
    match limit.timeline() {
        Timeline::Smooth { width } => width.to_string(),
        Timeline::Stepped { tokens, period } => format!("{tokens}/{}", period / MILLI),
    }
}

/// Reads a bucket's value into cells of `limits`, at the server's clock `now`.
/// `None` when the value was not written by Tidegate.
pub fn read(value: &str, limits: &[Limit], now: u64) -> Option<Cells> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let mut debts = [None; MAX_TIERS];
    for debt in &mut debts {
        let Some(word) = words.next() else { break };
        *debt = Some(debt_of(word, now)?);
    }
    if debts[0].is_none() || words.next().is_some() {
        return None;
    }
    let mut cells = Cells::default();
    for ((cell, limit), debt) in cells.iter_mut().zip(limits).zip(debts) {
        if let Some((debt, written)) = debt {
            let timeline = limit.timeline();
            let owed = written.carry(debt, &timeline);
            *cell = timeline.position(now).saturating_add(owed);
        }
    }
    Some(cells)
}

/// Writes cells as the script would at `now`; the script writes, this serves tests.
pub fn write(cells: &Cells, limits: &[Limit], now: u64) -> String {
    let mut value = String::new();
    for (cell, limit) in cells.iter().zip(limits) {
        if !value.is_empty() {
            value.push(' ');
        }
        let text = timeline_text(limit);
        // Writing to a String cannot fail.
        let _ = match limit.timeline() {
            Timeline::Smooth { .. } => {
                write!(value, "{text}@{}{:09}", cell / SECOND, cell % SECOND)
            }
            timeline @ Timeline::Stepped { period, .. } => {
                let owed = cell.saturating_sub(timeline.position(now));
                write!(value, "{text}@{}+{owed}", now / period)
            }
        };
    }
    value
}

/// A word's debt at `now`, at most [`MAX_SPAN`], and the timeline it counts on.
fn debt_of(word: &str, now: u64) -> Option<(u64, Timeline)> {
    let (written, cell) = word.split_once('@')?;
    let (debt, timeline) = match written.split_once('/') {
        None => {
            let width = positive(written)?;
            if !(10..=19).contains(&cell.len()) || !is_digits(cell) {
                return None;
            }
            let cell: u64 = cell.parse().ok()?;
            (cell.saturating_sub(now), Timeline::Smooth { width })
        }
        Some((tokens, period)) => {
            let (tokens, period) = (positive(tokens)?, positive(period)?);
            let (step, owed) = cell.split_once('+')?;
            let (step, owed) = (whole(step)?, whole(owed)?);
            let passed = i128::from(now / MILLI / period) - i128::from(step);
            let debt = i128::from(owed) - passed * i128::from(tokens);
            let debt = u64::try_from(debt.max(0)).unwrap_or(u64::MAX);
            // The period only gives the timeline its name here; debts are in tokens.
            (debt, Timeline::Stepped { tokens, period: period.saturating_mul(MILLI) })
        }
    };
    Some((debt.min(MAX_SPAN), timeline))
}

fn positive(digits: &str) -> Option<u64> {
    whole(digits).filter(|&number| number > 0)
}

fn whole(digits: &str) -> Option<u64> {
    let canonical = is_digits(digits) && (digits.len() == 1 || !digits.starts_with('0'));
    if !canonical {
        return None;
    }
    digits.parse().ok().filter(|&number| number <= MAX_SPAN)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
