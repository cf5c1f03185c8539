//! Query parameters and cookies, read so that no spelling of a value gives a client another bucket.

use crate::scratch::Scratch;
use crate::source::NoKey;

/// The value of the one parameter `name` of a query, decoded as forms are, because an upstream takes
/// `%61` and `a` for the same.
pub(crate) fn query_parameter<'s>(
    query: &[u8],
    name: &[u8],
    scratch: &mut Scratch<'s>,
) -> Result<&'s [u8], NoKey> {
    let mut found = None;
    for pair in query.split(|&byte| byte == b'&') {
        let (key, value) = split_once(pair, b'=').unwrap_or((pair, b""));
        if Decoded(key).eq(name.iter().copied()) && found.replace(value).is_some() {
            return Err(NoKey::Repeated);
        }
    }
    scratch.keep(Decoded(found.ok_or(NoKey::Missing)?)).ok_or(NoKey::TooLong)
}

/// The value of the one cookie `name` of a `Cookie` header.
///
/// It is decoded, and its quotes are removed, as some upstreams do. Malformed is a cookie that some
/// parsers see and others do not, or with another value: what one parser does not see would be no key
/// here, while the upstream may use it. Such are a cookie inside of another (`a=1 name=2`, `a=1, name=2`),
/// one after a quoted value that escapes or does not end with its quote (`a="1; name=2"`), and one with
/// bytes at an edge that some parsers trim (a no-break space).
pub(crate) fn cookie<'s>(
    header: &[u8],
    name: &[u8],
    scratch: &mut Scratch<'s>,
) -> Result<&'s [u8], NoKey> {
    let (mut found, mut is_unclosed, mut is_malformed) = (None, false, false);
    for crumb in header.split(|&byte| byte == b';') {
        let (key, value) = split_once(crumb, b'=').unwrap_or((crumb, b""));
        let value = value.trim_ascii();
        is_unclosed |= begins_unclosed(value);
        let mut rest = crumb;
        if key.trim_ascii() == name {
            if found.replace(value).is_some() {
                return Err(NoKey::Repeated);
            }
            is_malformed |= is_unclosed;
            rest = value;
        }
        is_malformed |= is_hidden_in(rest, name);
    }
    let value = match found {
        Some([b'"', quoted @ .., b'"']) => quoted,
        Some(plain) => plain,
        None if !is_malformed => return Err(NoKey::Missing),
        None => b"",
    };
    let is_blank = |edge: Option<&u8>| edge.is_some_and(|byte| !byte.is_ascii_graphic());
    if is_malformed || is_blank(value.first()) || is_blank(value.last()) {
        return Err(NoKey::Malformed);
    }
    scratch.keep(Decoded(value)).ok_or(NoKey::TooLong)
}

/// Whether a cookie's value begins with a quote but is no plain text in quotes. Parsers disagree on
/// where it ends.
fn begins_unclosed(value: &[u8]) -> bool {
    let Some(quoted) = value.strip_prefix(b"\"") else { return false };
    let text = quoted.strip_suffix(b"\"");
    text.is_none_or(|text| text.iter().any(|byte| b"\"\\".contains(byte)))
}

/// Whether `name=` stands at the beginning of `crumb`, or after a byte that is a separator to some parser.
fn is_hidden_in(mut crumb: &[u8], name: &[u8]) -> bool {
    loop {
        let mut after = crumb.strip_prefix(name).unwrap_or_default().iter();
        if after.find(|byte| byte.is_ascii_graphic()) == Some(&b'=') {
            return true;
        }
        let separator = |byte: &u8| *byte == b',' || !byte.is_ascii_graphic();
        let Some(at) = crumb.iter().position(separator) else { return false };
        crumb = crumb.get(at + 1..).unwrap_or_default();
    }
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// Bytes in the encoding of forms, decoded: `%61` is `a`, and `+` is a space. A `%` without two
/// hexadecimal digits is itself.
struct Decoded<'b>(&'b [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let (byte, rest) = match *self.0 {
            [] => return None,
            [b'%', high, low, ref rest @ ..] => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => (b'%', self.0.get(1..)?),
            },
            [b'+', ref rest @ ..] => (b' ', rest),
            [byte, ref rest @ ..] => (byte, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::{cookie, query_parameter};
    use crate::scratch::Scratch;
    use crate::source::NoKey;

    type Read = for<'s> fn(&[u8], &[u8], &mut Scratch<'s>) -> Result<&'s [u8], NoKey>;

    fn read(read: Read, text: impl AsRef<[u8]>) -> Result<String, NoKey> {
        let mut memory = [0; 64];
        let mut scratch = Scratch::new(&mut memory);
        let value = read(text.as_ref(), b"user", &mut scratch)?;
        Ok(String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn a_parameter_has_one_value_however_it_is_spelled() {
        let value = |text: &str| Ok(text.to_owned());
        for (query, expect) in [
            ("user=ann", value("ann")),
            ("a=1&user=ann&b=2", value("ann")),
            ("us%65r=%61nn", value("ann")),
            ("user=a+b", value("a b")),
            ("user=a%20b", value("a b")),
            ("user=100%", value("100%")),
            ("user=%zz%4", value("%zz%4")),
            ("user=a=b", value("a=b")),
            ("user=", value("")),
            ("user", value("")),
            ("", Err(NoKey::Missing)),
            ("User=ann&users=1&xuser=2", Err(NoKey::Missing)),
            ("user=a&user=b", Err(NoKey::Repeated)),
            ("user=a&%75ser=a", Err(NoKey::Repeated)),
            ("user&user", Err(NoKey::Repeated)),
        ] {
            assert_eq!(read(query_parameter, query), expect, "{query}");
        }
        let long = format!("user={}", "x".repeat(65));
        assert_eq!(read(query_parameter, &long), Err(NoKey::TooLong));
    }

    #[test]
    fn a_cookie_has_one_value_and_none_hides_from_the_filter() {
        let value = |text: &str| Ok(text.to_owned());
        for (header, expect) in [
            ("user=ann", value("ann")),
            ("a=1; user=ann; b=2", value("ann")),
            ("a=1;user = ann ;b", value("ann")),
            ("user=\"ann\"", value("ann")),
            ("user=%61nn", value("ann")),
            ("user={\"a\":1,\"b\":2}", value("{\"a\":1,\"b\":2}")),
            ("user=a b", value("a b")),
            ("user=", value("")),
            ("user=\"\"", value("")),
            ("user=\u{fc}b\u{fc}r", Err(NoKey::Malformed)),
            ("user=b\u{fc}r", value("b\u{fc}r")),
            ("a=\u{a0}; user=ann; b=\u{fc}", value("ann")),
            ("a=\"1\"; user=ann; b=\"x;y\"", value("ann")),
            ("a={\"b\":\"c\"}; user=ann", value("ann")),
            ("", Err(NoKey::Missing)),
            ("users=1; User=2", Err(NoKey::Missing)),
            ("a=user", Err(NoKey::Missing)),
            ("user=a; user=a", Err(NoKey::Repeated)),
            ("user=\"a\\142\"", Err(NoKey::Malformed)),
            ("a=1 user=ann", Err(NoKey::Malformed)),
            ("a=1,user =ann", Err(NoKey::Malformed)),
            ("user=ann\tuser=b", Err(NoKey::Malformed)),
            ("user=\"", Err(NoKey::Malformed)),
            ("a=\"1; user=ann\"", Err(NoKey::Malformed)),
            ("a=\"1\\\"; user=ann", Err(NoKey::Malformed)),
            ("user=\"a; b\"", Err(NoKey::Malformed)),
        ] {
            assert_eq!(read(cookie, header), expect, "{header}");
        }
    }

    #[test]
    fn no_byte_that_some_parsers_trim_gives_a_cookie_another_bucket() {
        for blank in (0..=b' ').chain(0x7F..=0xFF) {
            for edge in [&[blank][..], &[blank, b' '], &[0xC2, blank], &[b' ', blank, b'\t']] {
                if edge.trim_ascii().is_empty() {
                    continue;
                }
                let parts: [&[u8]; 5] = [b"a=1;", b"user", b"=", b"ann", b"; b=2"];
                for place in 1..parts.len() {
                    let mut header = parts.to_vec();
                    header.insert(place, edge);
                    let header = header.concat();
                    let text = String::from_utf8_lossy(&header);
                    assert_eq!(read(cookie, &header), Err(NoKey::Malformed), "{text}");
                }
                let quoted = [b"user=\"ann", edge, b"\""].concat();
                assert_eq!(read(cookie, quoted), Err(NoKey::Malformed));
            }
        }
    }
}
