//! Random texts of the grammar's words: whatever is refused is refused at a character, and what an
//! error says to write is of the grammar.

use proptest::prelude::*;
use tidegate_core::{AnyLimit, Error, Limit};

const PIECES: [&str; 58] = [
    "0",
    "1",
    "10",
    "007",
    "1_000",
    "1_",
    "_1",
    "1,000",
    "1,5",
    "0.5",
    ".5",
    "1.",
    "1.25",
    "1e3",
    "1e99",
    "2k",
    "3M",
    "0x1f",
    "0x",
    "+",
    "-",
    "18446744073709551615",
    "99999999999999999999",
    "0.00000000000000000001",
    "/",
    "per",
    "PER",
    "in any",
    "In",
    "any",
    " ",
    "  ",
    "\t",
    "\n",
    ";",
    ", ",
    " and ",
    "&",
    "s",
    "S",
    "secs",
    "min",
    "m",
    "M",
    "hrs",
    "d",
    "weeks",
    "ns",
    "us",
    "month",
    "years",
    "y",
    "fortnight",
    " burst ",
    " stepped",
    " window",
    " jitter ",
    "é",
];

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..9);
    let tail = || pieces.clone().prop_map(|pieces| pieces.concat());
    prop_oneof![
        tail(),
        tail().prop_map(|tail| format!("1/{tail}")),
        tail().prop_map(|tail| format!("0.5{tail}")),
        tail().prop_map(|tail| format!("10/s{tail}")),
    ]
}

/// A rate stands by itself, a duration after a count, and a count before a period.
fn with_the_rest(advice: &str) -> String {
    match advice {
        rate if rate.contains('/') => rate.to_owned(),
        count if count.ends_with(|last: char| last.is_ascii_digit()) => format!("{count}/s"),
        duration => format!("1/{duration}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn errors_point_into_the_text_and_advise_the_grammar(text in text()) {
        match AnyLimit::parse(&text) {
            Ok(limit) => prop_assert_eq!(AnyLimit::parse(&limit.to_string()), Ok(limit)),
            Err(error) => {
                if let Error::Syntax { at, .. }
                | Error::Spelling { at, .. }
                | Error::SeveralLimits { at }
                | Error::UnknownUnit { at }
                | Error::NumberTooLarge { at }
                | Error::DurationTooLong { at } = error
                {
                    prop_assert!(text.is_char_boundary(at), "{error}");
                }
                prop_assert!(!error.in_text(&text).to_string().is_empty());
                if let Error::Spelling { instead, .. } = error {
                    let parsed = Limit::parse(&with_the_rest(&instead.to_string()));
                    let reason = parsed.map_or_else(|error| error.reason(), |_| "");
                    prop_assert!(!["syntax", "unknown_unit"].contains(&reason), "{error}");
                }
            }
        }
    }
}
