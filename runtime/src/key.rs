use crate::error::Error;

/// The longest key, in bytes.
pub(crate) const MAX_KEY: usize = 1024;
/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 256;

/// Checks the length of a bucket's key.
pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        length => Err(Error::argument(
            "key",
            format!("it must be 1 to {MAX_KEY} bytes long, but has {length}"),
        )),
    }
}

/// Checks a prefix.
pub(crate) fn check_prefix(prefix: &str) -> Result<&str, Error> {
    match prefix.len() {
        1..=MAX_PREFIX => Ok(prefix),
        length => Err(Error::argument(
            "prefix",
            format!("it must be 1 to {MAX_PREFIX} bytes long, but has {length}"),
        )),
    }
}

/// The key of a shared bucket in Redis: `prefix:{key}`.
///
/// The braces are the hash tag that keeps whatever belongs to one bucket on one
/// node of a cluster. `%`, `{` and `}` inside either part are percent-escaped, so
/// different pairs never share a key; other bytes stand as they are.
pub(crate) fn redis_key(prefix: &str, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(prefix.len() + key.len() + 3);
    escape_into(&mut full, prefix.as_bytes());
    full.extend_from_slice(b":{");
    escape_into(&mut full, key);
    full.push(b'}');
    full
}

fn escape_into(full: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        match byte {
            b'%' => full.extend_from_slice(b"%25"),
            b'{' => full.extend_from_slice(b"%7B"),
            b'}' => full.extend_from_slice(b"%7D"),
            byte => full.push(byte),
        }
    }
}
