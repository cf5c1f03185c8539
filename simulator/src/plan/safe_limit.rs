//! The limit that keeps a vendor's window, whatever the network does within the jitter.

use tidegate_core::{Limit, Timeline};

use super::SECOND;
use super::inputs::{Error, Vendor};

/// A limit of Tidegate, and what it means for the vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct SafeLimit {
    /// The limit in Tidegate's grammar.
    pub text: String,
    /// The time between two calls at the limit's rate, in nanoseconds.
    pub width: u64,
    /// Calls in a second.
    pub rate: f64,
    /// Calls that may be made at once.
    pub burst: u64,
    /// The most calls that can reach the vendor in one of its windows, both ends included.
    pub worst_window: u64,
    /// The part of the vendor's limit that can be used: 1 is all of it.
    pub usable: f64,
}

impl SafeLimit {
    pub(super) fn of(vendor: &Vendor) -> Result<Self, Error> {
        let limit = Limit::in_any(vendor.calls, vendor.window, vendor.jitter, vendor.burst);
        let limit = limit.map_err(Error::Limit)?;
        let Timeline::Smooth { width, .. } = limit.timeline() else {
            return Err(Error::Limit(tidegate_core::Error::SpanTooLong));
        };
        let rate = SECOND as f64 / width as f64;
        Ok(Self {
            text: text(vendor),
            width,
            rate,
            burst: vendor.burst,
            worst_window: vendor.burst + (vendor.window + vendor.jitter) / width,
            usable: rate * vendor.window as f64 / SECOND as f64 / vendor.calls as f64,
        })
    }
}

fn text(vendor: &Vendor) -> String {
    let mut text = format!("{} in any {}", vendor.calls, duration(vendor.window));
    if vendor.burst > 1 {
        text += &format!(" burst {}", vendor.burst);
    }
    if vendor.jitter > 0 {
        text += &format!(" jitter {}", duration(vendor.jitter));
    }
    text
}

/// A duration in the largest unit of the grammar that gives a whole number.
pub(super) fn duration(nanos: u64) -> String {
    let units = [
        ("d", 86_400 * SECOND),
        ("h", 3600 * SECOND),
        ("min", 60 * SECOND),
        ("s", SECOND),
        ("ms", 1_000_000),
        ("us", 1000),
    ];
    let (unit, nanos_each) = units
        .into_iter()
        .find(|(_, each)| nanos >= *each && nanos.is_multiple_of(*each))
        .unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / nanos_each)
}
