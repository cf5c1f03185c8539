//! Conversions between JavaScript's numbers and the engine's: milliseconds and nanoseconds, counts.

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Whole milliseconds, rounded up, so that waiting for as long is always enough; infinite for the
/// largest value, which is never.
pub(crate) fn in_millis(nanos: u64) -> f64 {
    if nanos == u64::MAX { f64::INFINITY } else { nanos.div_ceil(NANOS_PER_MILLI) as f64 }
}

/// A count of tokens; infinite for the largest value, which is that of `unlimited`.
pub(crate) fn in_count(count: u64) -> f64 {
    if count == u64::MAX { f64::INFINITY } else { count as f64 }
}

/// The nearest nanosecond; `u64::MAX` for what is beyond it.
pub(crate) fn in_nanos(millis: f64) -> u64 {
    let whole = millis.floor();
    let beyond = ((millis - whole) * NANOS_PER_MILLI as f64).round();
    (whole as u64).saturating_mul(NANOS_PER_MILLI).saturating_add(beyond as u64)
}
