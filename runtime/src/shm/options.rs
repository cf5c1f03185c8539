//! The URL `shm://`.

use core::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use tidegate_core::OnFull;

use crate::{Error, bounds};

/// The longest name, in bytes. Escaped, it still fits in a file name.
const MAX_NAME: usize = 64;
/// The most keys: 2.3 GB for each limit.
const MAX_KEYS: u64 = bounds::MAX_KEYS as u64;
const DEFAULT_MAX_KEYS: u64 = 100_000;

/// The parts of a URL `shm://name?max_keys=...&mode=...&on_full=...&dir=...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShmOptions {
    /// The escaped name: letters, digits, `_`, `-` and `%`.
    pub(super) name: String,
    pub(super) directory: PathBuf,
    pub(super) max_keys: u64,
    /// The permission bits of the file.
    pub(super) mode: u32,
    pub(super) on_full: OnFull,
}

impl ShmOptions {
    /// Parses what follows `shm://`.
    pub(crate) fn parse(rest: &str) -> Result<Self, Error> {
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        let name = unescape(name)?;
        if !(1..=MAX_NAME).contains(&name.len()) {
            return Err(mistake(format!(
                "the name after shm:// must be 1 to {MAX_NAME} bytes long, but has {}",
                name.len()
            )));
        }
        let mut options = Self {
            name: escape(&name),
            directory: default_directory(),
            max_keys: DEFAULT_MAX_KEYS,
            mode: 0o600,
            on_full: OnFull::default(),
        };
        let mut seen = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&option) {
                return Err(mistake(format!("the option {option:?} is given twice")));
            }
            seen.push(option);
            options.set(option, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), Error> {
        match option {
            "max_keys" => {
                let number = value.parse().ok().filter(|&keys| Self::is_key_count(keys));
                self.max_keys = number.ok_or_else(|| {
                    mistake(format!("max_keys must be 1 to {MAX_KEYS}, but is {value:?}"))
                })?;
            }
            "mode" => {
                self.mode = match value.trim_start_matches('0') {
                    "600" => 0o600,
                    "660" => 0o660,
                    "666" => 0o666,
                    _ => {
                        let message = format!("mode must be 600, 660 or 666, but is {value:?}");
                        return Err(mistake(message));
                    }
                };
            }
            "on_full" => {
                self.on_full = OnFull::parse(value).ok_or_else(|| {
                    mistake(format!("on_full must be deny or evict_idlest, but is {value:?}"))
                })?;
            }
            "dir" => {
                let path = String::from_utf8(unescape(value)?).ok().map(PathBuf::from);
                self.directory = path.filter(|path| path.is_absolute()).ok_or_else(|| {
                    mistake(format!("dir must be an absolute path, but is {value:?}"))
                })?;
            }
            _ => {
                let message = format!(
                    "{option:?} is not an option of shm://; there are max_keys, mode, on_full and dir"
                );
                return Err(mistake(message));
            }
        }
        Ok(())
    }

    pub(super) fn is_key_count(count: u64) -> bool {
        (1..=MAX_KEYS).contains(&count)
    }
}

impl fmt::Display for ShmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shm://{}", self.name)
    }
}

/// How many slots each limit has: seven in ten hold a key when the table is full.
pub(super) fn slots_for(max_keys: u64) -> u64 {
    (max_keys * 10).div_ceil(7).next_multiple_of(tidegate_core::WINDOW as u64)
}

/// The default directory: on Linux a file system in memory, elsewhere the user's directory for
/// temporary files.
fn default_directory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if cfg!(target_os = "linux") && shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// The bytes of a name that are escaped: all but letters, digits, `_` and `-`. So no escaped name
/// has a dot, which separates the parts of the file name.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// Escapes a name. Different names have different escaped forms.
fn escape(name: &[u8]) -> String {
    percent_encode(name, ESCAPED).to_string()
}

fn unescape(text: &str) -> Result<Vec<u8>, Error> {
    let is_escape = |(at, _): (usize, &str)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.match_indices('%').all(is_escape) {
        return Err(mistake("after a % there must be two hexadecimal digits"));
    }
    Ok(percent_decode_str(text).collect())
}

fn mistake(message: impl Into<String>) -> Error {
    Error::argument("store", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_has_the_defaults() -> Result<(), Error> {
        let options = ShmOptions::parse("api")?;
        assert_eq!(
            (options.name.as_str(), options.max_keys, options.mode),
            ("api", 100_000, 0o600)
        );
        assert_eq!(options.on_full, OnFull::EvictIdlest);
        assert_eq!(slots_for(options.max_keys), 142_864);
        Ok(())
    }

    #[test]
    fn every_option_is_read() -> Result<(), Error> {
        let options =
            ShmOptions::parse("a%2Fb?max_keys=7&mode=0660&on_full=deny&dir=/var/lib%20x")?;
        assert_eq!((options.name.as_str(), options.max_keys, options.mode), ("a%2Fb", 7, 0o660));
        assert_eq!(options.on_full, OnFull::Deny);
        assert_eq!(options.directory, PathBuf::from("/var/lib x"));
        assert_eq!(slots_for(options.max_keys), 16);
        Ok(())
    }

    #[test]
    fn mistakes_name_their_bound() {
        let long = "n".repeat(65);
        for (rest, bound) in [
            ("", "1 to 64 bytes"),
            (long.as_str(), "1 to 64 bytes"),
            ("a?max_keys=0", "1 to 100000000"),
            ("a?max_keys=100000001", "1 to 100000000"),
            ("a?max_keys=many", "1 to 100000000"),
            ("a?mode=644", "600, 660 or 666"),
            ("a?mode=", "600, 660 or 666"),
            ("a?on_full=drop", "deny or evict_idlest"),
            ("a?dir=relative", "absolute path"),
            ("a?dir=", "absolute path"),
            ("a?size=3", "max_keys, mode, on_full and dir"),
            ("a?mode=600&mode=600", "twice"),
            ("a%2", "two hexadecimal digits"),
            ("a%+1", "two hexadecimal digits"),
        ] {
            let message =
                ShmOptions::parse(rest).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(message.contains(bound), "{rest}: {message}");
        }
    }

    #[test]
    fn names_stay_inside_the_directory_and_apart() {
        assert_eq!(escape(b"../x"), "%2E%2E%2Fx");
        assert_ne!(escape(b"a.b"), escape(b"a%2Eb"));
    }
}
