//! Any text is parsed or refused. A parsed limit keeps the bounds, and its canonical text parses to
//! the same limit. A refusal points into the text.
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
    if let Error::Syntax { at, .. } | Error::UnknownUnit { at } | Error::NumberTooLarge { at } =
        error
    {
        assert!(text.is_char_boundary(*at), "{text:?}: {error}");
    }
    assert!(!error.reason().is_empty() && !error.to_string().is_empty(), "{text:?}");
}
