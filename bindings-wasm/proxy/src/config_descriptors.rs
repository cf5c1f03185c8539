//! Reads the descriptors of a configuration, in the words of Envoy's `rate_limits`.

use crate::config_actions::read_action;
use crate::config_error::{FieldPath, Problem};
use crate::config_fields::{ConfigReader, Field, Kind, Read, field, name};
use crate::cost::{Cost, MAX_COST, Settle};
use crate::descriptors::{Descriptor, Descriptors, MAX_DESCRIPTORS, MAX_ENTRIES, Mode};
use crate::json::ValueKind;
use crate::limits::{LIMITS, Limits, read_limits};
use crate::source::{HEADERS, Source};
use crate::text::Text;

pub(crate) const SOURCES: &str =
    "{\"header\": \"x-api-key\"}, {\"client_address\": {}} or {\"path\": {}}";
const DESCRIPTORS: &str = "a list of 1 to 8 descriptors";
const ACTIONS: &str = "a list of actions, such as [{\"remote_address\": {}}]";
const COST: &str = "a number of tokens, {\"header\": {\"name\": \"x-cost\", \"max\": 100}}, \
                    {\"body_bytes\": {\"per\": 1024}} or {\"estimate\": 500, \"settle\": {\"header\": \"x-used\"}}";
const SETTLE: &str = "{\"header\": \"x-used\"} or {\"json\": \"usage.total_tokens\"}";

static KEY: [Field; 3] = [
    field("header", Kind::Header),
    field("client_address", Kind::Empty),
    field("path", Kind::Empty),
];

/// Reads `key`, the short form of one descriptor with one entry.
#[inline(never)]
pub(crate) fn read_key<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<Source> {
    let read = reader.choice(path, SOURCES, &KEY, &mut |_, _, _| Ok(0))?;
    Ok(match read {
        (0, property) => Source::Header { property: name(property) },
        (1, _) => Source::RemoteAddress,
        _ => Source::Path,
    })
}

static DESCRIPTOR: [Field; 4] = [
    field("actions", Kind::Other),
    field("local", Kind::Other),
    field("cost", Kind::Other),
    field("mode", Kind::Word(&["local", "exact", "leased"], "\"local\", \"exact\" or \"leased\"")),
];

#[inline(never)]
pub(crate) fn read_descriptors<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
    descriptors: &mut Descriptors,
) -> Read<u32> {
    reader.list(path, DESCRIPTORS, &mut |reader, path, _| {
        let mut descriptor = Descriptor::default();
        let other = &mut |reader: &mut ConfigReader<'a>, path: &FieldPath<'_, 'a>, place| {
            match place {
                0 => {
                    let (first, end) = read_actions(reader, path, descriptors)?;
                    (descriptor.first, descriptor.end) = (first, end);
                }
                1 => descriptor.limits = Some(read_local(reader, path)?),
                _ => (descriptor.cost, descriptor.settles) = read_cost(reader, path)?,
            }
            Ok(0)
        };
        let values = reader.object(path, "an object", &DESCRIPTOR, other)?;
        if values[0].is_none() {
            return Err(reader.missing(path, "actions", ACTIONS));
        }
        descriptor.mode = match values[3] {
            Some(0) => Some(Mode::Local),
            Some(1) => Some(Mode::Exact),
            Some(_) => Some(Mode::Leased),
            None => None,
        };
        let most = MAX_DESCRIPTORS;
        match descriptors.add(descriptor) {
            Some(()) => Ok(0),
            None => Err(reader.refuse(path, Problem::TooMany { what: "descriptors", most })),
        }
    })?;
    Ok(0)
}

/// Reads the entries of a descriptor; answers their places.
#[inline(never)]
fn read_actions<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
    descriptors: &mut Descriptors,
) -> Read<(u8, u8)> {
    let first = descriptors.entry_count() as u8;
    reader.list(path, ACTIONS, &mut |reader, path, _| {
        let action = read_action(reader, path)?;
        let most = MAX_ENTRIES;
        match descriptors.add_entry(action) {
            Some(()) => Ok(0),
            None => Err(reader.refuse(path, Problem::TooMany { what: "actions in all", most })),
        }
    })?;
    Ok((first, descriptors.entry_count() as u8))
}

static LOCAL: [Field; 1] = [field("limits", Kind::Other)];

fn read_local<'a>(reader: &mut ConfigReader<'a>, path: &FieldPath<'_, 'a>) -> Read<Limits> {
    let mut limits = None;
    reader.object(path, "an object", &LOCAL, &mut |reader, path, _| {
        limits = Some(read_limits(reader, path)?);
        Ok(0)
    })?;
    limits.ok_or_else(|| reader.missing(path, "limits", LIMITS))
}

const TOKENS: Kind = Kind::Number(1, MAX_COST);
static COSTS: [Field; 4] = [
    field("header", Kind::Other),
    field("body_bytes", Kind::Other),
    field("estimate", Kind::Other),
    field("settle", Kind::Other),
];
static COST_HEADER: [Field; 3] =
    [field("name", Kind::Header), field("max", TOKENS), field("absent", TOKENS)];
static COST_BODY: [Field; 2] = [field("per", TOKENS), field("unknown", TOKENS)];
static SETTLES: [Field; 2] = [field("header", Kind::Header), field("json", Kind::Path)];

/// Reads the cost of a request; answers also whether it is settled by the response.
#[inline(never)]
pub(crate) fn read_cost<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<(Cost, bool)> {
    if reader.json.kind()? == ValueKind::Number {
        return Ok((Cost::Fixed(reader.value(path, TOKENS)?), false));
    }
    let mut cost = None;
    let mut settles = false;
    let [_, _, estimate, settle] =
        reader.object(path, COST, &COSTS, &mut |reader, path, place| {
            if place == 3 {
                settles = true;
                return read_settle(reader, path);
            }
            let read = if place == 2 {
                let (estimate, is_nested) = read_cost(reader, path)?;
                if is_nested {
                    return Err(reader.refuse(path, Problem::Excluded { by: "settle" }));
                }
                estimate
            } else {
                read_cost_of_request(reader, path, place == 0)?
            };
            if cost.replace(read).is_some() {
                return Err(reader.refuse(path, Problem::SecondSource));
            }
            Ok(0)
        })?;
    match (cost, estimate, settle) {
        (Some(cost), None, None) | (Some(cost), Some(_), Some(_)) => Ok((cost, settles)),
        (_, None, _) if !settles => Err(reader.refuse(path, Problem::Missing { wanted: COST })),
        (_, None, _) => Err(reader.missing(path, "estimate", COST)),
        (_, Some(_), _) => Err(reader.missing(path, "settle", SETTLE)),
    }
}

/// Reads a cost that the request tells: by a header, or by its body.
#[inline(never)]
fn read_cost_of_request<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
    is_header: bool,
) -> Read<Cost> {
    let other = &mut |_: &mut ConfigReader<'a>, _: &FieldPath<'_, 'a>, _| Ok(0);
    if !is_header {
        let [per, unknown] = reader.object(path, COST, &COST_BODY, other)?;
        return Ok(Cost::BodyBytes { per: per.unwrap_or(1), unknown });
    }
    let [property, most, absent] = reader.object(path, COST, &COST_HEADER, other)?;
    let (Some(property), Some(most)) = (property, most) else {
        let lacking = if property.is_none() { "name" } else { "max" };
        return Err(reader.missing(path, lacking, COST));
    };
    let absent = absent.unwrap_or(1);
    if absent > most {
        return Err(reader.mismatch(&path.field("absent"), "a number above max", "at most max"));
    }
    Ok(Cost::Header { property: name(property), most, absent })
}

/// Reads how a response tells what has been used. It is the same for all descriptors, because a response is
/// scanned once.
#[inline(never)]
fn read_settle<'a>(reader: &mut ConfigReader<'a>, path: &FieldPath<'_, 'a>) -> Read<u32> {
    let (place, bits) = reader.choice(path, SETTLE, &SETTLES, &mut |_, _, _| Ok(0))?;
    let settle = if place == 0 {
        let header = reader.names.text(name(bits)).strip_prefix(HEADERS).unwrap_or_default();
        let property = Text::<96>::format(format_args!("response\0headers\0{header}"));
        Settle::Header { property: name(reader.keep(path, property.as_bytes())?) }
    } else {
        Settle::Json { path: name(bits) }
    };
    if reader.settle.is_some_and(|other| other != settle) {
        return Err(reader.refuse(path, Problem::TooMany { what: "ways to settle", most: 1 }));
    }
    reader.settle = Some(settle);
    Ok(0)
}
