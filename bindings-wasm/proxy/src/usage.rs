//! Finds what a response says has been used: the last number at a path of names in a JSON body or in the
//! events of an SSE stream, as it streams by. Nothing of the body is kept.

/// The most names of a path.
pub const MAX_DEPTH: usize = 8;

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON value, or several after each other (NDJSON).
    Json,
    /// Server-sent events (`text/event-stream`) whose data is JSON. What is no JSON, such as `[DONE]`, is passed over.
    Events,
}

/// A scanner that takes a body in pieces of any sizes: the result is the same for every way to cut it.
///
/// It follows strings, brackets and names, and does not check that the rest is JSON: an upstream that
/// sends anything else tells no usage, or one that means nothing.
///
/// ```
/// use tidegate_proxy::usage::{Form, Scanner};
/// let mut scanner = Scanner::new(Form::Json);
/// for piece in [&br#"{"usage":{"total_to"#[..], br#"kens":1"#, br#"2}}"#] {
///     scanner.feed(b"usage.total_tokens", piece);
/// }
/// assert_eq!(scanner.used(), Some(12));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanner {
    form: Form,
    line: Line,
    json: Json,
    /// The last number that was found.
    used: Option<u32>,
}

/// The place within a line of an event stream. The filler of a table must be all zero bytes, so the first variant has the
/// tag 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Line {
    /// The number of bytes of `data:` that have been read.
    Name(u8),
    /// The line is no data.
    Other,
    /// The line's data.
    Data,
    /// A carriage return has ended a line; a line feed after it ends no other one.
    Ended,
}

/// The place within a JSON value. On the path are only objects: the outermost one, and those whose names
/// are the path's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Json {
    token: Token,
    /// The open brackets.
    depth: u32,
    /// How many of the outermost ones are on the path.
    on_path: u8,
    /// Where the name in the path begins that the innermost of those is to have.
    wanted: u16,
    /// Whether a name is expected, in the innermost object on the path.
    expects_name: bool,
    /// Whether the last name was the wanted one, and its value comes.
    is_wanted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Token {
    /// Between the tokens.
    #[default]
    None,
    /// A string; `is_escaped` after a backslash.
    Text { is_escaped: bool },
    /// A name of which so many bytes are those of the path; `None` if it is another.
    Name { same: Option<u16>, is_escaped: bool },
    /// A number at the end of the path.
    Number(u32),
    /// Anything else up to the next separator.
    Other,
}

impl Scanner {
    /// A scanner of a body of this form, at its beginning.
    pub const fn new(form: Form) -> Self {
        Self { form, line: Line::Name(0), json: Json::START, used: None }
    }

    /// The last whole number that was found, at most 2^32 - 1. Negative numbers and fractions are none.
    pub const fn used(&self) -> Option<u32> {
        self.used
    }

    /// Reads the next piece of the body. `path` is the names, separated by dots.
    pub fn feed(&mut self, path: &[u8], piece: &[u8]) {
        for &byte in piece {
            match self.form {
                Form::Json => self.json_byte(path, byte),
                Form::Events => self.event_byte(path, byte),
            }
        }
    }

    fn json_byte(&mut self, path: &[u8], byte: u8) {
        if let Some(used) = self.json.next(path, byte) {
            self.used = Some(used);
        }
    }

    fn event_byte(&mut self, path: &[u8], byte: u8) {
        const NAME: &[u8] = b"data:";
        let line = self.line;
        if byte == b'\r' || byte == b'\n' {
            self.line = if byte == b'\r' { Line::Ended } else { Line::Name(0) };
            match line {
                Line::Ended if byte == b'\n' => {}
                // An empty line ends the event.
                Line::Ended | Line::Name(0) => self.json = Json::START,
                // The lines of one event's data are one text.
                Line::Data => self.json_byte(path, b'\n'),
                Line::Name(_) | Line::Other => {}
            }
            return;
        }
        let read = match line {
            Line::Data => return self.json_byte(path, byte),
            Line::Other => return,
            Line::Ended => 0,
            Line::Name(read) => read,
        };
        self.line = match NAME.get(usize::from(read)) {
            Some(expected) if *expected == byte && usize::from(read) + 1 == NAME.len() => {
                Line::Data
            }
            Some(expected) if *expected == byte => Line::Name(read + 1),
            _ => Line::Other,
        };
    }
}

impl Json {
    const START: Self = Self {
        token: Token::None,
        depth: 0,
        on_path: 0,
        wanted: 0,
        expects_name: false,
        is_wanted: false,
    };

    /// Reads a byte; answers the number that it ends at the end of the path.
    fn next(&mut self, path: &[u8], byte: u8) -> Option<u32> {
        let mut found = None;
        match self.token {
            Token::Text { is_escaped } => {
                self.token = match byte {
                    b'"' if !is_escaped => Token::None,
                    _ => Token::Text { is_escaped: byte == b'\\' && !is_escaped },
                };
                return None;
            }
            Token::Name { same, is_escaped } => {
                let at = usize::from(self.wanted) + usize::from(same.unwrap_or(0));
                let expected = path.get(at).filter(|byte| **byte != b'.');
                self.token = if byte == b'"' && !is_escaped {
                    self.is_wanted = same.is_some() && expected.is_none();
                    Token::None
                } else {
                    let same = same.filter(|_| byte != b'\\' && expected == Some(&byte));
                    let is_escaped = byte == b'\\' && !is_escaped;
                    Token::Name { same: same.map(|same| same + 1), is_escaped }
                };
                return None;
            }
            Token::Number(number) => match byte {
                b'0'..=b'9' => {
                    let digit = u32::from(byte - b'0');
                    self.token = Token::Number(number.saturating_mul(10).saturating_add(digit));
                    return None;
                }
                byte if is_separator(byte) => found = Some(number),
                _ => self.token = Token::Other,
            },
            Token::Other | Token::None => {}
        }
        self.between(path, byte);
        found
    }

    /// Reads a byte that is in no string, name or number.
    fn between(&mut self, path: &[u8], byte: u8) {
        let is_here = self.depth == u32::from(self.on_path);
        if is_separator(byte) {
            self.token = Token::None;
        }
        match byte {
            b'{' | b'[' => {
                let may_lead = byte == b'{' && is_here;
                if may_lead && self.depth == 0 {
                    (self.on_path, self.wanted) = (1, 0);
                } else if may_lead && self.is_wanted && self.enter(path) {
                    self.on_path += 1;
                }
                self.depth = self.depth.saturating_add(1);
                self.expects_name = self.depth == u32::from(self.on_path);
                self.is_wanted = false;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if is_here && self.on_path > 0 {
                    self.on_path -= 1;
                    self.leave(path);
                }
                (self.expects_name, self.is_wanted) = (false, false);
            }
            b',' => (self.expects_name, self.is_wanted) = (is_here && self.depth > 0, false),
            b'"' if self.expects_name && is_here => {
                self.expects_name = false;
                self.token = Token::Name { same: Some(0), is_escaped: false };
            }
            b'"' => {
                self.is_wanted = false;
                self.token = Token::Text { is_escaped: false };
            }
            b'0'..=b'9' if self.token == Token::None && self.is_last(path) => {
                self.is_wanted = false;
                self.token = Token::Number(u32::from(byte - b'0'));
            }
            byte if is_separator(byte) => {}
            _ => (self.token, self.is_wanted) = (Token::Other, false),
        }
    }

    /// Whether the value that comes is the one at the end of the path.
    fn is_last(&self, path: &[u8]) -> bool {
        let rest = path.get(usize::from(self.wanted)..).unwrap_or_default();
        self.is_wanted && self.depth == u32::from(self.on_path) && !rest.contains(&b'.')
    }

    /// Goes to the path's next name; `false` if there is none.
    fn enter(&mut self, path: &[u8]) -> bool {
        let rest = path.get(usize::from(self.wanted)..).unwrap_or_default();
        let Some(dot) = rest.iter().position(|byte| *byte == b'.') else { return false };
        self.wanted += dot as u16 + 1;
        true
    }

    /// Goes back to the path's name before.
    fn leave(&mut self, path: &[u8]) {
        let before = path.get(..usize::from(self.wanted).saturating_sub(1)).unwrap_or_default();
        let dot = before.iter().rposition(|byte| *byte == b'.');
        self.wanted = dot.map_or(0, |dot| dot as u16 + 1);
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"')
}

/// Whether a path has 1 to [`MAX_DEPTH`] names, of which none is empty.
pub fn is_path(path: &[u8]) -> bool {
    let mut names = path.split(|byte| *byte == b'.');
    names.clone().count() <= MAX_DEPTH && names.all(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Form, Scanner, is_path};

    const PATH: &[u8] = b"usage.total_tokens";

    fn scan<'p>(
        form: Form,
        path: &[u8],
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> Option<u32> {
        let mut scanner = Scanner::new(form);
        pieces.into_iter().for_each(|piece| scanner.feed(path, piece));
        scanner.used()
    }

    /// Scans a body whole, cut at each place, and byte by byte.
    #[track_caller]
    fn assert_used(form: Form, path: &[u8], body: &str, expect: Option<u32>) {
        let body = body.as_bytes();
        for at in 0..=body.len() {
            let (a, b) = body.split_at(at);
            assert_eq!(scan(form, path, [a, b]), expect, "cut at {at}");
        }
        assert_eq!(scan(form, path, body.chunks(1)), expect, "byte by byte");
    }

    #[test]
    fn the_last_number_at_the_path_is_used() {
        for (body, expect) in [
            (r#"{"usage":{"total_tokens":12}}"#, Some(12)),
            (" {\n\"usage\" : { \"total_tokens\" : 12 }\n}\n", Some(12)),
            (
                r#"{"a":[1,{"usage":{"total_tokens":1}}],"usage":{"a":{},"total_tokens":2}}"#,
                Some(2),
            ),
            (r#"{"usage":{"total_tokens":1},"usage":{"total_tokens":2}}"#, Some(2)),
            (
                "{\"usage\":{\"total_tokens\":1}}\n{\"usage\":{\"total_tokens\":3}}\n{\"a\":4}",
                Some(3),
            ),
            (r#"{"usage":{"total_tokens":99999999999}}"#, Some(u32::MAX)),
            (r#"{"usage":{"total_tokens":0}}"#, Some(0)),
            (r#"{"a":"\"{\\","usage":{"total_tokens":5}}"#, Some(5)),
            (
                r#"{"usage":{"x":{"total_tokens":1},"total_tokens":7,"y":[{"total_tokens":2}]}}"#,
                Some(7),
            ),
            (r#"{"usage":{"total_tokens":6,"x":"}"},"z":{"total_tokens":8}}"#, Some(6)),
            (
                "{\"usage\":{\"total_tokens\":4},\"content\":\"{\\\"usage\\\":{\\\"total_tokens\\\":9}}\"}",
                Some(4),
            ),
            // No whole number at the path.
            (r#"{"usage":null}"#, None),
            (r#"{"usage":{"total_tokens":null}}"#, None),
            (r#"{"usage":{"total_tokens":-1}}"#, None),
            (r#"{"usage":{"total_tokens":1.5}}"#, None),
            (r#"{"usage":{"total_tokens":1e3}}"#, None),
            (r#"{"usage":{"total_tokens":"12"}}"#, None),
            (r#"{"usage":{"total_tokens":[12]}}"#, None),
            (r#"{"usage":{"total_tokens":{"n":12}}}"#, None),
            (r#"{"usage":[{"total_tokens":12}]}"#, None),
            (r#"{"x":{"usage":{"total_tokens":12}}}"#, None),
            (r#"[{"usage":{"total_tokens":12}}]"#, None),
            (r#"{"usages":{"total_tokens":1},"usag":{"total_tokens":2}}"#, None),
            (r#"{"usage":{"total_token":1,"total_tokens2":2}}"#, None),
            (r#"{"x":"usage","total_tokens":3}"#, None),
            (r#"["usage",{"total_tokens":3}]"#, None),
            (r#"{"usage.total_tokens":3}"#, None),
            (r#""usage",{"total_tokens":3}"#, None),
            // The number has not ended.
            (r#"{"usage":{"total_tokens":12"#, None),
            ("", None),
        ] {
            assert_used(Form::Json, PATH, body, expect);
        }
        assert_used(Form::Json, b"n", r#"{"a":{"n":1},"n":2,"b":[{"n":3}]}"#, Some(2));
        assert_used(
            Form::Json,
            b"a.b.c.d",
            r#"{"a":{"b":{"c":{},"c":{"d":1}},"c":{"d":2}}}"#,
            Some(1),
        );
    }

    #[test]
    fn the_last_event_that_tells_is_used_and_other_lines_are_passed_over() {
        let told = r#"data: {"usage":{"total_tokens":12}}"#;
        for line in ["\n", "\r\n", "\r"] {
            for (body, expect) in [
                (format!("{told}|||data: [DONE]||"), Some(12)),
                (format!("data:{{\"usage\":null}}||{told}||"), Some(12)),
                (format!("{told}||data: {{\"usage\":{{\"total_tokens\":13}}}}||"), Some(13)),
                (format!(": {told}||event: {told}||x{told}||data{told}||"), None),
                ("data: {\"usage\":|data: {\"total_tokens\":|data: 5}}||".to_owned(), Some(5)),
                // An event that ends within its JSON does not change the next one.
                (format!("data: {{\"a\":[\"||{told}||"), Some(12)),
                (format!("id: 1|{told}|retry: 5||"), Some(12)),
            ] {
                assert_used(Form::Events, PATH, &body.replace('|', line), expect);
            }
        }
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as usize % bound
        }

        fn value(&mut self, depth: usize) -> String {
            let words =
                ["\"usage\"", "\"a\\\"{[\"", "\"\"", "null", "true", "-1.5e3", "7", "\"n\""];
            match self.below(if depth == 0 { 8 } else { 12 }) {
                kind @ 0..8 => words[kind].to_owned(),
                8 | 9 => {
                    let items: Vec<_> = (0..self.below(4)).map(|_| self.value(depth - 1)).collect();
                    format!("[{}]", items.join(","))
                }
                _ => {
                    let names = ["a", "n", "b\\\\", "usag", "usage2", "total_tokens"];
                    let fields: Vec<_> = (0..self.below(4))
                        .map(|_| format!("\"{}\": {}", names[self.below(6)], self.value(depth - 1)))
                        .collect();
                    format!("{{{}}}", fields.join(" ,\n"))
                }
            }
        }

        /// An object that tells this much, or nothing, among other fields.
        fn document(&mut self, told: Option<usize>) -> String {
            let mut fields: Vec<_> =
                (0..self.below(4)).map(|at| format!("\"f{at}\":{}", self.value(4))).collect();
            let mut usage: Vec<_> =
                (0..self.below(3)).map(|at| format!("\"u{at}\":{}", self.value(3))).collect();
            if let Some(told) = told {
                usage.insert(self.below(usage.len() + 1), format!("\"total_tokens\":{told}"));
            }
            let usage = format!("\"usage\":{{{}}}", usage.join(","));
            fields.insert(self.below(fields.len() + 1), usage);
            format!("{{{}}}", fields.join(","))
        }
    }

    #[test]
    fn random_bodies_cut_in_any_way_tell_what_was_written_last() {
        let mut random = Random(7);
        for _ in 0..400 {
            let (mut json, mut events, mut expect) = (String::new(), String::new(), None);
            for _ in 0..1 + random.below(3) {
                let told = Some(random.below(100_000)).filter(|told| told % 3 > 0);
                let document = random.document(told);
                json += &document;
                events += &format!("data: {}\n\n", document.replace('\n', "\ndata:"));
                expect = told.map(|told| told as u32).or(expect);
            }
            for (form, body) in [(Form::Json, json), (Form::Events, events)] {
                for _ in 0..20 {
                    let mut rest = body.as_bytes();
                    let mut pieces = Vec::new();
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(random.below(rest.len()) + 1);
                        pieces.push(piece);
                        rest = after;
                    }
                    assert_eq!(scan(form, PATH, pieces), expect, "{body}");
                }
                assert_eq!(scan(form, PATH, body.as_bytes().chunks(1)), expect, "{body}");
            }
        }
    }

    #[test]
    fn depth_is_counted_and_costs_no_memory() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = format!("{{\"x\":{deep},\"usage\":{{\"total_tokens\":3}}}}");
        assert_eq!(scan(Form::Json, PATH, [body.as_bytes()]), Some(3));
        let open = "{\"usage\":".repeat(300) + "{\"total_tokens\":3}";
        assert_eq!(scan(Form::Json, PATH, [open.as_bytes()]), None);
    }

    #[test]
    fn a_path_has_one_to_eight_names() {
        for (path, expect) in [
            ("a", true),
            ("usage.total_tokens", true),
            ("a.b.c.d.e.f.g.h", true),
            ("a.b.c.d.e.f.g.h.i", false),
            ("", false),
            (".a", false),
            ("a.", false),
            ("a..b", false),
        ] {
            assert_eq!(is_path(path.as_bytes()), expect, "{path}");
        }
    }
}
