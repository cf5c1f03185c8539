//! The value of a shared bucket, as the scripts write it: one word per tier,
//! the tier's timeline and the cell under it. `lua/clock.lua` describes the form.

use tidegate_core::{Cells, Limit, MAX_SPAN, MAX_TIERS, Timeline};

const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLI: u64 = 1_000_000;

/// The text of a timeline, by which the script knows under which limit a cell was written.
pub fn timeline_text(limit: &Limit) -> String {
    match limit.timeline() {
        Timeline::Smooth { width } => width.to_string(),
        Timeline::Stepped { tokens, period } => format!("{tokens}/{}", period / MILLI),
    }
}

/// What the keys of an operation hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    /// The cells, carried over to the limits that read them.
    pub cells: Cells,
    /// By tier, whether it was written under the limit that reads it; none for a bucket
    /// that does not exist.
    pub own: [Option<bool>; MAX_TIERS],
}

/// Reads values into cells of `limits`, at the server's clock `now`: the value of one key
/// that holds all tiers, or of one key for each tier.
///
/// # Errors
/// The position of a key whose value was not written by Tidegate.
pub fn read(values: &[Option<Vec<u8>>], limits: &[Limit], now: u64) -> Result<Stored, usize> {
    let mut stored = Stored::default();
    let per_key = if values.len() > 1 { 1 } else { MAX_TIERS };
    for (key, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let words = words_of(value, now).ok_or(key)?;
        for (tier, word) in (key..).zip(words.into_iter().take(per_key)) {
            let (Some(written), Some(limit)) = (word, limits.get(tier)) else { break };
            let timeline = limit.timeline();
            let owed = written.timeline.carry(written.debt, &timeline);
            let own = written.timeline == timeline;
            // A full bucket's cell says when it came to be full.
            let full = own && owed == 0;
            let cell = timeline.position(now).saturating_add(owed);
            stored.cells[tier] = if full { written.cell } else { cell };
            stored.own[tier] = Some(own);
        }
    }
    Ok(stored)
}

/// One word of a value, as it stands at some time.
#[derive(Clone, Copy)]
struct Word {
    timeline: Timeline,
    cell: u64,
    /// At most [`MAX_SPAN`].
    debt: u64,
}

fn words_of(value: &[u8], now: u64) -> Option<[Option<Word>; MAX_TIERS]> {
    let mut texts = core::str::from_utf8(value).ok()?.split(' ').filter(|text| !text.is_empty());
    let mut words = [None; MAX_TIERS];
    for word in &mut words {
        let Some(text) = texts.next() else { break };
        *word = Some(read_word(text, now)?);
    }
    (words[0].is_some() && texts.next().is_none()).then_some(words)
}

/// Writes cells as the scripts would at `now`; they write, this serves tests.
pub fn write(cells: &Cells, limits: &[Limit], now: u64) -> String {
    let at_now = |(&cell, limit): (&u64, &Limit)| {
        let timeline = limit.timeline();
        let position = timeline.position(now);
        // A full bucket's cell lies anywhere in the past; it is written as of now.
        let cell = cell.max(position);
        match timeline {
            Timeline::Smooth { .. } => word(limit, cell, 0),
            Timeline::Stepped { period, .. } => word(limit, now / period, cell - position),
        }
    };
    cells.iter().zip(limits).map(at_now).collect::<Vec<_>>().join(" ")
}

/// Writes cells in a form that means the same at any time.
pub fn write_anytime(cells: &Cells, limits: &[Limit]) -> String {
    let at_any_time = |(&cell, limit): (&u64, &Limit)| match limit.timeline() {
        Timeline::Smooth { .. } => word(limit, cell, 0),
        Timeline::Stepped { tokens, .. } => {
            let step = (cell / tokens).min(MAX_SPAN);
            word(limit, step, cell - step * tokens)
        }
    };
    cells.iter().zip(limits).map(at_any_time).collect::<Vec<_>>().join(" ")
}

fn word(limit: &Limit, at: u64, owed: u64) -> String {
    let text = timeline_text(limit);
    match limit.timeline() {
        Timeline::Smooth { .. } => format!("{text}@{}{:09}", at / SECOND, at % SECOND),
        Timeline::Stepped { .. } => format!("{text}@{at}+{owed}"),
    }
}

fn read_word(text: &str, now: u64) -> Option<Word> {
    let (written, cell) = text.split_once('@')?;
    let Some((tokens, period)) = written.split_once('/') else {
        let width = positive(written)?;
        if !(10..=19).contains(&cell.len()) || !is_digits(cell) {
            return None;
        }
        let cell: u64 = cell.parse().ok()?;
        let debt = cell.saturating_sub(now).min(MAX_SPAN);
        return Some(Word { timeline: Timeline::Smooth { width }, cell, debt });
    };
    let (tokens, period) = (positive(tokens)?, positive(period)?);
    let (step, owed) = cell.split_once('+')?;
    let (step, owed) = (whole(step)?, whole(owed)?);
    let passed = i128::from(now / MILLI / period) - i128::from(step);
    let debt = i128::from(owed) - passed * i128::from(tokens);
    let debt = u64::try_from(debt.max(0)).unwrap_or(u64::MAX).min(MAX_SPAN);
    // The period only gives the timeline its name here; debts are in tokens.
    let timeline = Timeline::Stepped { tokens, period: period.saturating_mul(MILLI) };
    Some(Word { timeline, cell: step.saturating_mul(tokens).saturating_add(owed), debt })
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
