//! Any text is parsed or refused. A parsed limit keeps the bounds, and its canonical text parses to
//! the same limit. A refusal points into the text, and what it says to write instead is of the grammar.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_core::{AnyLimit, Error, Limit, MAX_RATE_PER_SECOND, MAX_SPAN, Shape};

const SECOND: u128 = 1_000_000_000;
const CENTURY: u128 = 100 * 365 * 86_400 * SECOND;

fuzz_target!(|text: &str| {
    match AnyLimit::parse(text) {
        Ok(limit) => {
            let canonical = limit.to_string();
            assert_eq!(AnyLimit::parse(&canonical), Ok(limit), "{text:?} as {canonical:?}");
            assert_eq!(Limit::parse(text).ok().as_ref(), limit.rate(), "{text:?}");
            if let Some(rate) = limit.rate() {
                keeps_the_bounds(text, rate);
            }
        }
        Err(error) => points_into(text, &error),
    }
});

fn keeps_the_bounds(text: &str, limit: &Limit) {
    let (tokens, period) = (u128::from(limit.tokens()), u128::from(limit.period()));
    let burst = u128::from(limit.burst());
    assert!(tokens > 0 && period > 0 && burst > 0, "{text:?}");
    assert!(tokens * SECOND <= u128::from(MAX_RATE_PER_SECOND) * period, "{text:?}");
    match limit.shape() {
        Shape::Smooth => {
            let width = period.div_ceil(tokens);
            assert!(burst * width <= u128::from(MAX_SPAN), "{text:?}");
            assert!((width * tokens - period) * 100 <= period, "{text:?}");
        }
        Shape::Stepped => {
            assert!(period.is_multiple_of(1_000_000), "{text:?}");
            assert!(burst <= u128::from(MAX_SPAN), "{text:?}");
            assert!(burst.div_ceil(tokens) * period <= CENTURY, "{text:?}");
        }
    }
}

fn points_into(text: &str, error: &Error) {
    if let Error::Syntax { at, .. }
    | Error::Spelling { at, .. }
    | Error::SeveralLimits { at }
    | Error::UnknownUnit { at }
    | Error::NumberTooLarge { at }
    | Error::DurationTooLong { at } = error
    {
        assert!(text.is_char_boundary(*at), "{text:?}: {error}");
    }
    if let Error::Spelling { instead, .. } = error {
        advises_the_grammar(text, &instead.to_string());
    }
    let sentence = error.in_text(text).to_string();
    assert!(!error.reason().is_empty() && !sentence.is_empty(), "{text:?}");
}

/// A rate is valid by itself, a duration after a count, and a count before a period. Only a bound may
/// be broken.
fn advises_the_grammar(text: &str, instead: &str) {
    let rate = match instead {
        rate if rate.contains('/') => rate.to_owned(),
        count if count.ends_with(|last: char| last.is_ascii_digit()) => format!("{count}/s"),
        duration => format!("1/{duration}"),
    };
    if let Err(error) = Limit::parse(&rate) {
        let reason = error.reason();
        assert!(
            !["syntax", "unknown_unit", "number_too_large"].contains(&reason),
            "{text:?}: {error}"
        );
    }
}
