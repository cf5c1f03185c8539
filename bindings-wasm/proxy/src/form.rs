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
/// It is decoded, and its quotes are removed, as some upstreams do. A quoted value with escapes, and
/// a cookie that only some parsers see (`a=1 name=2`, `a=1, name=2`), are malformed: what one parser
/// does not see would be no key here, while the upstream may use it.
pub(crate) fn cookie<'s>(
    header: &[u8],
    name: &[u8],
    scratch: &mut Scratch<'s>,
) -> Result<&'s [u8], NoKey> {
    let mut found = None;
    for crumb in header.split(|&byte| byte == b';') {
        let crumb = crumb.trim_ascii();
        let (key, value) = split_once(crumb, b'=').unwrap_or((crumb, b""));
        if key.trim_ascii() == name && found.replace(value.trim_ascii()).is_some() {
            return Err(NoKey::Repeated);
        }
        if is_hidden_in(crumb, name) {
            return Err(NoKey::Malformed);
        }
    }
    let value = match found.ok_or(NoKey::Missing)? {
        [b'"', quoted @ .., b'"'] if quoted.contains(&b'\\') => return Err(NoKey::Malformed),
        [b'"', quoted @ .., b'"'] => quoted,
        plain => plain,
    };
    scratch.keep(Decoded(value)).ok_or(NoKey::TooLong)
}

/// Whether `name=` follows a separator inside `crumb`.
fn is_hidden_in(crumb: &[u8], name: &[u8]) -> bool {
    let is_separator = |byte: u8| byte == b',' || byte.is_ascii_whitespace();
    let mut rest = crumb;
    while let Some(at) = rest.iter().position(|&byte| is_separator(byte)) {
        rest = rest.get(at + 1..).unwrap_or_default();
        let after = rest.strip_prefix(name).map(<[u8]>::trim_ascii_start);
        if after.is_some_and(|after| after.first() == Some(&b'=')) {
            return true;
        }
    }
    false
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

    fn read(read: Read, text: &str) -> Result<String, NoKey> {
        let mut memory = [0; 64];
        let mut scratch = Scratch::new(&mut memory);
        let value = read(text.as_bytes(), b"user", &mut scratch)?;
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
            ("user=\"", value("\"")),
            ("user=", value("")),
            ("", Err(NoKey::Missing)),
            ("users=1; User=2", Err(NoKey::Missing)),
            ("a=user", Err(NoKey::Missing)),
            ("user=a; user=a", Err(NoKey::Repeated)),
            ("user=\"a\\142\"", Err(NoKey::Malformed)),
            ("a=1 user=ann", Err(NoKey::Malformed)),
            ("a=1,user =ann", Err(NoKey::Malformed)),
            ("user=ann\tuser=b", Err(NoKey::Malformed)),
        ] {
            assert_eq!(read(cookie, header), expect, "{header}");
        }
    }
}
