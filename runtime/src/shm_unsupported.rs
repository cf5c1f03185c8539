use tidegate_core::{Decision, Limit};

use crate::error::Error;

/// `shm://` where there is no such store.
#[derive(Clone, Debug)]
pub(crate) struct ShmOptions;

/// Cannot be.
#[derive(Debug)]
pub(crate) enum SharedTables {}

impl ShmOptions {
    pub(crate) fn parse(_rest: &str) -> Result<Self, Error> {
        Err(Error::argument("store", "shm:// is only to be had on Linux and macOS"))
    }
}

impl SharedTables {
    pub(crate) fn open(_: &ShmOptions, _: &str, _: &[Limit]) -> Result<Self, Error> {
        Err(Error::argument("store", "shm:// is only to be had on Linux and macOS"))
    }

    pub(crate) fn check(&self, _: &[Limit], _: &[u8], _: u64) -> Result<Decision, Error> {
        match *self {}
    }
}
