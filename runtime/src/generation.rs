//! The number of this process in a line of forks. It is read with every call on a shared store,
//! because a forked child inherits the parent's memory but none of its threads.

use core::sync::atomic::{AtomicU32, Ordering};

use once_cell::race::OnceBox;

/// A number that differs from that of every process this one descends from. After the first
/// call it takes no system call, where the system can tell of a fork.
#[inline]
pub fn generation() -> u32 {
    /// The last number given out in this line of forks. A fork copies it, and the child counts on
    /// from there. A process id would not do, because the system gives it out again.
    static COUNTED: AtomicU32 = AtomicU32::new(0);
    static KNOWN: OnceBox<Option<&'static AtomicU32>> = OnceBox::new();
    let known = KNOWN.get_or_init(|| Box::new(wiped_by_a_fork()));
    let Some(known) = known else { return std::process::id() };
    match known.load(Ordering::Relaxed) {
        0 => {
            let next = COUNTED.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            // Another thread may have stored its number first.
            let first = known.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
            first.map_or_else(|first| first, |_| next)
        }
        known => known,
    }
}

/// A number that is 0 at first, and 0 again in each process that is forked.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn wiped_by_a_fork() -> Option<&'static AtomicU32> {
    use memmap2::{MmapMut, MmapRaw};
    use rustix::mm::{Advice, madvise};

    let map = MmapRaw::from(MmapMut::map_anon(size_of::<AtomicU32>()).ok()?);
    // SAFETY: The pages belong to this function alone. The advice changes them only in processes
    // that are yet to be forked, and there to zeros, which are valid as well.
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
    /// Forks, and ends the child with 0 if `holds` there.
    fn holds_in_a_child(holds: impl FnOnce() -> bool) -> bool {
        // SAFETY: The child calls nothing but what may be called after a fork of many threads.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let held = holds();
            // SAFETY: As above.
            unsafe { libc::_exit(i32::from(!held)) };
        }
        assert!(child > 0, "no child");
        let mut status = -1;
        // SAFETY: The child is this test's own.
        let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
        (ended, status) == (child, 0)
    }

    #[test]
    fn every_generation_of_forks_has_another_number() {
        let parents = super::generation();
        assert!(holds_in_a_child(|| {
            let childs = super::generation();
            let stays = super::generation() == childs;
            stays
                && childs != parents
                && holds_in_a_child(|| {
                    let grandchilds = super::generation();
                    grandchilds != parents && grandchilds != childs
                })
        }));
        assert_eq!(super::generation(), parents);
    }
}
