//! Reads what vendors' responses say about their limits.

use tidegate_core::{Meaning, Profile, Row, Signal, SignalReader, Unit};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::Failure;

/// What ends each part of a text, because neither headers nor texts of profiles have it.
const END: char = '\0';

/// What a response says, or the failure to understand the profile.
#[wasm_bindgen]
#[derive(Debug)]
pub struct ReadSignal {
    text: String,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl ReadSignal {
    /// Reads a response. `headers` are names and values, `fields` paths and values, and `profile` the
    /// name of a built-in one, or the header, meaning, unit and group of each row; each of these parts
    /// ends with a NUL. Times are in nanoseconds.
    #[wasm_bindgen(constructor)]
    pub fn new(
        status: u16,
        headers: &str,
        fields: &str,
        profile: &str,
        now: u64,
        max_hold: u64,
    ) -> Self {
        Response { status, headers, fields, profile, now, max_hold }.read(|_| ())
    }

    /// The failure to understand the profile.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// The fields of the signal in the order of their declaration, with a NUL between them. A number
    /// that the response does not say is empty.
    #[wasm_bindgen(getter)]
    pub fn text(&self) -> String {
        self.text.clone()
    }
}

/// A response as JavaScript writes it; see [`ReadSignal::new`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub status: u16,
    pub headers: &'a str,
    pub fields: &'a str,
    pub profile: &'a str,
    pub now: u64,
    pub max_hold: u64,
}

impl Response<'_> {
    /// Reads the response, and shows the signal to `observe` unless the profile is not understood.
    pub(crate) fn read(self, observe: impl FnOnce(&Signal<'_>)) -> ReadSignal {
        match self.text(observe) {
            Ok(text) => ReadSignal { text, failure: None },
            Err(message) => {
                let error = tidegate_protocol::Error::InvalidArgument { name: "profile", message };
                ReadSignal { text: String::new(), failure: Some(error.into()) }
            }
        }
    }

    fn text(self, observe: impl FnOnce(&Signal<'_>)) -> Result<String, String> {
        let rows = rows(self.profile)?;
        let own = Profile { rows: &rows, ..Profile::GENERIC };
        let profile = match self.profile.contains(END) {
            true => &own,
            false => Profile::named(self.profile).ok_or_else(|| unknown_profile(self.profile))?,
        };
        let mut reader = SignalReader::new(self.status, profile);
        for (name, value) in pairs(self.headers) {
            reader.header(name.as_bytes(), value.as_bytes());
        }
        for (path, value) in pairs(self.fields) {
            reader.body(path.as_bytes(), value.as_bytes());
        }
        let signal = reader.finish(self.now, self.max_hold);
        observe(&signal);
        Ok(written(&signal))
    }
}

fn rows(profile: &str) -> Result<Vec<Row<'_>>, String> {
    let mut parts = profile.split_terminator(END);
    let mut rows = Vec::new();
    while let (Some(header), Some(meaning), Some(unit), Some(group)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    {
        let unknown = |what: &str, word: &str| format!("there is no {what} \"{word}\"");
        rows.push(Row {
            header,
            meaning: Meaning::parse(meaning).ok_or_else(|| unknown("meaning", meaning))?,
            unit: Unit::parse(unit).ok_or_else(|| unknown("unit", unit))?,
            group,
        });
    }
    Ok(rows)
}

fn unknown_profile(name: &str) -> String {
    let known: Vec<_> = Profile::BUILT_IN.iter().map(|profile| profile.name).collect();
    format!("there is none of the name \"{name}\"; there are {}", known.join(", "))
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = text.split_terminator(END);
    core::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
}

fn written(signal: &Signal<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    [
        signal.hold.to_string(),
        signal.asked.to_string(),
        signal.scope.as_str().to_owned(),
        text(signal.bucket),
        number(signal.remaining),
        number(signal.limit),
        text(signal.limit_name).to_ascii_lowercase(),
        number(signal.window),
        number(signal.reset),
        signal.should_retry.to_string(),
        signal.kind.as_str().to_owned(),
        signal.source.to_ascii_lowercase(),
    ]
    .join("\0")
}
