use tidegate_core::{Clock, Limit, Segments, Slot};

use crate::error::Error;
use crate::pressure::Pressure;
use crate::tables::KeyedTables;

/// `shm://` where there is no such store.
#[derive(Clone, Debug)]
pub(crate) struct ShmOptions;

/// Cannot be.
pub(crate) type SharedTables = KeyedTables<Never, Never>;

#[derive(Debug)]
pub(crate) enum Never {}

impl ShmOptions {
    pub(crate) fn parse(_: &str) -> Result<Self, Error> {
        Err(Error::argument("store", "shm:// is only to be had on Linux and macOS"))
    }
}

impl SharedTables {
    pub(crate) fn open(_: &ShmOptions, _: &str, _: &[Limit]) -> Result<Self, Error> {
        Err(Error::argument("store", "shm:// is only to be had on Linux and macOS"))
    }

    pub(crate) fn pressure(&self) -> Pressure {
        match self.clock {}
    }
}

impl Segments for Never {
    fn count(&self) -> usize {
        match *self {}
    }

    fn segment(&self, _: usize) -> &[Slot] {
        match *self {}
    }
}

impl Clock for Never {
    fn now(&self) -> u64 {
        match *self {}
    }
}
