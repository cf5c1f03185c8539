//! Reads the objects of a configuration by tables of their fields.
//!
//! One function reads every object, and an error is kept in the reader and not returned: code for each
//! field, with errors of a hundred bytes, made the module half as large again.

use crate::config_error::{ConfigError, FieldPath, Problem};
use crate::cost::Settle;
use crate::json::{MAX_STRING, Reader, Syntax, ValueKind};
use crate::names::{Name, Names};
use crate::source;
use crate::text::Text;
use crate::usage;

pub(crate) const NAME: &str = "a string of 1 to 255 bytes";
const HEADER: &str = "the name of a header, 1 to 64 of the characters that HTTP allows";
const COOKIE: &str = "the name of a cookie, without spaces, quotes, \"=\", \";\" and \",\"";
const TIME: &str = "a whole number of ms or s from \"1ms\" to \"60s\"";
const MOST_MS: u64 = 60_000;
const PREFIX: &str = "1 to 64 of the characters a-z, A-Z, 0-9, \"_\", \"-\" and \".\"";
const MAX_PREFIX: usize = 64;
const PATH: &str = "1 to 8 names, separated by dots";

/// A field that an object may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// The kind of a field's value. Each value is read as 32 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `true` (1) or `false` (0).
    Flag,
    /// A whole number within these bounds.
    Number(u32, u32),
    /// A time, in milliseconds.
    Time,
    /// A text that is not empty, as the bits of its name.
    Text,
    /// The name of a header, as the bits of the name of its property.
    Header,
    /// The name of a cookie, as the bits of its name.
    Cookie,
    /// The prefix of the counters' names, as the bits of its name.
    Prefix,
    /// Names of nested fields, separated by dots, as the bits of their name.
    Path,
    /// One of these words, by its place.
    Word(&'static [&'static str], &'static str),
    /// An object without fields.
    Empty,
    /// What the function of the object's caller reads.
    Other,
}

pub(crate) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

/// The configuration is refused: its text is not JSON, or the reader has the error.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    Syntax(Syntax),
    Kept,
}

impl From<Syntax> for Refused {
    fn from(syntax: Syntax) -> Self {
        Self::Syntax(syntax)
    }
}

pub(crate) type Read<T> = Result<T, Refused>;

/// The values of an object's fields, by their places in its table.
pub(crate) type Values<const N: usize> = [Option<u32>; N];

/// Reads a configuration; it has the reader, the texts read so far, and the error.
pub(crate) struct ConfigReader<'a> {
    pub(crate) json: Reader<'a>,
    pub(crate) names: Names,
    pub(crate) error: Option<ConfigError<'a>>,
    /// How responses tell what has been used, once a cost has said it.
    pub(crate) settle: Option<Settle>,
}

/// Reads the value of a field of the kind [`Kind::Other`], by its place in the table.
type Other<'o, 'a> =
    &'o mut dyn FnMut(&mut ConfigReader<'a>, &FieldPath<'_, 'a>, usize) -> Read<u32>;

impl<'a> ConfigReader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { json: Reader::new(text), names: Names::EMPTY, error: None, settle: None }
    }

    /// Keeps the error; an earlier one would have ended the reading.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(&mut self, path: &FieldPath<'_, 'a>, problem: Problem<'a>) -> Refused {
        self.error = Some(ConfigError::new(path, problem));
        Refused::Kept
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn missing(
        &mut self,
        path: &FieldPath<'_, 'a>,
        name: &'static str,
        wanted: &'static str,
    ) -> Refused {
        self.refuse(&path.field(name), Problem::Missing { wanted })
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn mismatch(
        &mut self,
        path: &FieldPath<'_, 'a>,
        found: &'a str,
        wanted: &'static str,
    ) -> Refused {
        self.refuse(path, Problem::Mismatch { found, wanted })
    }

    /// Keeps a text; answers the bits of its name.
    #[inline(never)]
    pub(crate) fn keep(&mut self, path: &FieldPath<'_, 'a>, text: &[u8]) -> Read<u32> {
        match self.names.add(text) {
            Some(name) => Ok(name.bits()),
            None => Err(self.refuse(path, Problem::TooMuchText)),
        }
    }

    /// Reads an object whose fields are those of `fields`.
    pub(crate) fn object<const N: usize>(
        &mut self,
        path: &FieldPath<'_, 'a>,
        wanted: &'static str,
        fields: &'static [Field; N],
        other: Other<'_, 'a>,
    ) -> Read<Values<N>> {
        let mut values = [None; N];
        self.object_into(path, wanted, fields, &mut values, other)?;
        Ok(values)
    }

    #[inline(never)]
    fn object_into(
        &mut self,
        path: &FieldPath<'_, 'a>,
        wanted: &'static str,
        fields: &'static [Field],
        values: &mut [Option<u32>],
        other: Other<'_, 'a>,
    ) -> Read<()> {
        self.expect(path, ValueKind::Object, wanted)?;
        self.json.begin_object()?;
        while let Some(name) = self.json.field()? {
            let path = path.field(name);
            let (place, kind) = self.known(&path, name, fields)?;
            let value = match kind {
                Kind::Other => other(self, &path, place)?,
                kind => self.value(&path, kind)?,
            };
            if values.get_mut(place).and_then(|known| known.replace(value)).is_some() {
                return Err(self.refuse(&path, Problem::Twice));
            }
        }
        Ok(())
    }

    /// Reads an object of exactly one field; answers its place and its value.
    #[inline(never)]
    pub(crate) fn choice(
        &mut self,
        path: &FieldPath<'_, 'a>,
        wanted: &'static str,
        fields: &'static [Field],
        other: Other<'_, 'a>,
    ) -> Read<(usize, u32)> {
        let mut read = None;
        self.expect(path, ValueKind::Object, wanted)?;
        self.json.begin_object()?;
        while let Some(name) = self.json.field()? {
            let path = path.field(name);
            let (place, kind) = self.known(&path, name, fields)?;
            let value = match kind {
                Kind::Other => other(self, &path, place)?,
                kind => self.value(&path, kind)?,
            };
            if read.replace((place, value)).is_some() {
                return Err(self.refuse(&path, Problem::SecondSource));
            }
        }
        read.ok_or_else(|| self.refuse(path, Problem::Missing { wanted }))
    }

    /// The place and the kind of a field.
    fn known(
        &mut self,
        path: &FieldPath<'_, 'a>,
        name: &str,
        fields: &'static [Field],
    ) -> Read<(usize, Kind)> {
        let mut known = fields.iter().map(|field| field.kind).enumerate();
        let place = fields.iter().position(|field| field.name == name);
        let found = place.and_then(|place| known.nth(place));
        found.ok_or_else(|| self.refuse(path, Problem::Unknown { known: fields }))
    }

    /// Reads a list that is not empty, item by item.
    #[inline(never)]
    pub(crate) fn list(
        &mut self,
        path: &FieldPath<'_, 'a>,
        wanted: &'static str,
        item: Other<'_, 'a>,
    ) -> Read<usize> {
        let mut count = 0;
        self.expect(path, ValueKind::Array, wanted)?;
        self.json.begin_array()?;
        while self.json.item()? {
            item(self, &path.item(count), count)?;
            count += 1;
        }
        if count == 0 { Err(self.mismatch(path, "an empty list", wanted)) } else { Ok(count) }
    }

    #[inline(never)]
    pub(crate) fn value(&mut self, path: &FieldPath<'_, 'a>, kind: Kind) -> Read<u32> {
        match kind {
            Kind::Flag => {
                self.expect(path, ValueKind::Boolean, "true or false")?;
                Ok(u32::from(self.json.boolean()?))
            }
            Kind::Number(least, most) => {
                let found = self.json.glimpse();
                match self.json.whole_number() {
                    Some(number) if (u64::from(least)..=u64::from(most)).contains(&number) => {
                        Ok(number as u32)
                    }
                    _ => Err(self.refuse(path, Problem::Range { found, least, most })),
                }
            }
            Kind::Text => {
                let (text, found) = self.text(path, NAME)?;
                match text.as_bytes() {
                    [] => Err(self.mismatch(path, found, NAME)),
                    text => self.keep(path, text),
                }
            }
            Kind::Word(words, wanted) => {
                let (text, found) = self.text(path, wanted)?;
                let place = words.iter().position(|word| *word == text.as_str());
                place.map(|place| place as u32).ok_or_else(|| self.mismatch(path, found, wanted))
            }
            Kind::Time => {
                let (text, found) = self.text(path, TIME)?;
                let time = milliseconds(text.as_bytes()).filter(|ms| (1..=MOST_MS).contains(ms));
                time.map(|ms| ms as u32).ok_or_else(|| self.mismatch(path, found, TIME))
            }
            Kind::Header => {
                let (name, found) = self.text(path, HEADER)?;
                match source::header_property(name.as_str()) {
                    Some(property) => self.keep(path, property.as_bytes()),
                    None => Err(self.mismatch(path, found, HEADER)),
                }
            }
            Kind::Cookie => {
                let (text, found) = self.text(path, COOKIE)?;
                // No cookie of a request has such a name, so that its limit would hold for nobody.
                let allowed = |byte: &u8| byte.is_ascii_graphic() && !b"=;,\"".contains(byte);
                match text.as_bytes() {
                    name @ [_, ..] if name.iter().all(allowed) => self.keep(path, name),
                    _ => Err(self.mismatch(path, found, COOKIE)),
                }
            }
            Kind::Prefix => {
                let (text, found) = self.text(path, PREFIX)?;
                let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
                match text.as_bytes() {
                    prefix @ [_, ..]
                        if prefix.len() <= MAX_PREFIX && prefix.iter().all(allowed) =>
                    {
                        self.keep(path, prefix)
                    }
                    _ => Err(self.mismatch(path, found, PREFIX)),
                }
            }
            Kind::Path => {
                let (text, found) = self.text(path, PATH)?;
                match text.as_bytes() {
                    names if usage::is_path(names) => self.keep(path, names),
                    _ => Err(self.mismatch(path, found, PATH)),
                }
            }
            Kind::Empty => {
                self.object_into(path, "{}", &[], &mut [], &mut |_, _, _| Ok(0))?;
                Ok(0)
            }
            Kind::Other => Ok(0),
        }
    }

    /// Reads a string; answers its value and its spelling in the text.
    #[inline(never)]
    pub(crate) fn text(
        &mut self,
        path: &FieldPath<'_, 'a>,
        wanted: &'static str,
    ) -> Read<(Text<MAX_STRING>, &'a str)> {
        self.expect(path, ValueKind::String, wanted)?;
        let found = self.json.glimpse();
        match self.json.string()? {
            Some(text) => Ok((text, found)),
            None => Err(self.mismatch(path, found, wanted)),
        }
    }

    #[inline(never)]
    pub(crate) fn expect(
        &mut self,
        path: &FieldPath<'_, 'a>,
        kind: ValueKind,
        wanted: &'static str,
    ) -> Read<()> {
        if self.json.kind()? == kind {
            return Ok(());
        }
        let found = self.json.glimpse();
        Err(self.mismatch(path, found, wanted))
    }
}

/// The name of these bits.
pub(crate) fn name(bits: u32) -> Name {
    Name::from_bits(bits)
}

/// The milliseconds of a time such as `20ms` or `1s`.
fn milliseconds(text: &[u8]) -> Option<u64> {
    let (digits, millis) = match text {
        [digits @ .., b'm', b's'] => (digits, 1),
        [digits @ .., b's'] => (digits, 1000),
        _ => return None,
    };
    crate::cost::number(digits)?.checked_mul(millis)
}
