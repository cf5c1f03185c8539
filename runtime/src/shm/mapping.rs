#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};
use tidegate_core::Slot;

/// A whole file, mapped shared and writable, as slots.
#[derive(Debug)]
pub(super) struct Mapping {
    map: MmapRaw,
    slots: usize,
}

impl Mapping {
    /// Maps the file's first `slots` slots, which it must have.
    pub(super) fn new(file: &File, slots: usize) -> io::Result<Self> {
        let length = slots.checked_mul(size_of::<Slot>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(length).map_raw(file)?;
        Ok(Self { map, slots })
    }

    #[inline]
    pub(super) fn slots(&self) -> &[Slot] {
        let start = self.map.as_mut_ptr().cast::<Slot>();
        // SAFETY: The mapping is `slots` slots long, readable and writable, starts on a page
        // and lives as long as `self`. A slot is two atomics, for which any bits are valid
        // and which other processes may change at any time; nothing here or there reads
        // or writes these bytes otherwise once they are mapped. Should someone truncate the
        // file in spite of the lock, an access beyond its end stops the process (SIGBUS).
        unsafe { core::slice::from_raw_parts(start, self.slots) }
    }
}
