//! Parses the filter's configuration, strictly; README.md lists its fields.

use core::ops::RangeInclusive;

use tidegate_core::{AnyLimit, BucketTiers, Fixed, Limit, MAX_TIERS};

pub use crate::config_error::ConfigError;
use crate::config_error::{FieldPath, Problem};
use crate::json::{MAX_STRING, Reader, ValueKind};
use crate::key::KeySource;
use crate::text::Text;

/// The longest name of a cluster, a domain or a descriptor, in bytes.
pub const MAX_NAME: usize = MAX_STRING;
/// The bounds of `local.max_keys`.
pub const KEYS: RangeInclusive<u64> = 16..=65_536;
const DEFAULT_KEYS: u32 = 4096;
const MAX_STAT_PREFIX: usize = 64;
const STATUS: RangeInclusive<u64> = 400..=599;
const DEFAULT_STATUS: u32 = 429;
const TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;
const DEFAULT_TIMEOUT_MS: u32 = 100;

/// What stands where there is no limit.
const UNUSED: [Limit; MAX_TIERS] = match Limit::smooth(1, 1_000_000_000, 1) {
    Ok(limit) => [limit; MAX_TIERS],
    Err(_) => panic!("1/s is a limit"),
};

const SOURCES: &str = "{\"header\": \"x-api-key\"}, {\"client_address\": {}} or {\"path\": {}}";
const HEADER: &str = "the name of a header, 1 to 64 of the characters that HTTP allows";
const LIMITS: &str = "a list of 1 to 4 limits, such as [\"100/s burst 20\"]";
const LIMIT: &str = "the text of a limit, such as \"100/s burst 20\"";
const NAME: &str = "a string of 1 to 255 bytes";
const TIMEOUT: &str = "a whole number of ms or s from \"1ms\" to \"60s\"";
const POLICY: &str = "\"allow\" or \"deny\"";
const PREFIX: &str = "1 to 64 of the characters a-z, A-Z, 0-9, \"_\", \"-\" and \".\"";

/// A complete and valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The attribute of a request that is its bucket's key.
    pub key: KeySource,
    /// How requests without a key are handled.
    pub missing_key: Policy,
    /// The buckets in this worker's memory.
    pub local: Option<Local>,
    /// The rate limit service that keeps shared buckets.
    pub service: Option<Service>,
    /// The HTTP status of a refusal.
    pub status: u32,
    /// The prefix of the counters' names.
    pub stat_prefix: Text<MAX_STAT_PREFIX>,
    /// Whether refusals have the headers `x-ratelimit-*` and `retry-after`.
    pub headers: bool,
}

/// How a request that cannot be limited is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It passes.
    Allow,
    /// It is answered with an error.
    Deny,
}

/// The `local` section.
#[derive(Clone, Debug)]
pub struct Local {
    /// The limits, all of which must allow.
    pub limits: Limits,
    /// The most keys that are remembered at once.
    pub max_keys: u32,
}

/// One to four limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    count: usize,
    /// The limits of the buckets; unused elements have no meaning.
    limits: [Limit; MAX_TIERS],
    fixed: Option<Fixed>,
}

impl Limits {
    /// The limits of the buckets, in the order in which they were given: all but `unlimited` and
    /// `none`.
    pub fn as_slice(&self) -> &[Limit] {
        self.limits.get(..self.count).unwrap_or_default()
    }

    /// The answers if no bucket could change them.
    pub fn fixed(&self) -> Option<&Fixed> {
        self.fixed.as_ref()
    }
}

/// The `service` section.
#[derive(Clone, Debug)]
pub struct Service {
    /// Envoy's name of the service's cluster.
    pub cluster: Text<MAX_NAME>,
    /// The domain of the rate limit request.
    pub domain: Text<MAX_NAME>,
    /// The key of the one descriptor entry in the request.
    pub descriptor: Text<MAX_NAME>,
    /// How long a request waits for the response, in milliseconds.
    pub timeout_ms: u32,
    /// How a request without a response of the service is handled.
    pub on_error: Policy,
}

impl Config {
    /// Parses a configuration.
    ///
    /// # Errors
    /// An error for the first field that is unknown, missing, given twice, of the wrong type
    /// or out of range.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError<'_>> {
        let Ok(text) = core::str::from_utf8(json) else {
            return Err(FieldPath::ROOT.refuse(Problem::NotUtf8));
        };
        let mut reader = Reader::new(text);
        let config = read_config(&mut reader)?;
        reader.end()?;
        Ok(config)
    }
}

type Read<'a, T> = Result<T, ConfigError<'a>>;

// The functions that read sections are not inlined: inlined into one another they copy their
// large results several times, which makes the module a quarter larger.

#[inline(never)]
fn read_config<'a>(reader: &mut Reader<'a>) -> Read<'a, Config> {
    let (mut key, mut missing_key, mut local, mut service) = (None, None, None, None);
    let (mut status, mut stat_prefix, mut headers) = (None, None, None);
    begin_object(reader, FieldPath::ROOT, "an object")?;
    while let Some(name) = reader.field()? {
        let path = FieldPath::ROOT.field(name);
        match name {
            "key" => path.once(&mut key, read_key(reader, path)?)?,
            "missing_key" => path.once(&mut missing_key, read_policy(reader, path)?)?,
            "local" => path.once(&mut local, read_local(reader, path)?)?,
            "service" => path.once(&mut service, read_service(reader, path)?)?,
            "status" => path.once(&mut status, read_number(reader, path, STATUS)?)?,
            "stat_prefix" => path.once(&mut stat_prefix, read_prefix(reader, path)?)?,
            "headers" => path.once(&mut headers, read_boolean(reader, path)?)?,
            _ => {
                return Err(path
                    .unknown("key, missing_key, local, service, status, stat_prefix and headers"));
            }
        }
    }
    if local.is_none() && service.is_none() {
        return Err(FieldPath::ROOT.refuse(Problem::NoSection));
    }
    Ok(Config {
        key: key.ok_or_else(|| FieldPath::ROOT.field("key").missing(SOURCES))?,
        missing_key: missing_key.unwrap_or(Policy::Allow),
        local,
        service,
        status: status.unwrap_or(DEFAULT_STATUS),
        stat_prefix: stat_prefix.unwrap_or_else(|| Text::literal("tidegate")),
        headers: headers.unwrap_or(true),
    })
}

#[inline(never)]
fn read_key<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, KeySource> {
    let mut key = None;
    begin_object(reader, path, SOURCES)?;
    while let Some(name) = reader.field()? {
        let path = path.field(name);
        let source = match name {
            "header" => read_header_name(reader, path)?,
            "client_address" => {
                read_empty(reader, path)?;
                KeySource::client_address()
            }
            "path" => {
                read_empty(reader, path)?;
                KeySource::path()
            }
            _ => return Err(path.unknown("header, client_address and path")),
        };
        if key.replace(source).is_some() {
            return Err(path.refuse(Problem::SecondSource));
        }
    }
    key.ok_or_else(|| path.missing(SOURCES))
}

#[inline(never)]
fn read_local<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, Local> {
    let (mut limits, mut max_keys) = (None, None);
    begin_object(reader, path, "an object")?;
    while let Some(name) = reader.field()? {
        let path = path.field(name);
        match name {
            "limits" => path.once(&mut limits, read_limits(reader, path)?)?,
            "max_keys" => path.once(&mut max_keys, read_number(reader, path, KEYS)?)?,
            _ => return Err(path.unknown("limits and max_keys")),
        }
    }
    Ok(Local {
        limits: limits.ok_or_else(|| path.field("limits").missing(LIMITS))?,
        max_keys: max_keys.unwrap_or(DEFAULT_KEYS),
    })
}

#[inline(never)]
fn read_service<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, Service> {
    let (mut cluster, mut domain, mut descriptor) = (None, None, None);
    let (mut timeout_ms, mut on_error) = (None, None);
    begin_object(reader, path, "an object")?;
    while let Some(name) = reader.field()? {
        let path = path.field(name);
        match name {
            "cluster" => path.once(&mut cluster, read_name(reader, path)?)?,
            "domain" => path.once(&mut domain, read_name(reader, path)?)?,
            "descriptor" => path.once(&mut descriptor, read_name(reader, path)?)?,
            "timeout" => path.once(&mut timeout_ms, read_timeout(reader, path)?)?,
            "on_error" => path.once(&mut on_error, read_policy(reader, path)?)?,
            _ => return Err(path.unknown("cluster, domain, descriptor, timeout and on_error")),
        }
    }
    Ok(Service {
        cluster: cluster.ok_or_else(|| path.field("cluster").missing(NAME))?,
        domain: domain.unwrap_or_else(|| Text::literal("tidegate")),
        descriptor: descriptor.unwrap_or_else(|| Text::literal("key")),
        timeout_ms: timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        on_error: on_error.unwrap_or(Policy::Allow),
    })
}

#[inline(never)]
fn read_limits<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, Limits> {
    let mut read = [AnyLimit::None; MAX_TIERS];
    let mut count = 0;
    expect(reader, path, ValueKind::Array, LIMITS)?;
    reader.begin_array()?;
    while reader.item()? {
        let path = path.item(count);
        let (text, found) = read_text(reader, path, LIMIT)?;
        let limit = AnyLimit::parse(text.as_str())
            .map_err(|error| path.refuse(Problem::Limit { found, error }))?;
        *read.get_mut(count).ok_or_else(|| path.refuse(Problem::FifthLimit))? = limit;
        count += 1;
    }
    let given = read.get(..count).unwrap_or_default();
    let tiers = BucketTiers::new(given).map_err(|_| path.mismatch("an empty list", LIMITS))?;
    let mut limits = Limits { count: tiers.count(), limits: UNUSED, fixed: Fixed::new(given) };
    for (place, limit) in limits.limits.iter_mut().zip(tiers.rates(given)) {
        *place = limit;
    }
    Ok(limits)
}

fn read_header_name<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, KeySource> {
    let (name, found) = read_text(reader, path, HEADER)?;
    KeySource::header(name.as_str()).ok_or_else(|| path.mismatch(found, HEADER))
}

fn read_policy<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, Policy> {
    let (text, found) = read_text(reader, path, POLICY)?;
    match text.as_bytes() {
        b"allow" => Ok(Policy::Allow),
        b"deny" => Ok(Policy::Deny),
        _ => Err(path.mismatch(found, POLICY)),
    }
}

fn read_timeout<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, u32> {
    let (text, found) = read_text(reader, path, TIMEOUT)?;
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
        _ => Err(path.mismatch(found, TIMEOUT)),
    }
}

fn read_name<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, Text<MAX_NAME>> {
    let (name, found) = read_text(reader, path, NAME)?;
    if name.as_bytes().is_empty() { Err(path.mismatch(found, NAME)) } else { Ok(name) }
}

#[inline(never)]
fn read_prefix<'a>(
    reader: &mut Reader<'a>,
    path: FieldPath<'a>,
) -> Read<'a, Text<MAX_STAT_PREFIX>> {
    let (text, found) = read_text(reader, path, PREFIX)?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    Text::new(text.as_str())
        .filter(|prefix| !prefix.as_bytes().is_empty() && prefix.as_bytes().iter().all(allowed))
        .ok_or_else(|| path.mismatch(found, PREFIX))
}

fn read_number<'a>(
    reader: &mut Reader<'a>,
    path: FieldPath<'a>,
    range: RangeInclusive<u64>,
) -> Read<'a, u32> {
    let found = reader.glimpse();
    match reader.whole_number() {
        Some(number) if range.contains(&number) => Ok(number as u32),
        _ => Err(path.refuse(Problem::Range { found, least: *range.start(), most: *range.end() })),
    }
}

fn read_boolean<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, bool> {
    expect(reader, path, ValueKind::Boolean, "true or false")?;
    Ok(reader.boolean()?)
}

fn read_empty<'a>(reader: &mut Reader<'a>, path: FieldPath<'a>) -> Read<'a, ()> {
    begin_object(reader, path, "{}")?;
    match reader.field()? {
        None => Ok(()),
        Some(name) => Err(path.field(name).unknown("none")),
    }
}

/// Reads a string; returns its value and its spelling in the text.
fn read_text<'a>(
    reader: &mut Reader<'a>,
    path: FieldPath<'a>,
    wanted: &'static str,
) -> Read<'a, (Text<MAX_STRING>, &'a str)> {
    expect(reader, path, ValueKind::String, wanted)?;
    let found = reader.glimpse();
    match reader.string()? {
        Some(text) => Ok((text, found)),
        None => Err(path.mismatch(found, wanted)),
    }
}

fn begin_object<'a>(
    reader: &mut Reader<'a>,
    path: FieldPath<'a>,
    wanted: &'static str,
) -> Read<'a, ()> {
    expect(reader, path, ValueKind::Object, wanted)?;
    Ok(reader.begin_object()?)
}

fn expect<'a>(
    reader: &mut Reader<'a>,
    path: FieldPath<'a>,
    kind: ValueKind,
    wanted: &'static str,
) -> Read<'a, ()> {
    if reader.kind()? == kind { Ok(()) } else { Err(path.mismatch(reader.glimpse(), wanted)) }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
