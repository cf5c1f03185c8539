//! A strict JSON pull parser (RFC 8259) that reads values in place.
//!
//! It cannot skip a value, because the configuration has no field that may be ignored.

use crate::text::Text;

/// The longest string that is read, in bytes.
pub(crate) const MAX_STRING: usize = 255;
/// The longest part of a value that a message shows, in bytes.
const GLIMPSE: usize = 64;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

/// A syntax error: the text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// The byte offset of the error.
    pub(crate) at: usize,
    pub(crate) expected: &'static str,
}

/// The parser and its position in the text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether the last token began an object or an array.
    fresh: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, fresh: false }
    }

    /// The type of the next value, which is not read.
    pub(crate) fn kind(&mut self) -> Result<ValueKind, Syntax> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => Ok(ValueKind::Object),
            Some(b'[') => Ok(ValueKind::Array),
            Some(b'"') => Ok(ValueKind::String),
            Some(b'-' | b'0'..=b'9') => Ok(ValueKind::Number),
            Some(b't' | b'f') => Ok(ValueKind::Boolean),
            Some(b'n') => Ok(ValueKind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    /// Begins an object: call [`field`](Self::field) until it returns `None`.
    pub(crate) fn begin_object(&mut self) -> Result<(), Syntax> {
        self.fresh = true;
        self.take(b'{', "an object")
    }

    /// The name of the next field, whose value must be read next; `None` at the end of the
    /// object. A name with escapes is an error: no field of a configuration needs them.
    pub(crate) fn field(&mut self) -> Result<Option<&'a str>, Syntax> {
        if !self.more(b'}', "\",\" or \"}\"")? {
            return Ok(None);
        }
        self.take(b'"', "the name of a field")?;
        let rest = self.rest();
        let size = rest.find(['"', '\\']).ok_or_else(|| self.expected("the end of the name"))?;
        self.at += size;
        self.take(b'"', "a name without escapes")?;
        self.take(b':', "\":\"")?;
        Ok(rest.get(..size))
    }

    /// Begins an array: call [`item`](Self::item) until it returns `false`.
    pub(crate) fn begin_array(&mut self) -> Result<(), Syntax> {
        self.fresh = true;
        self.take(b'[', "an array")
    }

    /// Whether there is another item, which must be read next.
    pub(crate) fn item(&mut self) -> Result<bool, Syntax> {
        self.more(b']', "\",\" or \"]\"")
    }

    /// The next string; `None` when it is longer than [`MAX_STRING`] bytes.
    pub(crate) fn string(&mut self) -> Result<Option<Text<MAX_STRING>>, Syntax> {
        self.take(b'"', "a string")?;
        let mut string = Text::EMPTY;
        loop {
            let character = self.rest().chars().next();
            let character = match character {
                None => return Err(self.expected("the end of the string")),
                Some(control) if control < ' ' => {
                    return Err(self.expected("no control character in a string"));
                }
                Some(character) => character,
            };
            self.at += character.len_utf8();
            let character = match character {
                '"' => return Ok(Some(string)),
                '\\' => self.escape()?,
                plain => plain,
            };
            if !string.push(character) {
                return Ok(None);
            }
        }
    }

    /// The next number; `None` when it is negative, not written as a whole number, or above
    /// 2^64 - 1.
    pub(crate) fn whole_number(&mut self) -> Option<u64> {
        self.skip_space();
        let start = self.at;
        let mut number: u64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        let digits = self.at - start;
        let zero_first = self.text.as_bytes().get(start) == Some(&b'0');
        match self.peek() {
            Some(b'.' | b'e' | b'E') => None,
            _ if digits == 0 || (zero_first && digits > 1) => None,
            _ => Some(number),
        }
    }

    /// The next boolean.
    pub(crate) fn boolean(&mut self) -> Result<bool, Syntax> {
        self.skip_space();
        for (word, value) in [("true", true), ("false", false)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.expected("true or false"))
    }

    /// Ends the text: nothing may follow the outermost value.
    pub(crate) fn end(&mut self) -> Result<(), Syntax> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// The next value for an error message, without reading it: its first 64 bytes as they are
    /// written, or the type of an object or array.
    pub(crate) fn glimpse(&mut self) -> &'a str {
        let kind = self.kind();
        let rest = self.rest();
        let end = match kind {
            Ok(ValueKind::Object) => return "an object",
            Ok(ValueKind::Array) => return "an array",
            Ok(ValueKind::String) => rest
                .char_indices()
                .skip(1)
                .find(|&(_, character)| character == '"')
                .map_or(rest.len(), |(at, _)| at + 1),
            _ => rest.find([',', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len()),
        };
        rest.get(..rest.floor_char_boundary(end.min(GLIMPSE))).unwrap_or_default()
    }

    fn more(&mut self, close: u8, expected: &'static str) -> Result<bool, Syntax> {
        if self.took(close) {
            self.fresh = false;
            return Ok(false);
        }
        if !self.fresh {
            self.take(b',', expected)?;
        }
        self.fresh = false;
        Ok(true)
    }

    fn escape(&mut self) -> Result<char, Syntax> {
        let plain = match self.peek() {
            Some(plain @ (b'"' | b'\\' | b'/')) => plain,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.at += 1;
                let bad = self.expected("four hexadecimal digits of a Unicode character");
                return self.unicode_escape().ok_or(bad);
            }
            _ => return Err(self.expected("an escape of JSON")),
        };
        self.at += 1;
        Ok(char::from(plain))
    }

    fn unicode_escape(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first);
        }
        // A character outside the basic plane is written as a surrogate pair.
        self.rest().starts_with("\\u").then_some(())?;
        self.at += 2;
        let second = self.hex4()?.checked_sub(0xDC00).filter(|&low| low < 0x400)?;
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + second)
    }

    fn hex4(&mut self) -> Option<u32> {
        let mut number = 0;
        for _ in 0..4 {
            number = number << 4 | char::from(self.peek()?).to_digit(16)?;
            self.at += 1;
        }
        Some(number)
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), Syntax> {
        if self.took(byte) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn took(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expected(&self, expected: &'static str) -> Syntax {
        Syntax { at: self.at, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_STRING, Reader, Syntax};

    fn string(text: &str) -> Result<Option<String>, Syntax> {
        Ok(Reader::new(text).string()?.map(|text| text.as_str().to_owned()))
    }

    #[test]
    fn strings_are_read_with_their_escapes_up_to_the_longest() {
        let is = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(string(r#" "a/b" "#), is("a/b"));
        assert_eq!(string(r#""\"\\\/\b\f\n\r\t""#), is("\"\\/\u{8}\u{c}\n\r\t"));
        assert_eq!(string(r#""\u003c\u00e9\ud83d\ude00""#), is("<é😀"));
        assert_eq!(
            string(&format!("\"{}\"", "é".repeat(MAX_STRING / 2))),
            is(&"é".repeat(MAX_STRING / 2))
        );
        assert_eq!(string(&format!("\"{}\"", "x".repeat(MAX_STRING + 1))), Ok(None));
        for bad in [
            r#""open"#,
            "\"a\nb\"",
            r#""\x""#,
            r#""\u12""#,
            r#""\ud83d""#,
            r#""\ud83dx""#,
            r#""\ud83d\u0041""#,
            r#""\ude00""#,
            r#""\u+123""#,
            "",
        ] {
            assert!(string(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_whole_numbers_of_64_bits_are_read() {
        for (text, expect) in [
            ("0", Some(0)),
            (" 429,", Some(429)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("1.5", None),
            ("1e3", None),
            ("01", None),
            ("", None),
        ] {
            assert_eq!(Reader::new(text).whole_number(), expect, "{text}");
        }
    }

    #[test]
    fn objects_and_arrays_are_read_to_their_ends() -> Result<(), Syntax> {
        let mut reader = Reader::new(r#" { "a" : [ 1 , 2 ] , "b" : { } , "c":[]} "#);
        reader.begin_object()?;
        assert_eq!(reader.field()?, Some("a"));
        reader.begin_array()?;
        assert!(reader.item()? && reader.whole_number() == Some(1));
        assert!(reader.item()? && reader.whole_number() == Some(2));
        assert!(!reader.item()?);
        assert_eq!(reader.field()?, Some("b"));
        reader.begin_object()?;
        assert_eq!(reader.field()?, None);
        assert_eq!(reader.field()?, Some("c"));
        reader.begin_array()?;
        assert!(!reader.item()?);
        assert_eq!(reader.field()?, None);
        reader.end()
    }

    #[test]
    fn syntax_errors_have_the_byte_offset() {
        fn read(text: &str) -> Result<(), Syntax> {
            let mut reader = Reader::new(text);
            reader.begin_object()?;
            while reader.field()?.is_some() {
                reader.whole_number();
            }
            reader.end()
        }
        for (text, at) in [
            (r#"{"a" 1}"#, 5),
            (r#"{"a":1 "b""#, 7),
            (r#"{"a":1,}"#, 7),
            (r#"{,"a":1}"#, 1),
            ("{a:1}", 1),
            (r#"{"\u0061":1}"#, 2),
            (r#"{"a":1}}"#, 7),
            ("", 0),
        ] {
            assert_eq!(read(text).map_err(|syntax| syntax.at), Err(at), "{text}");
        }
        assert!(Reader::new("yes").boolean().is_err());
    }

    #[test]
    fn glimpses_are_short() {
        for (text, expect) in [
            ("{}", "an object"),
            (" [1]", "an array"),
            ("12,", "12"),
            (r#""ab","#, r#""ab""#),
            ("null}", "null"),
        ] {
            assert_eq!(Reader::new(text).glimpse(), expect);
        }
        assert_eq!(Reader::new(&"é".repeat(100)).glimpse().len(), 64);
    }
}
