//! Keys as callers give them, and as Redis stores them.

use core::ops::Deref;

use tidegate_core::StoredKey;

use crate::error::Error;

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 256;

/// Which buckets a call is about: one key for all of a limiter's limits, or exactly
/// one key per limit.
///
/// One key per limit puts buckets of different width under one call: the user's, the
/// organisation's and everybody's, all or nothing. They are buckets of their own, apart
/// from those under a single key (with one limit the two are the same).
///
/// A key may be any bytes, also none. A store knows a long one by its digest, see [`StoredKey`].
///
/// ```
/// use tidegate::Limiter;
/// let limiter = Limiter::builder().limit("10/min").limit("15/min").build()?;
/// let check = |user: &str| limiter.check(&[user.as_bytes(), b"org:7"], 10);
/// assert!(check("user:1")?.allowed);
/// assert!(!check("user:2")?.allowed); // the organisation has 5 left
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys<'k> {
    /// One key for all limits.
    One(&'k [u8]),
    /// One key for each limit, in their order.
    Each(&'k [&'k [u8]]),
}

/// [`Keys`] that outlive the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnedKeys {
    /// One key for all limits.
    One(Box<[u8]>),
    /// One key for each limit, in their order.
    Each(Box<[Box<[u8]>]>),
}

impl<'k> Keys<'k> {
    /// Checks their number. With one limit both forms mean the same bucket,
    /// so only one is left of them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    #[doc(hidden)]
    #[inline]
    pub fn checked(self, limits: usize) -> Result<Self, Error> {
        match self {
            Self::One(_) => Ok(self),
            Self::Each(keys) => Self::each_checked(keys, limits),
        }
    }

    fn each_checked(keys: &'k [&'k [u8]], limits: usize) -> Result<Self, Error> {
        if keys.len() != limits {
            return Err(wrong_count(keys.len(), limits));
        }
        Ok(if let [only] = *keys { Self::One(only) } else { Self::Each(keys) })
    }

    /// The key of the limit at `tier`.
    #[doc(hidden)]
    #[inline]
    pub fn of_tier(self, tier: u8) -> &'k [u8] {
        match self {
            Self::One(key) => key,
            Self::Each(keys) => keys.get(usize::from(tier)).copied().unwrap_or_default(),
        }
    }

    /// The same, to be kept.
    #[doc(hidden)]
    pub fn to_owned(self) -> OwnedKeys {
        match self {
            Self::One(key) => OwnedKeys::One(key.into()),
            Self::Each(keys) => OwnedKeys::Each(keys.iter().map(|&key| key.into()).collect()),
        }
    }

    /// The keys in Redis: one for all tiers, or one per tier, marked with it as no key for
    /// all tiers is. A key may be that of two tiers, and those with a hash tag in common can
    /// be in one slot of a cluster.
    #[doc(hidden)]
    pub fn in_redis(self, prefix: &str) -> RedisKeys {
        match self {
            Self::One(key) => RedisKeys::One(redis_key(prefix, key)),
            Self::Each(keys) => {
                let of_tier = |(tier, key): (usize, &&[u8])| {
                    let mut full = match hash_tag(key) {
                        Some(tag) => {
                            let mut full = redis_key(prefix, tag);
                            full.push(b':');
                            escape_into(&mut full, StoredKey::new(key).as_bytes());
                            full
                        }
                        None => redis_key(prefix, key),
                    };
                    full.extend_from_slice(format!(":{tier}").as_bytes());
                    full
                };
                RedisKeys::Each(keys.iter().enumerate().map(of_tier).collect())
            }
        }
    }
}

/// The keys of an operation in Redis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedisKeys {
    /// The key of a bucket that holds all tiers.
    One(Vec<u8>),
    /// The key of each tier's bucket.
    Each(Vec<Vec<u8>>),
}

impl RedisKeys {
    /// No key.
    pub const NONE: Self = Self::Each(Vec::new());

    /// The first key, which is the only one where there is one for all tiers.
    pub fn into_first(self) -> Vec<u8> {
        match self {
            Self::One(key) => key,
            Self::Each(keys) => keys.into_iter().next().unwrap_or_default(),
        }
    }

    /// The keys beside them that only holds charge, by which waiting callers of other processes see
    /// that a bucket is held. In a bucket that others charge as well, a hold cannot be told from
    /// slots that are reserved. No bucket has such a key: theirs end with a brace or a digit.
    #[must_use]
    pub fn marker(self) -> Self {
        let marked = |mut key: Vec<u8>| {
            key.extend_from_slice(b":hold");
            key
        };
        match self {
            Self::One(key) => Self::One(marked(key)),
            Self::Each(keys) => Self::Each(keys.into_iter().map(marked).collect()),
        }
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Vec<u8>> {
        match self {
            Self::One(key) => vec![key],
            Self::Each(keys) => keys,
        }
    }
}

impl Deref for RedisKeys {
    type Target = [Vec<u8>];

    #[inline]
    fn deref(&self) -> &[Vec<u8>] {
        match self {
            Self::One(key) => core::slice::from_ref(key),
            Self::Each(keys) => keys,
        }
    }
}

impl From<Vec<Vec<u8>>> for RedisKeys {
    fn from(keys: Vec<Vec<u8>>) -> Self {
        Self::Each(keys)
    }
}

impl OwnedKeys {
    /// Calls `use_them` with the keys.
    pub fn lend<R>(&self, use_them: impl FnOnce(Keys<'_>) -> R) -> R {
        match self {
            Self::One(key) => use_them(Keys::One(key)),
            Self::Each(keys) => {
                let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
                use_them(Keys::Each(&keys))
            }
        }
    }
}

impl<'k> From<&'k [u8]> for Keys<'k> {
    #[inline]
    fn from(key: &'k [u8]) -> Self {
        Self::One(key)
    }
}

impl<'k, const N: usize> From<&'k [u8; N]> for Keys<'k> {
    #[inline]
    fn from(key: &'k [u8; N]) -> Self {
        Self::One(key)
    }
}

impl<'k> From<&'k Vec<u8>> for Keys<'k> {
    #[inline]
    fn from(key: &'k Vec<u8>) -> Self {
        Self::One(key)
    }
}

impl<'k> From<&'k str> for Keys<'k> {
    #[inline]
    fn from(key: &'k str) -> Self {
        Self::One(key.as_bytes())
    }
}

impl<'k> From<&'k String> for Keys<'k> {
    #[inline]
    fn from(key: &'k String) -> Self {
        Self::One(key.as_bytes())
    }
}

impl<'k> From<&'k [&'k [u8]]> for Keys<'k> {
    #[inline]
    fn from(keys: &'k [&'k [u8]]) -> Self {
        Self::Each(keys)
    }
}

impl<'k, const N: usize> From<&'k [&'k [u8]; N]> for Keys<'k> {
    #[inline]
    fn from(keys: &'k [&'k [u8]; N]) -> Self {
        Self::Each(keys)
    }
}

impl<'k> From<&'k Vec<&'k [u8]>> for Keys<'k> {
    #[inline]
    fn from(keys: &'k Vec<&'k [u8]>) -> Self {
        Self::Each(keys)
    }
}

#[cold]
fn wrong_count(count: usize, limits: usize) -> Error {
    let message = format!("it must be one key, or one for each limit ({limits}), but has {count}");
    Error::argument("key", message)
}

/// Checks a prefix.
///
/// # Errors
/// [`Error::InvalidArgument`] for one that is empty or too long.
pub fn check_prefix(prefix: &str) -> Result<&str, Error> {
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
/// different pairs never share a key; other bytes stand as they are. The empty key becomes `%`,
/// which no other key does: between empty braces there would be no hash tag.
fn redis_key(prefix: &str, key: &[u8]) -> Vec<u8> {
    let stored = StoredKey::new(key);
    let key = stored.as_bytes();
    let mut full = Vec::with_capacity(prefix.len() + key.len() + 3);
    escape_into(&mut full, prefix.as_bytes());
    full.extend_from_slice(b":{");
    if key.is_empty() {
        full.push(b'%');
    }
    escape_into(&mut full, key);
    full.push(b'}');
    full
}

/// What stands between the first `{` and the next `}`, unless that is nothing.
pub fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let length = rest.iter().position(|byte| *byte == b'}').filter(|length| *length > 0)?;
    rest.get(..length)
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

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may stop")]
mod tests {
    use super::*;

    fn in_redis(keys: &[&[u8]]) -> Vec<String> {
        let text = |key| String::from_utf8(key).expect("UTF-8");
        Keys::Each(keys).in_redis("p").into_vec().into_iter().map(text).collect()
    }

    #[test]
    fn keys_of_one_hash_tag_share_it_and_nothing_else() {
        assert_eq!(in_redis(&[b"user:1", b"org"]), ["p:{user:1}:0", "p:{org}:1"]);
        assert_eq!(
            in_redis(&[b"{org:7}user:1", b"{org:7}"]),
            ["p:{org:7}:%7Borg:7%7Duser:1:0", "p:{org:7}:%7Borg:7%7D:1"],
        );
        for (plain, same) in [("{}x", "%7B%7Dx"), ("{x", "%7Bx"), ("}x{", "%7Dx%7B")] {
            assert_eq!(in_redis(&[plain.as_bytes(), b"y"])[0], format!("p:{{{same}}}:0"));
        }
        assert_eq!(in_redis(&[b"", b"%"]), ["p:{%}:0", "p:{%25}:1"]);
        let long = [b"{org:7}", &[b'u'; 2000][..]].concat();
        let stored = in_redis(&[&long, b"{org:7}"]);
        assert!(stored[0].starts_with("p:{org:7}:sha256:") && stored[0].len() < 100, "{stored:?}");
    }
}
