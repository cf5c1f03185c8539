//! The first page of the file. It is complete from the moment when the file has its name. After that
//! only the counters change.

use core::fmt;

use tidegate_core::{Limit, MAX_TIERS, OnFull, Slot, Timeline};

use super::host::Host;
use super::options::{ShmOptions, slots_for};
use crate::fingerprint::Fingerprinter;

const MAGIC: u64 = u64::from_ne_bytes(*b"tidegate");
/// The version of the format, raised when the meaning of any byte of the file changes.
const VERSION: u64 = 1;
/// The text on which the hash of keys is tried, at lengths that cover each of its code paths.
const HASHED: &[u8] = b"a tide gate lets the river out and keeps the sea from coming in; \
    it has done so, with one hinge, for some two thousand years";

/// The page's length in bytes, in slots, and in words.
pub(super) const PAGE: usize = 4096;
pub(super) const SLOTS: usize = PAGE / size_of::<Slot>();
const WORDS: usize = PAGE / size_of::<u64>();
/// Room for the longest prefix, 256 bytes.
const PREFIX_WORDS: usize = 256 / size_of::<u64>();

/// The places of the words in the page.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    /// The checksum of the words from `TIERS` to `END`.
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const TIERS: usize = 3;
    pub(super) const SLOTS: usize = 4;
    pub(super) const MAX_KEYS: usize = 5;
    pub(super) const ON_FULL: usize = 6;
    pub(super) const SEED: usize = 7;
    pub(super) const HASH_CHECK: usize = 9;
    pub(super) const BOOT: usize = 10;
    pub(super) const TIME_NAMESPACE: usize = 12;
    pub(super) const CLOCK_OFFSET: usize = 13;
    pub(super) const PREFIX_LENGTH: usize = 14;
    pub(super) const LIMITS: usize = 16;
    pub(super) const PREFIX: usize = 32;
    pub(super) const END: usize = 64;
}

/// The slots whose first words are the counters. Each is in a cache line of its own.
pub(super) const EVICTED: usize = 128;
pub(super) const DENIED: usize = 136;

/// What tells the files of one name apart: the prefix and the limits of their buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) prefix: String,
    pub(super) tiers: Vec<Tier>,
}

/// The properties of a limit that give its cells their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tier {
    pub(super) timeline: Timeline,
    pub(super) burst: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) identity: Identity,
    pub(super) max_keys: u64,
    pub(super) on_full: OnFull,
    pub(super) seed: [u64; 2],
    pub(super) host: Host,
    /// The offset from the host's monotonic clock to the Unix epoch when the file was made.
    pub(super) clock_offset: u64,
}

/// Why this build cannot use a page as a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Foreign,
    Version(u64),
    Damaged,
    OtherHash,
}

impl Identity {
    pub(super) fn new(prefix: &str, limits: &[Limit]) -> Self {
        let tier = |limit: &Limit| Tier { timeline: limit.timeline(), burst: limit.burst() };
        Self { prefix: prefix.to_owned(), tiers: limits.iter().map(tier).collect() }
    }

    /// The hash in the file's name, the same in every build.
    pub(super) fn hash(&self) -> u64 {
        let words = self.tiers.iter().flat_map(|tier| tier.words());
        fnv1a(words.flat_map(u64::to_le_bytes).chain(self.prefix.bytes()))
    }
}

impl Tier {
    fn words(&self) -> [u64; 4] {
        match self.timeline {
            Timeline::Smooth { width } => [1, width, 0, self.burst],
            Timeline::Stepped { tokens, period } => [2, tokens, period, self.burst],
        }
    }

    fn from_words([shape, first, second, burst]: [u64; 4]) -> Option<Self> {
        let timeline = match (shape, first, second) {
            (1, 1.., 0) => Timeline::Smooth { width: first },
            (2, 1.., 1..) => Timeline::Stepped { tokens: first, period: second },
            _ => return None,
        };
        Some(Self { timeline, burst })
    }
}

impl Header {
    /// The header of a new file.
    pub(super) fn new(
        identity: Identity,
        options: &ShmOptions,
        host: Host,
        clock_offset: u64,
        seed: [u64; 2],
    ) -> Self {
        let ShmOptions { max_keys, on_full, .. } = *options;
        Self { identity, max_keys, on_full, seed, host, clock_offset }
    }

    /// How many slots each tier has.
    pub(super) fn slots(&self) -> usize {
        usize::try_from(slots_for(self.max_keys)).unwrap_or(usize::MAX)
    }

    /// The length of the whole file, in slots.
    pub(super) fn all_slots(&self) -> usize {
        self.slots().saturating_mul(self.identity.tiers.len()).saturating_add(SLOTS)
    }

    /// The length of the whole file, in bytes.
    pub(super) fn file_length(&self) -> u64 {
        (self.all_slots() as u64).saturating_mul(size_of::<Slot>() as u64)
    }

    pub(super) fn encode(&self) -> [u8; PAGE] {
        let mut words = [0; WORDS];
        words[at::MAGIC] = MAGIC;
        words[at::VERSION] = VERSION;
        words[at::TIERS] = self.identity.tiers.len() as u64;
        words[at::SLOTS] = slots_for(self.max_keys);
        words[at::MAX_KEYS] = self.max_keys;
        words[at::ON_FULL] = match self.on_full {
            OnFull::Deny => 1,
            OnFull::EvictIdlest => 2,
        };
        words[at::SEED..][..2].copy_from_slice(&self.seed);
        words[at::HASH_CHECK] = Fingerprinter::new(self.seed).of(HASHED);
        words[at::BOOT..][..2].copy_from_slice(&self.host.boot);
        words[at::TIME_NAMESPACE] = self.host.time_namespace;
        words[at::CLOCK_OFFSET] = self.clock_offset;
        let prefix = self.identity.prefix.as_bytes();
        words[at::PREFIX_LENGTH] = prefix.len() as u64;
        for (words, tier) in words[at::LIMITS..].chunks_exact_mut(4).zip(&self.identity.tiers) {
            words.copy_from_slice(&tier.words());
        }
        for (word, bytes) in words[at::PREFIX..at::END].iter_mut().zip(prefix.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        words[at::CHECKSUM] = checksum(&words);
        let mut page = [0; PAGE];
        for (bytes, word) in page.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        page
    }

    pub(super) fn decode(page: &[u8; PAGE]) -> Result<Self, Unfit> {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(page.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        if words[at::MAGIC] != MAGIC {
            return Err(Unfit::Foreign);
        }
        if words[at::VERSION] != VERSION {
            return Err(Unfit::Version(words[at::VERSION]));
        }
        if words[at::CHECKSUM] != checksum(&words) {
            return Err(Unfit::Damaged);
        }
        let header = Self::read(&words).ok_or(Unfit::Damaged)?;
        if Fingerprinter::new(header.seed).of(HASHED) != words[at::HASH_CHECK] {
            return Err(Unfit::OtherHash);
        }
        Ok(header)
    }

    /// `None` for values that no header has.
    fn read(words: &[u64; WORDS]) -> Option<Self> {
        let count = usize::try_from(words[at::TIERS]).ok()?;
        let max_keys = words[at::MAX_KEYS];
        if !(1..=MAX_TIERS).contains(&count)
            || !ShmOptions::is_key_count(max_keys)
            || words[at::SLOTS] != slots_for(max_keys)
        {
            return None;
        }
        let limits = words[at::LIMITS..].as_chunks::<4>().0;
        let tiers = limits.iter().take(count).map(|words| Tier::from_words(*words));
        let prefix: Vec<u8> = words[at::PREFIX..][..PREFIX_WORDS]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let prefix = prefix.get(..usize::try_from(words[at::PREFIX_LENGTH]).ok()?)?;
        Some(Self {
            identity: Identity {
                prefix: core::str::from_utf8(prefix).ok()?.to_owned(),
                tiers: tiers.collect::<Option<_>>()?,
            },
            max_keys,
            on_full: match words[at::ON_FULL] {
                1 => OnFull::Deny,
                2 => OnFull::EvictIdlest,
                _ => return None,
            },
            seed: [words[at::SEED], words[at::SEED + 1]],
            host: Host {
                boot: [words[at::BOOT], words[at::BOOT + 1]],
                time_namespace: words[at::TIME_NAMESPACE],
            },
            clock_offset: words[at::CLOCK_OFFSET],
        })
    }
}

fn checksum(words: &[u64; WORDS]) -> u64 {
    fnv1a(words[at::TIERS..at::END].iter().flat_map(|word| word.to_ne_bytes()))
}

/// The hash FNV-1a. It does not protect against an attacker, who could write any file anyway.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is not a file of Tidegate's"),
            Self::Version(version) => {
                write!(f, "its format is version {version}, but this Tidegate's is {VERSION}")
            }
            Self::Damaged => f.write_str("its header is damaged"),
            Self::OtherHash => {
                f.write_str("it was made by a build of Tidegate that hashes keys differently")
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    fn header() -> Header {
        let limits = ["10/s", "100/min burst 300 stepped", "1000/d window"];
        let limits = limits.map(|text| Limit::parse(text).unwrap());
        Header {
            identity: Identity::new("tidegate: é", &limits),
            max_keys: 1_000,
            on_full: OnFull::Deny,
            seed: [3, 4],
            host: Host { boot: [5, 6], time_namespace: 7 },
            clock_offset: 8,
        }
    }

    fn decode_with(change: impl FnOnce(&mut [u8; PAGE]), sum: bool) -> Result<Header, Unfit> {
        let mut page = header().encode();
        change(&mut page);
        if sum {
            let mut words = [0; WORDS];
            for (word, bytes) in words.iter_mut().zip(page.as_chunks::<8>().0) {
                *word = u64::from_ne_bytes(*bytes);
            }
            set(&mut page, at::CHECKSUM, checksum(&words));
        }
        Header::decode(&page)
    }

    fn set(page: &mut [u8; PAGE], word: usize, value: u64) {
        page[word * 8..][..8].copy_from_slice(&value.to_ne_bytes());
    }

    #[test]
    fn reads_what_it_wrote() {
        let read = Header::decode(&header().encode()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", header()));
        assert_eq!(read.file_length(), 4096 + 3 * 1_432 * 16);
    }

    #[test]
    fn every_bit_but_the_counters_counts() {
        for bit in 0..at::END * 64 {
            let decoded = decode_with(|page| page[bit / 8] ^= 1 << (bit % 8), false);
            assert!(decoded.is_err(), "bit {bit}");
        }
        let counted = decode_with(|page| page[EVICTED * 16] = 1, false);
        assert!(counted.is_ok());
    }

    #[test]
    fn says_why_a_page_is_unfit() {
        let unfit = |word, value| decode_with(|page| set(page, word, value), true).unwrap_err();
        assert_eq!(unfit(at::MAGIC, 0), Unfit::Foreign);
        assert_eq!(unfit(at::VERSION, 2), Unfit::Version(2));
        assert_eq!(unfit(at::HASH_CHECK, 1), Unfit::OtherHash);
        for (word, value) in [
            (at::TIERS, 0),
            (at::TIERS, 5),
            (at::SLOTS, 8),
            (at::MAX_KEYS, 0),
            (at::MAX_KEYS, u64::MAX),
            (at::ON_FULL, 3),
            (at::PREFIX_LENGTH, 257),
            (at::LIMITS, 3),
        ] {
            assert_eq!(unfit(word, value), Unfit::Damaged, "word {word}");
        }
        assert_eq!(decode_with(|page| page.fill(0), false).unwrap_err(), Unfit::Foreign);
    }

    #[test]
    fn limits_and_prefix_make_the_identity() {
        let of = |prefix, limit| Identity::new(prefix, &[Limit::parse(limit).unwrap()]).hash();
        // Every build must agree on this, because it is part of the file's name.
        assert_eq!(of("tidegate", "10/s"), 0xe7d8_49b5_acf5_d228);
        assert_eq!(of("tidegate", "10/s"), of("tidegate", "600/min burst 10"));
        assert_ne!(of("tidegate", "10/s"), of("tidegate", "10/s burst 11"));
        assert_ne!(of("tidegate", "10/s"), of("tidegat", "10/s"));
        assert_ne!(of("tidegate", "10/s"), of("tidegate", "10/s window"));
    }
}
