//! The sources of a descriptor's entries: the parts of a request that its keys are made of.

use core::fmt;

use crate::address::{MAX_NETWORK, Network, without_port};
use crate::form;
use crate::header_match::HeaderMatches;
use crate::host::{Host, Status};
use crate::names::{Name, Names};
use crate::scratch::Scratch;
use crate::text::Text;

/// Stands before the name of a header in the path of its property; NUL separates the parts of a path.
pub(crate) const HEADERS: &str = "request\0headers\0";

/// The source of one entry's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A header; `property` is the path of its property.
    Header { property: Name },
    /// The client's address without its port: the address that Envoy considers trusted.
    RemoteAddress,
    /// The network of the client's address; the lengths of the two kinds of networks are in bits.
    Network { v4_bits: u8, v6_bits: u8 },
    /// The path, without its query.
    Path,
    /// The method.
    Method,
    /// The host that the client asks for, in lower case, without a port or a final dot; it may be empty.
    HostName,
    /// A parameter of the query.
    Query(Name),
    /// A cookie.
    Cookie(Name),
    /// The value itself.
    Value(Name),
    /// Dynamic metadata, or metadata of the route; `property` is the path of its property.
    Metadata { property: Name, default: Option<Name> },
    /// `value`, if headers match as expected.
    HeaderMatch { matches: HeaderMatches, expected: bool, value: Name },
}

/// Why a request has no value of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The request has no such part.
    Missing,
    /// Headers do not match.
    NoMatch,
    /// The value is longer than the memory that the filter has for one request.
    TooLong,
    /// The part is given more than once.
    Repeated,
    /// Parsers of the part would disagree on its value.
    Malformed,
    /// The host call failed.
    Host(Status),
}

/// The path of a header's property; `None` for what HTTP does not allow as the name of a header.
pub(crate) fn header_property(name: &str) -> Option<Text<96>> {
    let token = name.strip_prefix(':').unwrap_or(name);
    if token.is_empty() || token.len() > 64 || !token.bytes().all(is_token_byte) {
        return None;
    }
    let mut property = Text::new(HEADERS)?;
    for character in name.chars() {
        property.push(character.to_ascii_lowercase()).then_some(())?;
    }
    Some(property)
}

impl Source {
    /// The value in the current request. Any value is a key, also the empty one of a header, a cookie, a
    /// parameter or the host: a client gains nothing by the form of what it sends.
    #[inline]
    pub(crate) fn read<'s>(
        &self,
        names: &Names,
        host: &'s impl Host,
        scratch: &mut Scratch<'s>,
    ) -> Result<&'s [u8], NoKey> {
        match *self {
            Self::Header { property } => header(host, names.get(property)),
            Self::RemoteAddress => not_empty(without_port(address(host)?)),
            _ => self.read_rarer(names, host, scratch),
        }
    }

    #[inline(never)]
    fn read_rarer<'s>(
        &self,
        names: &Names,
        host: &'s impl Host,
        scratch: &mut Scratch<'s>,
    ) -> Result<&'s [u8], NoKey> {
        let mut keep = |bytes: &[u8]| scratch.keep(bytes.iter().copied()).ok_or(NoKey::TooLong);
        match *self {
            Self::Header { property } => header(host, names.get(property)),
            Self::RemoteAddress => not_empty(without_port(address(host)?)),
            Self::Network { v4_bits, v6_bits } => {
                let address = without_port(address(host)?);
                match Network::of(address, v4_bits, v6_bits) {
                    Some(network) => {
                        keep(Text::<MAX_NETWORK>::format(format_args!("{network}")).as_bytes())
                    }
                    // The path of a Unix socket.
                    None => not_empty(address),
                }
            }
            Self::Path => not_empty(property(host, b"request\0url_path")?),
            Self::Method => not_empty(property(host, b"request\0method")?),
            Self::HostName => {
                let name = without_port(property(host, b"request\0host")?);
                let name = name.strip_suffix(b".").unwrap_or(name);
                scratch.keep(name.iter().map(u8::to_ascii_lowercase)).ok_or(NoKey::TooLong)
            }
            Self::Query(name) => {
                let query = property(host, b"request\0query")?;
                form::query_parameter(query, names.get(name), scratch)
            }
            Self::Cookie(name) => {
                let cookies = header(host, b"request\0headers\0cookie")?;
                form::cookie(cookies, names.get(name), scratch)
            }
            Self::Value(value) => keep(names.get(value)),
            Self::Metadata { property: path, default } => {
                match (property(host, names.get(path)).and_then(not_empty), default) {
                    (Err(NoKey::Missing), Some(default)) => keep(names.get(default)),
                    (read, _) => read,
                }
            }
            Self::HeaderMatch { matches, expected, value } => {
                if matches.all_match(names, host)? != expected {
                    return Err(NoKey::NoMatch);
                }
                keep(names.get(value))
            }
        }
    }

    /// Tells what makes the source different from others, part by part. Sources of the same texts in
    /// another configuration are the same.
    #[inline(never)]
    pub(crate) fn identify(&self, names: &Names, tell: &mut dyn FnMut(&[u8])) {
        let (kind, name) = match *self {
            Self::Header { property } => (0, property),
            Self::RemoteAddress => (1, Name::EMPTY),
            Self::Network { v4_bits, v6_bits } => {
                tell(&[v4_bits, v6_bits]);
                (2, Name::EMPTY)
            }
            Self::Path => (3, Name::EMPTY),
            Self::Method => (4, Name::EMPTY),
            Self::HostName => (5, Name::EMPTY),
            Self::Query(name) => (6, name),
            Self::Cookie(name) => (7, name),
            Self::Value(name) => (8, name),
            Self::Metadata { property, .. } => (9, property),
            Self::HeaderMatch { matches, expected, value } => {
                matches.identify(names, tell);
                (10 + u8::from(expected), value)
            }
        };
        tell(&[kind]);
        tell(names.get(name));
    }

    /// The source in words, such as `the header x-api-key`.
    pub(crate) fn describe<'n>(&self, names: &'n Names) -> Described<'n> {
        Described { source: *self, names }
    }
}

/// A source, to be written in words.
pub(crate) struct Described<'n> {
    source: Source,
    names: &'n Names,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = match self.source {
            Source::Header { property } => {
                let property = self.names.text(property);
                ("the header ", property.strip_prefix(HEADERS).unwrap_or(property))
            }
            Source::RemoteAddress => ("the client's address", ""),
            Source::Network { .. } => ("the client's network", ""),
            Source::Path => ("the path", ""),
            Source::Method => ("the method", ""),
            Source::HostName => ("the host", ""),
            Source::Query(name) => ("the query parameter ", self.names.text(name)),
            Source::Cookie(name) => ("the cookie ", self.names.text(name)),
            Source::Value(_) => ("a value", ""),
            Source::Metadata { .. } => ("metadata", ""),
            Source::HeaderMatch { .. } => ("a header that is matched", ""),
        };
        f.write_str(what)?;
        f.write_str(name)
    }
}

fn address(host: &impl Host) -> Result<&[u8], NoKey> {
    property(host, b"source\0address")
}

/// The value of a header that is given once, by the path of its property. A key that is made from all
/// values of a repeated one, or from one of them, would give a client a new bucket for each value that
/// it adds, while the upstream may read another one of them.
#[inline(never)]
pub(crate) fn header<'h>(host: &'h impl Host, path: &[u8]) -> Result<&'h [u8], NoKey> {
    let value = property(host, path)?;
    // The host joins the values of a repeated header by commas.
    if value.contains(&b',') {
        let name = path.strip_prefix(HEADERS.as_bytes()).unwrap_or_default();
        if host.first_header(name).map_err(no_key)?.len() != value.len() {
            return Err(NoKey::Repeated);
        }
    }
    Ok(value)
}

pub(crate) fn property<'h>(host: &'h impl Host, path: &[u8]) -> Result<&'h [u8], NoKey> {
    host.property(path).map_err(no_key)
}

fn not_empty(value: &[u8]) -> Result<&[u8], NoKey> {
    if value.is_empty() { Err(NoKey::Missing) } else { Ok(value) }
}

fn no_key(status: Status) -> NoKey {
    match status {
        Status::NOT_FOUND => NoKey::Missing,
        // The value did not fit into the memory that the filter has for it.
        Status::INVALID_MEMORY_ACCESS => NoKey::TooLong,
        status => NoKey::Host(status),
    }
}

/// Whether RFC 9110 allows the byte in the name of a header.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
