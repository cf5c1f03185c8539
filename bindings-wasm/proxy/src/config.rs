//! The filter's configuration: what README.md tabulates, read strictly.

use core::ops::RangeInclusive;

use tidegate_core::{Limit, MAX_TIERS};

pub use crate::config_error::ConfigError;
use crate::config_error::{Place, Problem};
use crate::json::{Kind, Reader, STRING};
use crate::key::KeySource;
use crate::text::Text;

/// Names of clusters, domains and descriptors hold at most this many bytes.
pub const MAX_NAME: usize = STRING;
/// What `local.max_keys` may be.
pub const KEYS: RangeInclusive<u64> = 16..=65_536;
const DEFAULT_KEYS: u32 = 4096;
const MAX_STAT_PREFIX: usize = 64;
const STATUS: RangeInclusive<u64> = 400..=599;
const DEFAULT_STATUS: u32 = 429;
const TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;
const DEFAULT_TIMEOUT_MS: u32 = 20;

const SOURCES: &str = "{\"header\": \"x-api-key\"}, {\"client_address\": {}} or {\"path\": {}}";
const HEADER: &str = "the name of a header, 1 to 64 of the characters that HTTP allows";
const LIMITS: &str = "a list of 1 to 4 limits, such as [\"100/s burst 20\"]";
const LIMIT: &str = "the text of a limit, such as \"100/s burst 20\"";
const NAME: &str = "a string of 1 to 128 bytes";
const TIMEOUT: &str = "a whole number of ms or s from \"1ms\" to \"60s\"";
const POLICY: &str = "\"allow\" or \"deny\"";
const PREFIX: &str = "1 to 64 of the characters a-z, A-Z, 0-9, \"_\", \"-\" and \".\"";

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which attribute of a request is its bucket's key.
    pub key: KeySource,
    /// What becomes of requests that have no key.
    pub missing_key: Policy,
    /// Buckets in this worker's memory.
    pub local: Option<Local>,
    /// Buckets that a rate limit service keeps.
    pub service: Option<Service>,
    /// The HTTP status of a refusal.
    pub status: u32,
    /// What the names of the filter's counters begin with.
    pub stat_prefix: Text<MAX_STAT_PREFIX>,
    /// Whether refusals carry `x-ratelimit-*` and `retry-after`.
    pub headers: bool,
}

/// What to do with a request that cannot be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Let it pass.
    Allow,
    /// Answer it with an error.
    Deny,
}

/// The `local` section.
#[derive(Clone, Debug)]
pub struct Local {
    /// All must allow.
    pub limits: Limits,
    /// How many keys are remembered at once.
    pub max_keys: u32,
}

/// One to four limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    count: usize,
    /// Filled up with the first one.
    limits: [Limit; MAX_TIERS],
}

impl Limits {
    /// The limits, in the order in which they were given.
    pub fn as_slice(&self) -> &[Limit] {
        self.limits.get(..self.count).unwrap_or_default()
    }
}

/// The `service` section.
#[derive(Clone, Debug)]
pub struct Service {
    /// Envoy's name of the cluster that answers.
    pub cluster: Text<MAX_NAME>,
    /// The domain of the rate limit request.
    pub domain: Text<MAX_NAME>,
    /// The key of the request's only descriptor entry.
    pub descriptor: Text<MAX_NAME>,
    /// How long to wait for the answer, in milliseconds.
    pub timeout_ms: u32,
    /// What becomes of a request that the service gave no answer for.
    pub on_error: Policy,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// The first field that is unknown, missing, given twice, of the wrong type or
    /// out of range.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError<'_>> {
        let Ok(text) = core::str::from_utf8(json) else {
            return Err(Place::ROOT.refuse(Problem::NotUtf8));
        };
        let mut reader = Reader::new(text);
        let config = read_config(&mut reader)?;
        reader.end()?;
        Ok(config)
    }
}

type Read<'a, T> = Result<T, ConfigError<'a>>;

// The readers of sections are kept out of line: inlined into one another they copy their
// large results about, which takes up a quarter of the module.

#[inline(never)]
fn read_config<'a>(reader: &mut Reader<'a>) -> Read<'a, Config> {
    let (mut key, mut missing_key, mut local, mut service) = (None, None, None, None);
    let (mut status, mut stat_prefix, mut headers) = (None, None, None);
    begin_object(reader, Place::ROOT, "an object")?;
    while let Some(name) = reader.field()? {
        let place = Place::ROOT.field(name);
        match name {
            "key" => place.once(&mut key, read_key(reader, place)?)?,
            "missing_key" => place.once(&mut missing_key, read_policy(reader, place)?)?,
            "local" => place.once(&mut local, read_local(reader, place)?)?,
            "service" => place.once(&mut service, read_service(reader, place)?)?,
            "status" => place.once(&mut status, read_number(reader, place, STATUS)?)?,
            "stat_prefix" => place.once(&mut stat_prefix, read_prefix(reader, place)?)?,
            "headers" => place.once(&mut headers, read_boolean(reader, place)?)?,
            _ => {
                return Err(place
                    .unknown("key, missing_key, local, service, status, stat_prefix and headers"));
            }
        }
    }
    if local.is_none() && service.is_none() {
        return Err(Place::ROOT.refuse(Problem::NoSection));
    }
    Ok(Config {
        key: key.ok_or_else(|| Place::ROOT.field("key").missing(SOURCES))?,
        missing_key: missing_key.unwrap_or(Policy::Allow),
        local,
        service,
        status: status.unwrap_or(DEFAULT_STATUS),
        stat_prefix: stat_prefix.unwrap_or(Text::literal("tidegate")),
        headers: headers.unwrap_or(true),
    })
}

#[inline(never)]
fn read_key<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, KeySource> {
    let mut key = None;
    begin_object(reader, place, SOURCES)?;
    while let Some(name) = reader.field()? {
        let place = place.field(name);
        let source = match name {
            "header" => read_header_name(reader, place)?,
            "client_address" => {
                read_empty(reader, place)?;
                KeySource::client_address()
            }
            "path" => {
                read_empty(reader, place)?;
                KeySource::path()
            }
            _ => return Err(place.unknown("header, client_address and path")),
        };
        if key.replace(source).is_some() {
            return Err(place.refuse(Problem::SecondSource));
        }
    }
    key.ok_or_else(|| place.missing(SOURCES))
}

#[inline(never)]
fn read_local<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, Local> {
    let (mut limits, mut max_keys) = (None, None);
    begin_object(reader, place, "an object")?;
    while let Some(name) = reader.field()? {
        let place = place.field(name);
        match name {
            "limits" => place.once(&mut limits, read_limits(reader, place)?)?,
            "max_keys" => place.once(&mut max_keys, read_number(reader, place, KEYS)?)?,
            _ => return Err(place.unknown("limits and max_keys")),
        }
    }
    Ok(Local {
        limits: limits.ok_or_else(|| place.field("limits").missing(LIMITS))?,
        max_keys: max_keys.unwrap_or(DEFAULT_KEYS),
    })
}

#[inline(never)]
fn read_service<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, Service> {
    let (mut cluster, mut domain, mut descriptor) = (None, None, None);
    let (mut timeout_ms, mut on_error) = (None, None);
    begin_object(reader, place, "an object")?;
    while let Some(name) = reader.field()? {
        let place = place.field(name);
        match name {
            "cluster" => place.once(&mut cluster, read_name(reader, place)?)?,
            "domain" => place.once(&mut domain, read_name(reader, place)?)?,
            "descriptor" => place.once(&mut descriptor, read_name(reader, place)?)?,
            "timeout" => place.once(&mut timeout_ms, read_timeout(reader, place)?)?,
            "on_error" => place.once(&mut on_error, read_policy(reader, place)?)?,
            _ => return Err(place.unknown("cluster, domain, descriptor, timeout and on_error")),
        }
    }
    Ok(Service {
        cluster: cluster.ok_or_else(|| place.field("cluster").missing(NAME))?,
        domain: domain.unwrap_or(Text::literal("tidegate")),
        descriptor: descriptor.unwrap_or(Text::literal("key")),
        timeout_ms: timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        on_error: on_error.unwrap_or(Policy::Allow),
    })
}

#[inline(never)]
fn read_limits<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, Limits> {
    let mut read: Option<Limits> = None;
    expect(reader, place, Kind::Array, LIMITS)?;
    reader.begin_array()?;
    while reader.item()? {
        let place = place.item(read.map_or(0, |limits| limits.count));
        let (text, found) = read_text(reader, place, LIMIT)?;
        let limit = Limit::parse(text.as_str())
            .map_err(|error| place.refuse(Problem::Limit { found, error }))?;
        let limits = read.get_or_insert(Limits { count: 0, limits: [limit; MAX_TIERS] });
        *limits.limits.get_mut(limits.count).ok_or_else(|| place.refuse(Problem::FifthLimit))? =
            limit;
        limits.count += 1;
    }
    read.ok_or_else(|| place.mismatch("an empty list", LIMITS))
}

fn read_header_name<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, KeySource> {
    let (name, found) = read_text(reader, place, HEADER)?;
    KeySource::header(name.as_str()).ok_or_else(|| place.mismatch(found, HEADER))
}

fn read_policy<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, Policy> {
    let (text, found) = read_text(reader, place, POLICY)?;
    match text.as_bytes() {
        b"allow" => Ok(Policy::Allow),
        b"deny" => Ok(Policy::Deny),
        _ => Err(place.mismatch(found, POLICY)),
    }
}

fn read_timeout<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, u32> {
    let (text, found) = read_text(reader, place, TIMEOUT)?;
    let (digits, millis) = match text.as_bytes() {
        [digits @ .., b'm', b's'] => (digits, 1),
        [digits @ .., b's'] => (digits, 1000),
        _ => (&b""[..], 0),
    };
    let number = digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    match number.and_then(|number| number.checked_mul(millis)) {
        Some(timeout) if TIMEOUT_MS.contains(&timeout) => Ok(timeout as u32),
        _ => Err(place.mismatch(found, TIMEOUT)),
    }
}

fn read_name<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, Text<MAX_NAME>> {
    let (name, found) = read_text(reader, place, NAME)?;
    if name.as_bytes().is_empty() { Err(place.mismatch(found, NAME)) } else { Ok(name) }
}

#[inline(never)]
fn read_prefix<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, Text<MAX_STAT_PREFIX>> {
    let (text, found) = read_text(reader, place, PREFIX)?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    Text::new(text.as_str())
        .filter(|prefix| !prefix.as_bytes().is_empty() && prefix.as_bytes().iter().all(allowed))
        .ok_or_else(|| place.mismatch(found, PREFIX))
}

fn read_number<'a>(
    reader: &mut Reader<'a>,
    place: Place<'a>,
    range: RangeInclusive<u64>,
) -> Read<'a, u32> {
    let found = reader.glimpse();
    match reader.whole_number() {
        Some(number) if range.contains(&number) => Ok(number as u32),
        _ => Err(place.refuse(Problem::Range { found, least: *range.start(), most: *range.end() })),
    }
}

fn read_boolean<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, bool> {
    expect(reader, place, Kind::Boolean, "true or false")?;
    Ok(reader.boolean()?)
}

fn read_empty<'a>(reader: &mut Reader<'a>, place: Place<'a>) -> Read<'a, ()> {
    begin_object(reader, place, "{}")?;
    match reader.field()? {
        None => Ok(()),
        Some(name) => Err(place.field(name).unknown("none")),
    }
}

/// A string, and how it stands in the text.
fn read_text<'a>(
    reader: &mut Reader<'a>,
    place: Place<'a>,
    wanted: &'static str,
) -> Read<'a, (Text<STRING>, &'a str)> {
    expect(reader, place, Kind::String, wanted)?;
    let found = reader.glimpse();
    match reader.string()? {
        Some(text) => Ok((text, found)),
        None => Err(place.mismatch(found, wanted)),
    }
}

fn begin_object<'a>(
    reader: &mut Reader<'a>,
    place: Place<'a>,
    wanted: &'static str,
) -> Read<'a, ()> {
    expect(reader, place, Kind::Object, wanted)?;
    Ok(reader.begin_object()?)
}

fn expect<'a>(
    reader: &mut Reader<'a>,
    place: Place<'a>,
    kind: Kind,
    wanted: &'static str,
) -> Read<'a, ()> {
    if reader.kind()? == kind { Ok(()) } else { Err(place.mismatch(reader.glimpse(), wanted)) }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
