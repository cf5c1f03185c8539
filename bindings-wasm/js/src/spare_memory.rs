//! Whether the module has memory left, which is asked before it is needed: a module without traps.

/// Whether there is memory for what a call needs beside slots. Where an allocation cannot fail
/// gracefully, this is asked first.
pub(crate) fn has_memory() -> bool {
    let before = module_bytes();
    if !can_allocate(NEEDED_BYTES) {
        return false;
    }
    if module_bytes() > before {
        // A module that grows by a little for every few limiters would make the host collect garbage
        // each time, because the host counts all of its memory anew.
        can_allocate((before / 4).min(MOST_AHEAD_BYTES));
    }
    true
}

/// More than a limiter, a waiting caller or a message takes.
const NEEDED_BYTES: usize = 64 * 1024;
/// The most by which the module grows ahead of its need.
const MOST_AHEAD_BYTES: usize = 16 << 20;

/// Allocates this much for a moment. What the allocator then has is left to other allocations.
fn can_allocate(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    // The optimiser must not leave the allocation out.
    core::hint::black_box(&mut probe).try_reserve_exact(bytes).is_ok()
}

#[cfg(target_family = "wasm")]
fn module_bytes() -> usize {
    const PAGE_BYTES: usize = 64 * 1024;
    core::arch::wasm32::memory_size::<0>().saturating_mul(PAGE_BYTES)
}

#[cfg(not(target_family = "wasm"))]
fn module_bytes() -> usize {
    0
}
