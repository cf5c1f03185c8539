use crate::error::Error;

/// A part of a script's answer, in whatever form a client gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// No value.
    Nil,
    /// A text.
    Bytes(Vec<u8>),
    /// A number.
    Integer(i64),
}

/// What a script saw: the server's clock and the buckets before the step.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The server's clock, in nanoseconds since the Unix epoch.
    pub now: u64,
    /// The stored value of each key: none for a bucket never used, and nothing that could
    /// be a bucket's for a key of another type.
    pub values: Vec<Option<Vec<u8>>>,
}

impl Seen {
    /// Reads a script's answer about so many keys.
    ///
    /// # Errors
    /// [`Error::Store`] when it has another form.
    pub fn read(parts: impl IntoIterator<Item = Part>, keys: usize) -> Result<Self, Error> {
        let mut parts = parts.into_iter();
        let other_form = || Error::Store("the script's answer has another form".into());
        let (Some(seconds), Some(micros)) = (whole(parts.next()), whole(parts.next())) else {
            return Err(other_form());
        };
        let now = seconds.saturating_mul(1_000_000).saturating_add(micros).saturating_mul(1000);
        let mut values: Vec<_> = parts
            .map(|part| match part {
                Part::Nil => None,
                Part::Bytes(value) => Some(value),
                Part::Integer(_) => Some(Vec::new()),
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

fn whole(part: Option<Part>) -> Option<u64> {
    match part? {
        Part::Bytes(digits) => core::str::from_utf8(&digits).ok()?.parse().ok(),
        Part::Integer(number) => u64::try_from(number).ok(),
        Part::Nil => None,
    }
}
