//! The shared-memory store between real processes: this test binary runs itself again for each.
#![cfg(any(target_os = "linux", target_os = "macos"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

mod creation;
mod fork;
mod kills;
mod processes;
mod refusals;
mod replacement;
mod sharing;
