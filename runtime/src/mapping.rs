//! Slots in mapped pages.

#![allow(unsafe_code)]

#[cfg(any(target_os = "linux", target_os = "macos"))]
use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use tidegate_core::Slot;

/// Slots in pages of their own: those of a file, mapped shared and writable, or anonymous ones.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
    slots: usize,
}

impl Mapping {
    /// New slots of this process. The system clears each page when it is first touched, so this takes
    /// as long for many slots as for few. An allocator, in contrast, may clear memory that it has used
    /// before, all at once.
    pub(crate) fn anonymous(slots: usize) -> io::Result<Self> {
        let length = slots.checked_mul(size_of::<Slot>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { map: MmapMut::map_anon(length)?.into(), slots })
    }

    /// Maps the first `slots` slots of the file, which must be that long.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    pub(crate) fn of_file(file: &File, slots: usize) -> io::Result<Self> {
        let length = slots.checked_mul(size_of::<Slot>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(length).map_raw(file)?;
        Ok(Self { map, slots })
    }

    #[inline]
    pub(crate) fn slots(&self) -> &[Slot] {
        let start = self.map.as_mut_ptr().cast::<Slot>();
        // SAFETY: The mapping is `slots` slots long, readable and writable, starts on a page
        // and lives as long as `self`. A slot is two atomics, for which any bits are valid
        // and which other processes may change at any time; nothing here or there reads
        // or writes these bytes otherwise once they are mapped. Should someone truncate the
        // file in spite of the lock, an access beyond its end stops the process (SIGBUS).
        unsafe { core::slice::from_raw_parts(start, self.slots) }
    }
}
