//! Rewrites a serialized `google.protobuf.Struct` as JSON text.
//!
//! Envoy passes a configuration of that type to a filter in wire format, although its
//! documentation says that it passes JSON.

use crate::protobuf::{Fields, Malformed, Value};
use crate::text::Text;

/// The longest JSON text, in bytes.
pub(crate) const MAX_JSON: usize = 4096;
/// The deepest nesting that is rewritten; no valid configuration is nested as deep.
const MAX_DEPTH: usize = 12;
/// 2^53: up to here every whole number is exact as a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotJson {
    /// The bytes are not a `Struct`.
    Malformed,
    /// The text is longer than [`MAX_JSON`], or nested too deep.
    TooLarge,
}

impl From<Malformed> for NotJson {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Rewrites a `Struct`.
pub(crate) fn to_json(message: &[u8]) -> Result<Text<MAX_JSON>, NotJson> {
    let mut json = Text::EMPTY;
    write_struct(message, &mut json, MAX_DEPTH)?;
    Ok(json)
}

type Json = Text<MAX_JSON>;

/// Writes the entries of a `Struct` as a JSON object.
fn write_struct(message: &[u8], json: &mut Json, depth: usize) -> Result<(), NotJson> {
    let depth = depth.checked_sub(1).ok_or(NotJson::TooLarge)?;
    let mut fields = Fields::new(message);
    let mut before = "{";
    while let Some(field) = fields.next()? {
        let (1, Value::Bytes(entry)) = field else { return Err(NotJson::Malformed) };
        let mut parts = Fields::new(entry);
        let (Some((1, Value::Bytes(name))), Some((2, Value::Bytes(value))), None) =
            (parts.next()?, parts.next()?, parts.next()?)
        else {
            return Err(NotJson::Malformed);
        };
        write(json, before)?;
        write_string(name, json)?;
        write(json, ":")?;
        write_value(value, json, depth)?;
        before = ",";
    }
    write(json, if before == "{" { "{}" } else { "}" })
}

/// Writes the values of a `ListValue` as a JSON array.
fn write_list(message: &[u8], json: &mut Json, depth: usize) -> Result<(), NotJson> {
    let depth = depth.checked_sub(1).ok_or(NotJson::TooLarge)?;
    let mut items = Fields::new(message);
    let mut before = "[";
    while let Some(item) = items.next()? {
        let (1, Value::Bytes(value)) = item else { return Err(NotJson::Malformed) };
        write(json, before)?;
        write_value(value, json, depth)?;
        before = ",";
    }
    write(json, if before == "[" { "[]" } else { "]" })
}

fn write_value(message: &[u8], json: &mut Json, depth: usize) -> Result<(), NotJson> {
    let mut fields = Fields::new(message);
    let (Some(value), None) = (fields.next()?, fields.next()?) else {
        return Err(NotJson::Malformed);
    };
    match value {
        (1, Value::Varint(_)) => write(json, "null"),
        (2, Value::Fixed64(bits)) => write_number(f64::from_bits(bits), json),
        (3, Value::Bytes(text)) => write_string(text, json),
        (4, Value::Varint(flag)) => write(json, if flag == 0 { "false" } else { "true" }),
        (5, Value::Bytes(fields)) => write_struct(fields, json, depth),
        (6, Value::Bytes(items)) => write_list(items, json, depth),
        _ => Err(NotJson::Malformed),
    }
}

/// Writes whole numbers exactly and others with three decimals. No field accepts the others:
/// they only have to be recognizable in an error message.
fn write_number(number: f64, json: &mut Json) -> Result<(), NotJson> {
    if !(-MAX_EXACT..=MAX_EXACT).contains(&number) {
        return write(json, if number < 0.0 { "-1e16" } else { "1e16" });
    }
    let whole = number as i64;
    if number < 0.0 {
        write(json, "-")?;
    }
    write(json, Text::<20>::format(format_args!("{}", whole.unsigned_abs())).as_str())?;
    let thousandths = ((number - whole as f64) * 1000.0) as i64;
    if number == whole as f64 {
        return Ok(());
    }
    write(json, Text::<4>::format(format_args!(".{:03}", thousandths.unsigned_abs())).as_str())
}

fn write_string(text: &[u8], json: &mut Json) -> Result<(), NotJson> {
    let text = core::str::from_utf8(text).map_err(|_| NotJson::Malformed)?;
    write(json, "\"")?;
    for character in text.chars() {
        let fits = match character {
            '"' | '\\' => json.push('\\') && json.push(character),
            control if control < ' ' => {
                let code = u32::from(control);
                json.push_str(Text::<6>::format(format_args!("\\u{code:04x}")).as_str())
            }
            plain => json.push(plain),
        };
        if !fits {
            return Err(NotJson::TooLarge);
        }
    }
    write(json, "\"")
}

fn write(json: &mut Json, text: &str) -> Result<(), NotJson> {
    if json.push_str(text) { Ok(()) } else { Err(NotJson::TooLarge) }
}

#[cfg(test)]
mod tests {
    use super::{NotJson, to_json};

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        assert!(value.len() < 128);
        [&[number << 3 | 2, value.len() as u8], value].concat()
    }

    fn entry(name: &str, value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
    }

    fn number(value: f64) -> Vec<u8> {
        [&[0x11], &value.to_le_bytes()[..]].concat()
    }

    fn json(message: &[u8]) -> Result<String, NotJson> {
        to_json(message).map(|json| json.as_str().to_owned())
    }

    #[test]
    fn all_kinds_of_values_are_rewritten() {
        let list = field(6, &[field(1, &number(1.0)), field(1, &[8, 0])].concat());
        let message = [
            entry("a\"\\\n", &field(3, "é\u{1}".as_bytes())),
            entry("b", &list),
            entry("c", &field(5, &entry("d", &[0x20, 1]))),
            entry("e", &[0x20, 0]),
            entry("f", &field(5, b"")),
            entry("g", &field(6, b"")),
        ]
        .concat();
        let expect = "{\"a\\\"\\\\\\u000a\":\"é\\u0001\",\"b\":[1,null],\"c\":{\"d\":true},\"e\":false,\"f\":{},\"g\":[]}";
        assert_eq!(json(&message).as_deref(), Ok(expect));
        assert_eq!(json(b"").as_deref(), Ok("{}"));
    }

    #[test]
    fn whole_numbers_are_exact_and_others_have_three_decimals() {
        for (value, expect) in [
            (0.0, "0"),
            (429.0, "429"),
            (-5.0, "-5"),
            (429.5, "429.500"),
            (-0.25, "-0.250"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e300, "1e16"),
            (f64::NAN, "1e16"),
            (f64::NEG_INFINITY, "-1e16"),
        ] {
            let expect = format!("{{\"n\":{expect}}}");
            assert_eq!(json(&entry("n", &number(value))), Ok(expect), "{value}");
        }
    }

    #[test]
    fn bytes_that_are_not_a_struct_and_structs_that_are_too_large_are_refused() {
        for text in ["\n{}", "\n\n{\"a\": 1}", "\n  {\n  }", " {}", "{}", "x"] {
            assert_eq!(json(text.as_bytes()), Err(NotJson::Malformed), "{text:?}");
        }
        let mut nested = entry("a", &[8, 0]);
        for _ in 0..12 {
            nested = entry("a", &field(5, &nested));
        }
        assert_eq!(json(&nested), Err(NotJson::TooLarge));
        let long: Vec<u8> = (0..50).flat_map(|_| entry("a", &field(3, &[b'x'; 100]))).collect();
        assert_eq!(json(&long), Err(NotJson::TooLarge));
    }
}
