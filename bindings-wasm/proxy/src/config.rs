//! Parses the filter's configuration, strictly; README.md lists its fields.

use core::ops::RangeInclusive;

use crate::config_actions::Action;
use crate::config_descriptors::{SOURCES, read_cost, read_descriptors, read_key};
pub use crate::config_error::ConfigError;
use crate::config_error::{FieldPath, Problem};
use crate::config_fields::{ConfigReader, Field, Kind, NAME, Read, Refused, field, name};
use crate::cost::{Cost, Settle};
use crate::descriptors::{Descriptor, Descriptors, Mode};
use crate::in_flight::MAX_ASKS;
use crate::json::MAX_STRING;
use crate::limits::{LIMITS, Limits, read_limits};
use crate::names::Name;
use crate::source::Source;

/// The longest name of a cluster, a domain or a descriptor, in bytes.
pub const MAX_NAME: usize = MAX_STRING;
/// The bounds of `local.max_keys`.
pub const KEYS: RangeInclusive<u64> = 16..=65_536;
const DEFAULT_KEYS: u32 = 4096;
const DEFAULT_STATUS: u32 = 429;
const DEFAULT_TIMEOUT_MS: u32 = 100;
const DEFAULT_LEASE_TTL_MS: u32 = 1000;
const DEFAULT_WORKERS: u32 = 4;
/// gRPC's `RESOURCE_EXHAUSTED`.
const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
/// The default of the domain and of `stat_prefix`.
const TIDEGATE: &[u8] = b"tidegate";
/// The key of the entry that `key` is.
const DEFAULT_ENTRY: &[u8] = b"key";

/// A complete and valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys of a request's buckets and their limits, and all texts of the configuration.
    pub descriptors: Descriptors,
    /// How requests without a key are handled.
    pub missing_key: Policy,
    /// The most keys that are remembered at once.
    pub max_keys: u32,
    /// The rate limit service that keeps shared buckets.
    pub service: Option<Service>,
    /// The HTTP status of a refusal.
    pub status: u32,
    /// The prefix of the counters' names.
    pub(crate) stat_prefix: Name,
    /// Whether refusals have the headers `x-ratelimit-*` and `retry-after`.
    pub headers: bool,
    /// The form of refusals.
    pub(crate) refusals: Refusals,
    /// How responses tell what has been used, for descriptors that settle.
    pub(crate) settle: Option<Settle>,
    /// The share of requests that are limited at all, in percent.
    pub(crate) enabled: u32,
    /// The share of refusals that are enforced, in percent.
    pub(crate) enforced: u32,
}

/// The form of refusals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusals {
    /// Whether they have `x-ratelimit-*`.
    pub(crate) has_x_headers: bool,
    /// Whether they have `RateLimit` and `RateLimit-Policy`.
    pub(crate) has_ietf_headers: bool,
    /// Whether responses to allowed requests have the headers of a limit, too.
    pub(crate) on_allowed: bool,
    pub(crate) body: Option<Name>,
    pub(crate) content_type: Option<Name>,
    pub(crate) grpc_status: u32,
}

/// How a request that cannot be limited is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It passes.
    Allow,
    /// It is answered with an error.
    Deny,
}

/// The `service` section.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Envoy's name of the service's cluster.
    pub(crate) cluster: Name,
    /// The domain of the rate limit request.
    pub(crate) domain: Name,
    /// How long a request waits for the response, in milliseconds.
    pub timeout_ms: u32,
    /// How a request without a response of the service is handled.
    pub on_error: Policy,
    /// The mode of descriptors that have none of their own.
    pub(crate) mode: Mode,
    /// How a request is handled that finds no token taken ahead.
    pub(crate) on_cold: OnCold,
    /// How long tokens that are taken ahead may be kept, in milliseconds.
    pub(crate) lease_ttl_ms: u32,
    /// How many workers share the limits, at least.
    pub(crate) workers: u32,
}

/// How a request is handled that finds no token taken ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnCold {
    /// It waits for the service.
    Wait,
    /// It passes, and the service is told afterwards. Once the service has answered about the key, it waits.
    Allow,
    /// It is refused.
    Deny,
}

impl Config {
    /// Parses a configuration.
    ///
    /// # Errors
    /// An error for the first field that is unknown, missing, given twice, of the wrong type
    /// or out of range.
    #[expect(clippy::result_large_err, reason = "it is returned once for a configuration")]
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError<'_>> {
        let root = FieldPath::ROOT;
        let Ok(text) = core::str::from_utf8(json) else {
            return Err(ConfigError::new(&root, Problem::NotUtf8));
        };
        let mut reader = ConfigReader::new(text);
        let read = read_config(&mut reader).and_then(|config| {
            reader.json.end()?;
            Ok(config)
        });
        read.map_err(|refused| match (refused, reader.error) {
            (Refused::Kept, Some(error)) => error,
            (Refused::Syntax(syntax), _) => ConfigError::new(&root, Problem::Syntax(syntax)),
            // An error that is kept is there.
            (Refused::Kept, None) => ConfigError::new(&root, Problem::NoSection),
        })
    }
}

const PERCENT: Kind = Kind::Number(0, 100);
const POLICY: Kind = Kind::Word(&["allow", "deny"], "\"allow\" or \"deny\"");
static CONFIG: [Field; 16] = [
    field("key", Kind::Other),
    field("descriptors", Kind::Other),
    field("missing_key", POLICY),
    field("local", Kind::Other),
    field("service", Kind::Other),
    field("cost", Kind::Other),
    field("status", Kind::Number(400, 599)),
    field("stat_prefix", Kind::Prefix),
    field("headers", Kind::Flag),
    field(
        "header_form",
        Kind::Word(&["x-ratelimit", "ietf", "both"], "\"x-ratelimit\", \"ietf\" or \"both\""),
    ),
    field("body", Kind::Text),
    field("content_type", Kind::Text),
    field("grpc_status", Kind::Number(1, 16)),
    field("enabled", PERCENT),
    field("enforced", PERCENT),
    field("allowed_headers", Kind::Flag),
];

/// What `key`, `local`, `service` and `cost` say of the one descriptor that they describe.
#[derive(Default)]
struct ShortForm {
    source: Option<Source>,
    entry: Option<u32>,
    limits: Option<Limits>,
    /// The cost, and whether it is settled.
    cost: Option<(Cost, bool)>,
}

#[inline(never)]
fn read_config(reader: &mut ConfigReader<'_>) -> Read<Config> {
    let mut descriptors = Descriptors::none();
    let mut short = ShortForm::default();
    let (mut max_keys, mut service) = (None, None);
    let root = FieldPath::ROOT;
    let values = reader.object(&root, "an object", &CONFIG, &mut |reader, path, place| {
        match place {
            0 => short.source = Some(read_key(reader, path)?),
            1 => return read_descriptors(reader, path, &mut descriptors),
            3 => (short.limits, max_keys) = read_local(reader, path)?,
            4 => {
                let (section, entry) = read_service(reader, path)?;
                (service, short.entry) = (Some(section), entry);
            }
            _ => short.cost = Some(read_cost(reader, path)?),
        }
        Ok(0)
    })?;
    let [_, listed, missing_key, local, _, _, status, stat_prefix, headers, ..] = values;
    let [.., header_form, body, content_type, grpc_status, enabled, enforced, allowed] = values;
    if listed.is_some() {
        refuse_short_form(reader, &short)?;
    } else {
        if local.is_none() && service.is_none() {
            return Err(reader.refuse(&root, Problem::NoSection));
        }
        if local.is_some() && short.limits.is_none() {
            return Err(reader.missing(&root.field("local"), "limits", LIMITS));
        }
        write_out(reader, &short, &mut descriptors)?;
    }
    share(reader, &mut descriptors, service.as_ref())?;
    let stat_prefix = match stat_prefix {
        Some(prefix) => prefix,
        None => reader.keep(&root, TIDEGATE)?,
    };
    descriptors.names = reader.names.clone();
    Ok(Config {
        descriptors,
        missing_key: policy(missing_key),
        max_keys: max_keys.unwrap_or(DEFAULT_KEYS),
        service,
        status: status.unwrap_or(DEFAULT_STATUS),
        stat_prefix: name(stat_prefix),
        headers: headers != Some(0),
        refusals: Refusals {
            has_x_headers: header_form != Some(1),
            has_ietf_headers: matches!(header_form, Some(1 | 2)),
            on_allowed: allowed == Some(1),
            body: body.map(name),
            content_type: content_type.map(name),
            grpc_status: grpc_status.unwrap_or(GRPC_RESOURCE_EXHAUSTED),
        },
        settle: reader.settle,
        enabled: enabled.unwrap_or(100),
        enforced: enforced.unwrap_or(100),
    })
}

/// Refuses what describes one descriptor where descriptors are listed.
fn refuse_short_form(reader: &mut ConfigReader<'_>, short: &ShortForm) -> Read<()> {
    let root = FieldPath::ROOT;
    let (local, service) = (root.field("local"), root.field("service"));
    for (given, path) in [
        (short.source.is_some(), root.field("key")),
        (short.cost.is_some(), root.field("cost")),
        (short.limits.is_some(), local.field("limits")),
        (short.entry.is_some(), service.field("descriptor")),
    ] {
        if given {
            return Err(reader.refuse(&path, Problem::Excluded { by: "descriptors" }));
        }
    }
    Ok(())
}

/// Writes the short form out as a descriptor.
fn write_out(
    reader: &mut ConfigReader<'_>,
    short: &ShortForm,
    descriptors: &mut Descriptors,
) -> Read<()> {
    let root = FieldPath::ROOT;
    let Some(source) = short.source else { return Err(reader.missing(&root, "key", SOURCES)) };
    let key = match short.entry {
        Some(entry) => entry,
        None => reader.keep(&root, DEFAULT_ENTRY)?,
    };
    let (cost, settles) = short.cost.unwrap_or_default();
    let limits = short.limits;
    let descriptor = Descriptor { end: 1, limits, cost, settles, ..Descriptor::default() };
    // The descriptor and its entry are the first ones, so there is room.
    let _ = descriptors.add_entry(Action { key: name(key), source, skip_if_absent: false });
    let _ = descriptors.add(descriptor);
    Ok(())
}

/// Decides which of the descriptors the service is asked about.
fn share(
    reader: &mut ConfigReader<'_>,
    descriptors: &mut Descriptors,
    service: Option<&Service>,
) -> Read<()> {
    let list = FieldPath::ROOT.field("descriptors");
    let mut leased = 0;
    for (index, descriptor) in descriptors.as_mut_slice().iter_mut().enumerate() {
        let path = list.item(index);
        let default = service.map_or(Mode::Local, |service| service.mode);
        let mode = descriptor.mode.unwrap_or(default);
        descriptor.is_shared = mode != Mode::Local;
        descriptor.is_leased = mode == Mode::Leased;
        leased += usize::from(descriptor.is_leased);
        let problem = match mode {
            Mode::Exact | Mode::Leased if service.is_none() => Problem::Needs { what: "service" },
            Mode::Leased if leased > MAX_ASKS => {
                Problem::TooMany { what: "leased descriptors", most: MAX_ASKS }
            }
            Mode::Local if descriptor.limits.is_none() => {
                return Err(reader.missing(&path.field("local"), "limits", LIMITS));
            }
            Mode::Local | Mode::Exact | Mode::Leased => continue,
        };
        return Err(reader.refuse(&path.field("mode"), problem));
    }
    Ok(())
}

static LOCAL: [Field; 2] = [
    field("limits", Kind::Other),
    field("max_keys", Kind::Number(*KEYS.start() as u32, *KEYS.end() as u32)),
];

/// Reads `local`; answers its limits and `max_keys`.
#[inline(never)]
fn read_local<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<(Option<Limits>, Option<u32>)> {
    let mut limits = None;
    let [_, max_keys] = reader.object(path, "an object", &LOCAL, &mut |reader, path, _| {
        limits = Some(read_limits(reader, path)?);
        Ok(0)
    })?;
    Ok((limits, max_keys))
}

static SERVICE: [Field; 9] = [
    field("cluster", Kind::Text),
    field("domain", Kind::Text),
    field("descriptor", Kind::Text),
    field("timeout", Kind::Time),
    field("on_error", POLICY),
    field("mode", Kind::Word(&["exact", "leased"], "\"exact\" or \"leased\"")),
    field("on_cold", Kind::Word(&["wait", "allow", "deny"], "\"wait\", \"allow\" or \"deny\"")),
    field("max_lease_ttl", Kind::Time),
    field("workers", Kind::Number(1, 65_536)),
];

/// Reads `service`; answers also the key of the entry that it names.
#[inline(never)]
fn read_service<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<(Service, Option<u32>)> {
    let values = reader.object(path, "an object", &SERVICE, &mut |_, _, _| Ok(0))?;
    let [cluster, domain, entry, timeout_ms, on_error, mode, on_cold, ttl, workers] = values;
    let Some(cluster) = cluster else { return Err(reader.missing(path, "cluster", NAME)) };
    let domain = match domain {
        Some(domain) => domain,
        None => reader.keep(path, TIDEGATE)?,
    };
    let service = Service {
        cluster: name(cluster),
        domain: name(domain),
        timeout_ms: timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        on_error: policy(on_error),
        mode: if mode == Some(1) { Mode::Leased } else { Mode::Exact },
        on_cold: match on_cold {
            Some(1) => OnCold::Allow,
            Some(2) => OnCold::Deny,
            _ => OnCold::Wait,
        },
        lease_ttl_ms: ttl.unwrap_or(DEFAULT_LEASE_TTL_MS),
        workers: workers.unwrap_or(DEFAULT_WORKERS),
    };
    Ok((service, entry))
}

fn policy(word: Option<u32>) -> Policy {
    if word == Some(1) { Policy::Deny } else { Policy::Allow }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
