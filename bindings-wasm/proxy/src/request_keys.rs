//! The descriptors that apply to a request, with the values of their entries.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;
use tidegate_core::StoredKey;

use crate::buckets::Seed;
use crate::descriptors::{Descriptor, Descriptors, MAX_ENTRIES};
use crate::host::Host;
use crate::scratch::Scratch;
use crate::source::{NoKey, Source};

/// The descriptors that apply to one request.
pub(crate) struct RequestKeys<'s> {
    /// The values by the places of their sources.
    values: [Value<'s>; MAX_ENTRIES],
    /// A bit for each descriptor that applies.
    applying: u8,
    /// The first source that the request lacks, or that could not be read, so that a descriptor does not
    /// apply.
    pub(crate) missing: Option<Source>,
    /// Whether a descriptor does not apply because a host call failed.
    pub(crate) has_failed: bool,
}

#[derive(Clone, Copy)]
enum Value<'s> {
    Unread,
    Read(StoredKey<'s>),
    Missing,
    NoMatch,
    Failed,
}

/// A source that gives a request no key: the request is refused.
pub(crate) struct BadKey {
    pub(crate) source: Source,
    pub(crate) problem: &'static str,
}

impl<'s> RequestKeys<'s> {
    /// Reads the current request.
    ///
    /// # Errors
    /// An error for a source that is repeated, malformed, or too long to be read.
    #[inline]
    pub(crate) fn read(
        descriptors: &Descriptors,
        host: &'s impl Host,
        scratch: &mut Scratch<'s>,
    ) -> Result<Self, BadKey> {
        let mut keys = Self {
            values: [const { Value::Unread }; MAX_ENTRIES],
            applying: 0,
            missing: None,
            has_failed: false,
        };
        for (place, descriptor) in descriptors.as_slice().iter().enumerate() {
            if keys.read_one(descriptors, descriptor, host, scratch)? {
                keys.applying |= 1 << place;
            }
        }
        Ok(keys)
    }

    /// Reads one descriptor; answers whether it applies.
    fn read_one(
        &mut self,
        descriptors: &Descriptors,
        descriptor: &Descriptor,
        host: &'s impl Host,
        scratch: &mut Scratch<'s>,
    ) -> Result<bool, BadKey> {
        let mut has_entry = false;
        for entry in descriptors.entries(descriptor) {
            let Some(value) = self.values.get_mut(usize::from(entry.source)) else { continue };
            let source = descriptors.source(entry);
            if let Value::Unread = value {
                *value = match source.read(&descriptors.names, host, scratch) {
                    // A key that the service's protocol can carry.
                    Ok(bytes) => Value::Read(StoredKey::text(bytes)),
                    Err(NoKey::Missing) => Value::Missing,
                    Err(NoKey::NoMatch) => Value::NoMatch,
                    Err(NoKey::Host(_)) => Value::Failed,
                    Err(NoKey::Repeated) => return Err(BadKey { source, problem: "is repeated" }),
                    Err(NoKey::Malformed) => {
                        return Err(BadKey { source, problem: "is malformed" });
                    }
                    Err(NoKey::TooLong) => {
                        return Err(BadKey {
                            source,
                            problem: "is longer than 64 KiB less the other headers",
                        });
                    }
                };
            }
            match value {
                Value::Read(_) => has_entry = true,
                Value::Missing if entry.skip_if_absent => {}
                Value::Missing | Value::Failed => {
                    self.has_failed |= matches!(value, Value::Failed);
                    self.missing = self.missing.or(Some(source));
                    return Ok(false);
                }
                Value::NoMatch | Value::Unread => return Ok(false),
            }
        }
        Ok(has_entry)
    }

    /// The descriptors that apply, with their places.
    pub(crate) fn applying<'d>(
        &self,
        descriptors: &'d Descriptors,
    ) -> impl Iterator<Item = (usize, &'d Descriptor)> + Clone + use<'d> {
        let applying = self.applying;
        let all = descriptors.as_slice().iter().enumerate();
        all.filter(move |(place, _)| applying >> place & 1 == 1)
    }

    /// The keys and values of a descriptor's entries that the request has.
    pub(crate) fn entries<'a>(
        &'a self,
        descriptors: &'a Descriptors,
        descriptor: &Descriptor,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        descriptors.entries(descriptor).iter().filter_map(|entry| {
            let value = self.values.get(usize::from(entry.source))?;
            let Value::Read(value) = value else { return None };
            Some((descriptors.names.get(entry.key), value.as_bytes()))
        })
    }

    /// The hash by which the bucket of a descriptor is known in this worker.
    pub(crate) fn fingerprint(
        &self,
        descriptors: &Descriptors,
        descriptor: &Descriptor,
        seed: Seed,
    ) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
        for entry in descriptors.entries(descriptor) {
            // The length keeps `a` and `bc` apart from `ab` and `c`; 0 is an entry that is left out.
            match self.values.get(usize::from(entry.source)) {
                Some(Value::Read(value)) => {
                    let value = value.as_bytes();
                    hasher.write_u32(value.len() as u32 + 1);
                    hasher.write(value);
                }
                _ => hasher.write_u32(0),
            }
        }
        hasher.finish()
    }
}
