//! Tokens as JavaScript passes them.

use napi::Either;
use tidegate::Cost;

/// One number for every limit, or one for each. JavaScript has checked their count.
pub(crate) type TokensInput = Either<f64, Vec<f64>>;

/// The tokens that JavaScript has passed.
pub(crate) fn tokens(input: &TokensInput) -> Cost {
    match input {
        Either::A(number) => Cost::same(*number as u64),
        Either::B(numbers) => {
            let numbers: Vec<u64> = numbers.iter().map(|number| *number as u64).collect();
            Cost::each(&numbers).unwrap_or_default()
        }
    }
}
