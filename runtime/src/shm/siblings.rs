//! Removes files that nobody uses any more.

use core::sync::atomic::Ordering;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::geteuid;
use tidegate_core::Clock as _;

use super::clock::ShmClock;
use super::file::{OpenFile, is_named, name_stem, open_existing, read_header, retire};
use super::header::{Header, SLOTS};
use super::host::{Counting, Host};
use crate::mapping::Mapping;

/// Unlinks this user's other files of the same name that nobody has open and whose buckets are all
/// full. Limits that are no longer used leave such files, and nothing is lost with them. A file that
/// cannot be unlinked stays.
pub(super) fn unlink_spent(kept: &OpenFile, name: &str) {
    let Some(directory) = kept.path.parent() else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    let stem = name_stem(name);
    for path in entries.flatten().map(|entry| entry.path()) {
        let file_name = path.file_name().and_then(|name| name.to_str());
        if path != kept.path && file_name.is_some_and(|name| name.starts_with(&stem)) {
            if is_unfinished(&path) && is_named(&kept.file, &path) {
                // The maker of the kept file has ended, because its lock would exclude ours.
                let _ = fs::remove_file(&path);
            }
            unlink_if_spent(&path);
        }
    }
}

fn unlink_if_spent(path: &Path) {
    let Ok(file) = open_existing(path) else { return };
    let is_own =
        file.metadata().is_ok_and(|found| found.is_file() && found.uid() == geteuid().as_raw());
    if is_own {
        let _ = retire(&file, path, || is_unfinished(path) || owes_nothing(&file));
    }
}

/// Whether the file was left by a process that was killed while it made it.
fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "new")
}

fn owes_nothing(file: &File) -> bool {
    let Ok(header) = read_header(file) else { return false };
    // While we hold the lock, no process of this boot has the file open.
    if header.host.counting(header.clock_offset, &Host::current()) != Counting::Alike {
        return true;
    }
    Mapping::of_file(file, header.all_slots())
        .is_ok_and(|mapping| is_full_of_tokens(&header, &mapping))
}

fn is_full_of_tokens(header: &Header, mapping: &Mapping) -> bool {
    let now = ShmClock::new(header.clock_offset).now();
    let tables = mapping.slots().get(SLOTS..).unwrap_or(&[]);
    let tables = tables.chunks(header.slots().max(1));
    header.identity.tiers.iter().zip(tables).all(|(tier, slots)| {
        let position = tier.timeline.position(now);
        slots.iter().all(|[_, cell]| cell.load(Ordering::Relaxed) <= position)
    })
}
