//! The bucket's key: which attribute of a request it is, and how it is read.

use core::fmt;

use tidegate_core::StoredKey;

use crate::host::{Host, Status};
use crate::text::Text;

const HEADERS: &str = "request\0headers\0";
const SOURCE_ADDRESS: &str = "source\0address";
const URL_PATH: &str = "request\0url_path";

/// The request attribute from which the key is read.
#[derive(Clone, Copy, Debug)]
pub struct KeySource {
    attribute: Attribute,
    /// The property's path in the host's form: NUL separates its parts.
    property: Text<96>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Header,
    ClientAddress,
    Path,
}

/// Why a request has no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The attribute is absent.
    Missing,
    /// The value is longer than the memory that the filter has for one request.
    TooLong,
    /// The header is given more than once.
    Repeated,
    /// The host call failed.
    Host(Status),
}

impl KeySource {
    /// A header, by its name in upper or lower case; `None` when the name is not valid.
    pub fn header(name: &str) -> Option<Self> {
        let token = name.strip_prefix(':').unwrap_or(name);
        if token.is_empty() || !token.bytes().all(is_token_byte) {
            return None;
        }
        let mut property = Text::new(HEADERS)?;
        for character in name.chars() {
            property.push(character.to_ascii_lowercase()).then_some(())?;
        }
        Some(Self { attribute: Attribute::Header, property })
    }

    /// The client's address without its port: the address that Envoy considers trusted.
    pub fn client_address() -> Self {
        Self { attribute: Attribute::ClientAddress, property: Text::literal(SOURCE_ADDRESS) }
    }

    /// The path, without its query.
    pub fn path() -> Self {
        Self { attribute: Attribute::Path, property: Text::literal(URL_PATH) }
    }

    /// The path of the property that the host is asked for. Different sources have different ones.
    pub(crate) fn property(&self) -> &[u8] {
        self.property.as_bytes()
    }

    /// The key of the current request, as the service's protocol can carry it. Any value of a header
    /// is a key, also the empty one: a client gains nothing by the form of what it sends.
    pub(crate) fn read<'h>(&self, host: &'h impl Host) -> Result<StoredKey<'h>, NoKey> {
        let value = host.property(self.property()).map_err(no_key)?;
        let key = match self.attribute {
            Attribute::ClientAddress => without_port(value),
            Attribute::Path => value,
            Attribute::Header if self.is_repeated(host, value)? => return Err(NoKey::Repeated),
            Attribute::Header => value,
        };
        if key.is_empty() && self.attribute != Attribute::Header {
            return Err(NoKey::Missing);
        }
        Ok(StoredKey::text(key))
    }

    /// Whether the request has the header more than once. A key that is made from all values, or
    /// from one of them, would give a client a new bucket for each value that it adds, while the
    /// upstream may read another one of them.
    fn is_repeated(&self, host: &impl Host, joined: &[u8]) -> Result<bool, NoKey> {
        // The host joins the values of a repeated header by commas.
        if !joined.contains(&b',') {
            return Ok(false);
        }
        let name = self.property().strip_prefix(HEADERS.as_bytes()).unwrap_or_default();
        let first = host.first_header(name).map_err(no_key)?;
        Ok(first.len() != joined.len())
    }
}

/// Describes the source in words, such as `the header x-api-key`.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attribute {
            Attribute::Header => {
                let property = self.property.as_str();
                write!(f, "the header {}", property.strip_prefix(HEADERS).unwrap_or(property))
            }
            Attribute::ClientAddress => f.write_str("the client's address"),
            Attribute::Path => f.write_str("the path"),
        }
    }
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

/// Removes the port, which differs from connection to connection, from `192.0.2.1:5000` and
/// `[2001:db8::1]:5000`. The path of a Unix socket is returned unchanged.
fn without_port(address: &[u8]) -> &[u8] {
    if let Some(rest) = address.strip_prefix(b"[") {
        return rest.split(|&byte| byte == b']').next().unwrap_or(rest);
    }
    let Some(colon) = address.iter().rposition(|&byte| byte == b':') else {
        return address;
    };
    let (host, port) = address.split_at(colon);
    let is_port = port.len() > 1 && port.iter().skip(1).all(u8::is_ascii_digit);
    if is_port && !host.contains(&b':') && !host.contains(&b'/') { host } else { address }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{MAX_KEY, StoredKey};

    use super::{KeySource, NoKey, without_port};
    use crate::fake_host::FakeHost;
    use crate::host::Status;

    #[test]
    fn addresses_lose_their_port_only() {
        for (address, host) in [
            ("127.0.0.1:53358", "127.0.0.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[::1]", "::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("/run/app.sock", "/run/app.sock"),
            ("/run/a:1", "/run/a:1"),
            ("", ""),
        ] {
            assert_eq!(without_port(address.as_bytes()), host.as_bytes(), "{address}");
        }
    }

    #[test]
    fn header_names_are_tokens_in_lower_case() {
        let property = |name| KeySource::header(name).map(|key| key.property().to_vec());
        assert_eq!(property("X-Api-Key"), Some(b"request\0headers\0x-api-key".to_vec()));
        assert_eq!(property(":authority"), Some(b"request\0headers\0:authority".to_vec()));
        for bad in ["", ":", "a b", "a:b", "é", "a\0b", "a\nb"] {
            assert!(property(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn any_value_of_a_header_is_a_key() {
        let Some(source) = KeySource::header("K") else { panic!("a header") };
        let host = FakeHost::default();
        let read = |value: Result<&[u8], Status>| {
            host.set_property(source.property(), value);
            source.read(&host).map(|key| key.as_bytes().to_vec())
        };
        for value in [&b""[..], b"a", b"a,b", b"a\xFF", &[b'a'; MAX_KEY], &[b'a'; MAX_KEY + 1]] {
            host.set_header(b"k", Ok(value));
            assert_eq!(read(Ok(value)), Ok(StoredKey::text(value).as_bytes().to_vec()));
        }
        for (first, joined) in [("a", "a,b"), ("", ","), ("", ",a"), ("a,b", "a,b,c")] {
            host.set_header(b"k", Ok(first.as_bytes()));
            assert_eq!(read(Ok(joined.as_bytes())), Err(NoKey::Repeated));
        }
        host.set_header(b"k", Err(Status::INVALID_MEMORY_ACCESS));
        assert_eq!(read(Ok(b"a,b")), Err(NoKey::TooLong));
        assert_eq!(read(Err(Status::NOT_FOUND)), Err(NoKey::Missing));
        assert_eq!(read(Err(Status::INVALID_MEMORY_ACCESS)), Err(NoKey::TooLong));
        assert_eq!(read(Err(Status(12))), Err(NoKey::Host(Status(12))));
    }
}
