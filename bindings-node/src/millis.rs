//! Conversions between JavaScript's milliseconds and the engine's nanoseconds.

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Whole milliseconds, rounded up, so that waiting for as long is always enough.
pub(crate) fn in_millis(nanos: u64) -> f64 {
    nanos.div_ceil(NANOS_PER_MILLI) as f64
}

/// The nearest nanosecond; `u64::MAX` for what is beyond it.
pub(crate) fn in_nanos(millis: f64) -> u64 {
    let whole = millis.floor();
    let beyond = ((millis - whole) * NANOS_PER_MILLI as f64).round();
    (whole as u64).saturating_mul(NANOS_PER_MILLI).saturating_add(beyond as u64)
}
