//! Fuzzes the scanner of what a response has used: any bytes in any pieces, and its result beside that of a JSON
//! parser.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tidegate_proxy::usage::{Form, MAX_DEPTH, Scanner, is_path};

const PATH: &str = "usage.total_tokens";

fuzz_target!(|bytes: &[u8]| {
    let (cuts, body) = bytes.split_at(bytes.len().min(8));
    for form in [Form::Json, Form::Events] {
        for path in [PATH, "n", "a.b.c.d.e.f.g.h"] {
            let whole = used(form, path, [body]);
            assert_eq!(used(form, path, body.chunks(1)), whole);
            assert_eq!(used(form, path, pieces(cuts, body)), whole);
        }
    }
    if is_path(body) {
        assert!((1..=MAX_DEPTH).contains(&body.split(|byte| *byte == b'.').count()));
    }
    // A parser keeps the last of equal names, so the value is written again without the others.
    if let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(body) {
        let written = value.to_string();
        let found = value.get("usage").and_then(|usage| usage.get("total_tokens"));
        let expect =
            found.and_then(Value::as_u64).map(|used| u32::try_from(used).unwrap_or(u32::MAX));
        assert_eq!(used(Form::Json, PATH, [written.as_bytes()]), expect, "{written}");
        let event = format!("data: {written}\n\n");
        assert_eq!(used(Form::Events, PATH, [event.as_bytes()]), expect, "{event}");
    }
});

fn used<'b>(form: Form, path: &str, pieces: impl IntoIterator<Item = &'b [u8]>) -> Option<u32> {
    let mut scanner = Scanner::new(form);
    pieces.into_iter().for_each(|piece| scanner.feed(path.as_bytes(), piece));
    scanner.used()
}

/// The body in pieces of these sizes, again and again.
fn pieces<'b>(cuts: &[u8], mut body: &'b [u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut sizes = cuts.iter().cycle();
    while !body.is_empty() {
        let size = sizes.next().map_or(body.len(), |&cut| usize::from(cut)).clamp(1, body.len());
        let (piece, rest) = body.split_at(size);
        pieces.push(piece);
        body = rest;
    }
    pieces
}
