//! The engine and the Lua scripts agree on any bytes under a bucket's key in Redis: they take the
//! same step from a bucket, and refuse everything else. What is written can be read back.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tidegate::bindings::{SCRIPTS, value};
use tidegate_conformance::case::Case;
use tidegate_conformance::lua_twin::LuaTwin;
use tidegate_core::{Limit, MAX_SPAN, Operation};
use tidegate_fuzz::bytes::{limits, number};

/// The latest clock: a cell is written with at most ten digits of seconds (the year 2286).
const LATEST: u64 = 9_999_999_999_999_999_999 - MAX_SPAN;

thread_local! {
    static TWINS: [(&'static str, LuaTwin); SCRIPTS.len()] = SCRIPTS
        .map(|script| (script.name, LuaTwin::load(script.text()).expect("the script loads")));
}

#[derive(Debug)]
struct Input(Case);

impl Arbitrary<'_> for Input {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        let limits = limits(input)?;
        let now = number(input)? % (LATEST + 1);
        let smallest = limits.iter().map(Limit::burst).min().unwrap_or(0);
        let (first, kind) = (number(input)?, input.arbitrary::<u8>()?);
        let cost = first % (smallest + 1);
        let operation = match kind % 8 {
            0 => Operation::Check { cost: cost.into() },
            1 => Operation::Peek { cost: cost.into() },
            2 | 3 => {
                Operation::Reserve { cost: cost.into(), max_wait: number(input)?, min_wait: 0 }
            }
            4 => Operation::Settle { charged: first.into(), actual: number(input)?.into() },
            5 => Operation::Credit { tokens: first.into() },
            6 => Operation::Hold { wait: first },
            _ => Operation::Reset,
        };
        let rest = input.bytes(input.len())?;
        let value = (!rest.is_empty()).then(|| rest.to_vec());
        Ok(Self(Case { now, values: vec![value], limits, operation }))
    }
}

fuzz_target!(|input: Input| {
    let Input(case) = input;
    read_back(&case);
    let call = case.call();
    TWINS.with(|twins| {
        let (_, twin) = twins.iter().find(|(name, _)| *name == call.script.name).expect("a script");
        let ran = twin.run(&case.seen(), &call.arguments);
        let ran = ran.unwrap_or_else(|error| panic!("the script failed: {error}"));
        case.compare(&ran).unwrap_or_else(|difference| panic!("{difference}"));
    });
});

fn read_back(case: &Case) {
    let Ok(stored) = value::read(&case.values, &case.limits, case.now) else { return };
    let written = value::write(&stored.cells, &case.limits, case.now);
    let again = value::read(&[Some(written.clone().into_bytes())], &case.limits, case.now);
    let again = again.unwrap_or_default().cells;
    for ((limit, &cell), &again) in case.limits.iter().zip(&stored.cells).zip(&again) {
        let position = limit.timeline().position(case.now);
        // All cells up to the position are the same full bucket.
        assert_eq!(cell.max(position), again, "{case} was written as {written:?}");
        assert!(cell.saturating_sub(position) <= MAX_SPAN, "{case} owes too much");
    }
}
