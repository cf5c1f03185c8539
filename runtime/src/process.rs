//! Which process this is: looked at with every call, as a fork inherits no I/O thread.

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;

/// The process's number. After the first time it takes no system call, where the system can
/// tell of a fork.
#[inline]
pub(crate) fn id() -> u32 {
    static KNOWN: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    let Some(known) = KNOWN.get_or_init(wiped_by_a_fork) else { return std::process::id() };
    match known.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            known.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// A number that is 0 at first, and again in each process that is forked.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn wiped_by_a_fork() -> Option<&'static AtomicU32> {
    use memmap2::{MmapMut, MmapRaw};
    use rustix::mm::{Advice, madvise};

    let map = MmapRaw::from(MmapMut::map_anon(size_of::<AtomicU32>()).ok()?);
    // SAFETY: The pages are this function's own, and what is said of them changes them only
    // in a process yet to be forked, to bits that are as valid.
    unsafe { madvise(map.as_mut_ptr().cast(), map.len(), Advice::LinuxWipeOnFork) }.ok()?;
    let start = map.as_mut_ptr().cast();
    core::mem::forget(map);
    // SAFETY: The mapping is long enough, begins on a page, is never unmapped, and nothing
    // else reads or writes it.
    Some(unsafe { AtomicU32::from_ptr(start) })
}

#[cfg(not(target_os = "linux"))]
fn wiped_by_a_fork() -> Option<&'static AtomicU32> {
    None
}

#[cfg(all(test, unix))]
#[allow(unsafe_code, reason = "only the C library forks")]
mod tests {
    #[test]
    fn a_fork_is_another_process() {
        let parent = super::id();
        assert_eq!(parent, std::process::id());
        // SAFETY: The child calls nothing but what may be called after a fork of many threads.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let told = super::id();
            let right = told == std::process::id() && told != parent;
            // SAFETY: As above.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        assert!(child > 0, "no child");
        let mut status = -1;
        // SAFETY: The child is this test's own.
        let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((ended, status), (child, 0));
        assert_eq!(super::id(), parent);
    }
}
