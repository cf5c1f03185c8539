//! Reads the actions of a descriptor: each makes one entry of it.

use crate::config_error::{FieldPath, Problem};
use crate::config_fields::{ConfigReader, Field, Kind, NAME, Read, field, name};
use crate::header_match::{Form, HeaderMatch, HeaderMatches, MAX_MATCHES};
use crate::json::MAX_STRING;
use crate::names::Name;
use crate::source::Source;
use crate::text::Text;

const ACTION: &str = "an action, such as {\"remote_address\": {}}";
const SEGMENTS: &str = "a list of keys, such as [{\"key\": \"sub\"}]";
const MATCHES: &str = "a list of 1 to 4 headers, such as [{\"name\": \"x-plan\", \
                       \"string_match\": {\"exact\": \"free\"}}]";
const FORM: &str =
    "{\"exact\": \"…\"}, {\"prefix\": \"…\"}, {\"suffix\": \"…\"} or {\"contains\": \"…\"}";

/// One entry of a descriptor.
pub(crate) struct Action {
    pub(crate) key: Name,
    pub(crate) source: Source,
    pub(crate) skip_if_absent: bool,
}

static ACTIONS: [Field; 11] = [
    field("request_headers", Kind::Other),
    field("remote_address", Kind::Other),
    field("masked_remote_address", Kind::Other),
    field("path", Kind::Other),
    field("query_parameters", Kind::Other),
    field("cookie", Kind::Other),
    field("method", Kind::Other),
    field("host", Kind::Other),
    field("generic_key", Kind::Other),
    field("metadata", Kind::Other),
    field("header_value_match", Kind::Other),
];
const DESCRIPTOR_KEY: Field = field("descriptor_key", Kind::Text);
const SKIP: Field = field("skip_if_absent", Kind::Flag);
static PLAIN: [Field; 1] = [DESCRIPTOR_KEY];
static HEADER: [Field; 3] = [field("header_name", Kind::Header), DESCRIPTOR_KEY, SKIP];
static QUERY: [Field; 3] = [field("query_parameter_name", Kind::Text), DESCRIPTOR_KEY, SKIP];
static COOKIE: [Field; 3] = [field("name", Kind::Cookie), DESCRIPTOR_KEY, SKIP];
static NETWORK: [Field; 3] = [
    DESCRIPTOR_KEY,
    field("v4_prefix_mask_len", Kind::Number(0, 32)),
    field("v6_prefix_mask_len", Kind::Number(0, 128)),
];
static VALUE: [Field; 2] = [field("descriptor_value", Kind::Text), DESCRIPTOR_KEY];
static METADATA: [Field; 5] = [
    field("metadata_key", Kind::Other),
    DESCRIPTOR_KEY,
    SKIP,
    field("default_value", Kind::Text),
    field("source", Kind::Word(&["DYNAMIC", "ROUTE_ENTRY"], "\"DYNAMIC\" or \"ROUTE_ENTRY\"")),
];
static MATCH: [Field; 4] = [
    field("headers", Kind::Other),
    DESCRIPTOR_KEY,
    field("descriptor_value", Kind::Text),
    field("expect_match", Kind::Flag),
];

/// One client commonly has a whole /64 of IPv6 addresses.
const DEFAULT_V6_BITS: u32 = 64;

#[inline(never)]
pub(crate) fn read_action<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<Action> {
    let mut action = None;
    reader.choice(path, ACTION, &ACTIONS, &mut |reader, path, place| {
        action = Some(read_one(reader, path, place)?);
        Ok(0)
    })?;
    action.ok_or_else(|| reader.refuse(path, Problem::Missing { wanted: ACTION }))
}

#[inline(never)]
fn read_one<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
    place: usize,
) -> Read<Action> {
    let none = &mut |_: &mut ConfigReader<'a>, _: &FieldPath<'_, 'a>, _| Ok(0);
    let is_true = |flag: Option<u32>| flag == Some(1);
    // The entry's key is the action's name unless it is told; `header_match` in Envoy's words.
    let default_key = match place {
        10 => "header_match",
        place => ACTIONS.get(place).map_or("", |field| field.name),
    };
    let (source, key, skip) = match place {
        0 | 4 | 5 => {
            let fields = match place {
                0 => &HEADER,
                4 => &QUERY,
                _ => &COOKIE,
            };
            let [named, key, skip] = reader.object(path, "an object", fields, none)?;
            let Some(named) = named else {
                let lacking = fields.first().map_or("", |field| field.name);
                return Err(reader.missing(path, lacking, NAME));
            };
            if key.is_none() {
                return Err(reader.missing(path, "descriptor_key", NAME));
            }
            let source = match place {
                0 => Source::Header { property: name(named) },
                4 => Source::Query(name(named)),
                _ => Source::Cookie(name(named)),
            };
            (source, key, is_true(skip))
        }
        2 => {
            let [key, v4, v6] = reader.object(path, "an object", &NETWORK, none)?;
            let v6_bits = v6.unwrap_or(DEFAULT_V6_BITS) as u8;
            (Source::Network { v4_bits: v4.unwrap_or(32) as u8, v6_bits }, key, false)
        }
        8 => {
            let [value, key] = reader.object(path, "an object", &VALUE, none)?;
            let Some(value) = value else {
                return Err(reader.missing(path, "descriptor_value", NAME));
            };
            (Source::Value(name(value)), key, false)
        }
        9 => read_metadata(reader, path)?,
        10 => {
            let mut matches = HeaderMatches::default();
            let values = reader.object(path, "an object", &MATCH, &mut |reader, path, _| {
                read_matches(reader, path, &mut matches)
            })?;
            let [headers, key, value, expected] = values;
            let (Some(_), Some(value)) = (headers, value) else {
                let lacking = if headers.is_none() { "headers" } else { "descriptor_value" };
                return Err(reader.missing(path, lacking, NAME));
            };
            let expected = expected != Some(0);
            (Source::HeaderMatch { matches, expected, value: name(value) }, key, false)
        }
        _ => {
            let [key] = reader.object(path, "an object", &PLAIN, none)?;
            let source = match place {
                1 => Source::RemoteAddress,
                3 => Source::Path,
                6 => Source::Method,
                _ => Source::HostName,
            };
            (source, key, false)
        }
    };
    let key = match key {
        Some(key) => key,
        None => reader.keep(path, default_key.as_bytes())?,
    };
    Ok(Action { key: name(key), source, skip_if_absent: skip })
}

static KEY_AND_PATH: [Field; 2] = [field("key", Kind::Other), field("path", Kind::Other)];
static SEGMENT: [Field; 1] = [field("key", Kind::Other)];

/// Reads `metadata`; its `metadata_key` is `{key, path: [{key}, …]}`, which becomes the path of a property.
#[inline(never)]
fn read_metadata<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
) -> Read<(Source, Option<u32>, bool)> {
    let mut space = Text::<MAX_STRING>::EMPTY;
    let mut segments = Text::<MAX_STRING>::EMPTY;
    let values = reader.object(path, "an object", &METADATA, &mut |reader, path, _| {
        let [key, keys] =
            reader.object(path, "an object", &KEY_AND_PATH, &mut |reader, path, place| {
                if place == 0 {
                    (space, _) = reader.text(path, NAME)?;
                    return Ok(0);
                }
                reader.list(path, SEGMENTS, &mut |reader, path, _| {
                    reader.object(path, SEGMENTS, &SEGMENT, &mut |reader, path, _| {
                        let (text, _) = reader.text(path, NAME)?;
                        let fits = segments.push('\0') && segments.push_str(text.as_str());
                        if fits { Ok(0) } else { Err(reader.refuse(path, Problem::TooMuchText)) }
                    })?;
                    Ok(0)
                })?;
                Ok(0)
            })?;
        if key.is_none() || keys.is_none() {
            let lacking = if key.is_none() { "key" } else { "path" };
            return Err(reader.missing(path, lacking, SEGMENTS));
        }
        Ok(0)
    })?;
    let [metadata_key, key, skip, default, of_route] = values;
    if metadata_key.is_none() || key.is_none() {
        let lacking = if metadata_key.is_none() { "metadata_key" } else { "descriptor_key" };
        return Err(reader.missing(path, lacking, NAME));
    }
    let before = match of_route {
        Some(1) => "xds\0route_metadata\0filter_metadata\0",
        _ => "metadata\0filter_metadata\0",
    };
    let property =
        Text::<{ 2 * MAX_STRING + 40 }>::format(format_args!("{before}{space}{segments}"));
    let property = name(reader.keep(path, property.as_bytes())?);
    Ok((Source::Metadata { property, default: default.map(name) }, key, skip == Some(1)))
}

static HEADER_MATCH: [Field; 4] = [
    field("name", Kind::Header),
    field("string_match", Kind::Other),
    field("present_match", Kind::Flag),
    field("invert_match", Kind::Flag),
];
static FORMS: [Field; 4] = [
    field("exact", Kind::Text),
    field("prefix", Kind::Text),
    field("suffix", Kind::Text),
    field("contains", Kind::Text),
];

#[inline(never)]
fn read_matches<'a>(
    reader: &mut ConfigReader<'a>,
    path: &FieldPath<'_, 'a>,
    matches: &mut HeaderMatches,
) -> Read<u32> {
    reader.list(path, MATCHES, &mut |reader, path, _| {
        let mut form = Form::Present(true);
        let values = reader.object(path, MATCHES, &HEADER_MATCH, &mut |reader, path, _| {
            let read = reader.choice(path, FORM, &FORMS, &mut |_, _, _| Ok(0))?;
            form = match read {
                (0, text) => Form::Exact(name(text)),
                (1, text) => Form::Prefix(name(text)),
                (2, text) => Form::Suffix(name(text)),
                (_, text) => Form::Contains(name(text)),
            };
            Ok(0)
        })?;
        let [header, text, present, inverted] = values;
        let Some(header) = header else { return Err(reader.missing(path, "name", MATCHES)) };
        if let Some(present) = present {
            if text.is_some() {
                let by = "string_match";
                return Err(reader.refuse(&path.field("present_match"), Problem::Excluded { by }));
            }
            form = Form::Present(present == 1);
        }
        let header = HeaderMatch { property: name(header), form, inverted: inverted == Some(1) };
        let most = MAX_MATCHES;
        match matches.add(header) {
            Some(()) => Ok(0),
            None => Err(reader.refuse(path, Problem::TooMany { what: "headers", most })),
        }
    })?;
    Ok(0)
}
