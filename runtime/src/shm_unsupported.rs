//! The substitute for `shm://` on systems that do not have it, and in builds without the feature `shm`.

use core::fmt;

use tidegate_core::Limit;

use crate::Error;
use crate::clock::ProcessClock;
use crate::memory::Levels;
use crate::pressure::Pressure;
use crate::tables::KeyedTables;

/// `shm://` where there is no such store.
#[derive(Clone, Debug)]
pub(crate) struct ShmOptions;

/// The tables of a store that there is not, so that no value of this type exists.
#[derive(Debug)]
pub(crate) enum SharedTables {}

impl fmt::Display for ShmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shm://")
    }
}

impl ShmOptions {
    pub(crate) fn parse(_rest: &str) -> Result<Self, Error> {
        Err(unsupported())
    }
}

impl SharedTables {
    pub(crate) fn open(_: &ShmOptions, _: &str, _: &[Limit]) -> Result<Self, Error> {
        Err(unsupported())
    }

    pub(crate) fn tables(&self) -> &KeyedTables<Levels, ProcessClock> {
        match *self {}
    }

    pub(crate) fn pressure(&self) -> Pressure {
        match *self {}
    }
}

fn unsupported() -> Error {
    Error::argument(
        "store",
        "shm:// needs Linux or macOS, and the feature \"shm\" of the crate tidegate",
    )
}
