//! The answer of a script: the state of the buckets before its step.

use crate::error::Error;

/// A part of a script's answer, in whatever form a client gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyPart {
    /// No value.
    Nil,
    /// A text.
    Bytes(Vec<u8>),
    /// A number.
    Integer(i64),
}

/// The server's clock and the buckets as a script found them, before its step.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The server's clock, in nanoseconds since the Unix epoch.
    pub now: u64,
    /// The stored value of each key: none for a bucket never used, and nothing that could
    /// be a bucket's for a key of another type.
    pub values: Vec<Option<Vec<u8>>>,
}

impl Snapshot {
    /// Reads a script's answer about `keys` keys.
    ///
    /// # Errors
    /// [`Error::Store`] when it has another form.
    pub fn read(parts: impl IntoIterator<Item = ReplyPart>, keys: usize) -> Result<Self, Error> {
        let mut parts = parts.into_iter();
        let other_form = || Error::Store("the script's answer has another form".into());
        let (Some(seconds), Some(micros)) = (whole(parts.next()), whole(parts.next())) else {
            return Err(other_form());
        };
        let now = seconds.saturating_mul(1_000_000).saturating_add(micros).saturating_mul(1000);
        let mut values: Vec<_> = parts
            .map(|part| match part {
                ReplyPart::Nil => None,
                ReplyPart::Bytes(value) => Some(value),
                ReplyPart::Integer(_) => Some(Vec::new()),
            })
            .collect();
        if values.len() > keys {
            return Err(other_form());
        }
        // Some clients leave out what is nil at the end.
        values.resize(keys, None);
        Ok(Self { now, values })
    }
}

fn whole(part: Option<ReplyPart>) -> Option<u64> {
    match part? {
        ReplyPart::Bytes(digits) => core::str::from_utf8(&digits).ok()?.parse().ok(),
        ReplyPart::Integer(number) => u64::try_from(number).ok(),
        ReplyPart::Nil => None,
    }
}
