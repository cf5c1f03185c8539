//! Any bytes under a bucket's key in Redis are a bucket or refused, alike by the
//! engine's side and by the Lua script; what is written reads back.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tidegate::redis::{CHECK, value};
use tidegate_conformance::case::Case;
use tidegate_conformance::lua_twin::LuaTwin;
use tidegate_core::{Limit, MAX_SPAN};
use tidegate_fuzz::bytes::{limits, number};

/// A cell is written with at most ten digits of seconds (the year 2286).
const LATEST: u64 = 9_999_999_999_999_999_999 - MAX_SPAN;

thread_local! {
    static TWIN: LuaTwin = LuaTwin::load(CHECK).expect("check.lua loads");
}

#[derive(Debug)]
struct Input(Case);

impl Arbitrary<'_> for Input {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let limits = limits(input)?;
        let now = number(input)? % (LATEST + 1);
        let smallest = limits.iter().map(Limit::burst).min().unwrap_or(0);
        let cost = number(input)? % (smallest + 1);
        let rest = input.bytes(input.len())?;
        let value = (!rest.is_empty()).then(|| rest.to_vec());
        Ok(Self(Case { now, value, limits, cost }))
    }
}

fuzz_target!(|input: Input| {
    let Input(case) = input;
    let text = case.value.as_deref().and_then(|bytes| core::str::from_utf8(bytes).ok());
    if let Some(text) = text {
        read_back(&case, text);
    }
    TWIN.with(|twin| {
        let outcome = twin.run(case.now, case.value.as_deref(), &case.arguments());
        let outcome = outcome.unwrap_or_else(|error| panic!("the script failed: {error}"));
        case.compare(&outcome).unwrap_or_else(|difference| panic!("{difference}"));
    });
});

fn read_back(case: &Case, text: &str) {
    let Some(cells) = value::read(text, &case.limits, case.now) else { return };
    let written = value::write(&cells, &case.limits, case.now);
    let again = value::read(&written, &case.limits, case.now);
    for ((limit, &cell), &again) in case.limits.iter().zip(&cells).zip(&again.unwrap_or_default()) {
        let position = limit.timeline().position(case.now);
        // A cell in the past and one at this moment are the same full bucket.
        assert_eq!(cell.max(position), again, "{text:?} was written as {written:?}");
        assert!(cell.saturating_sub(position) <= MAX_SPAN, "{text:?} owes too much");
    }
}
