//! A warm limiter's calls allocate nothing, neither in memory nor in a shared file.
//!
//! There is one test, in a process of its own, because the allocations of another one would count too.

#![allow(clippy::panic, reason = "how a test fails")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::error::Error;
use core::time::Duration;
use std::alloc::System;

use tidegate::{Limiter, OnFull};

/// The system's allocator, and how often this thread asked it for memory.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is about to end has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

#[allow(unsafe_code, reason = "an allocator")]
// SAFETY: Every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: The caller keeps the contract of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: The caller keeps the contract of the system's allocator.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: The caller keeps the contract of the system's allocator.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: The caller keeps the contract of the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<R>(call: impl FnOnce() -> R) -> (usize, R) {
    let before = COUNT.get();
    let answer = call();
    (COUNT.get() - before, answer)
}

type Tested = Result<(), Box<dyn Error>>;

/// The room for this number of keys comes in several segments; see `runtime/src/memory/levels.rs`.
const MAX_KEYS: usize = 20_000;

#[test]
fn a_warm_limiter_allocates_nothing() -> Tested {
    let (counted, boxed) = allocations(|| Box::new(7u8));
    assert_eq!((counted, *boxed), (1, 7), "the counter counts");
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    let directory = Directory::new()?;
    for limits in [&["100/h"][..], &["100/h", "150/h"]] {
        let builder =
            || limits.iter().fold(Limiter::builder(), |builder, text| builder.limit(text));
        let memory = || builder().max_keys(MAX_KEYS);
        calls_allocate_nothing(&memory().build()?, limits)?;
        new_keys_allocate_nothing(&memory().build()?)?;
        let crowded = memory().max_keys(16).on_full(OnFull::Deny).build()?;
        keys_without_room_allocate_nothing(&crowded)?;
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        {
            let shared = |name: &str| builder().store_url(&directory.url(name)).build();
            calls_allocate_nothing(&shared(&format!("known-{}", limits.len()))?, limits)?;
            let growing = shared(&format!("new-{}", limits.len()))?;
            new_keys_allocate_nothing(&growing)?;
        }
    }
    Ok(())
}

/// Calls on keys that have a bucket already.
fn calls_allocate_nothing(limiter: &Limiter, limits: &[&str]) -> Tested {
    limiter.check("key", 1)?;
    let none = |what: &str, counted: usize| assert_eq!(counted, 0, "{what}, limits: {limits:?}");

    let (counted, decision) = allocations(|| limiter.check("key", 1));
    assert!(decision?.allowed);
    none("an allowed check", counted);
    let (counted, decision) = allocations(|| limiter.check("key", 0));
    assert_eq!(decision?.remaining, 98);
    none("a check of cost 0", counted);
    let (counted, decision) = allocations(|| limiter.peek("key", 1));
    assert_eq!(decision?.remaining, 97);
    none("a peek", counted);
    let (counted, decision) = allocations(|| limiter.check("key", 99));
    assert!(!decision?.allowed);
    none("a refused check", counted);
    let keys: Vec<&[u8]> = limits.iter().map(|limit| limit.as_bytes()).collect();
    let (counted, decision) = allocations(|| limiter.check(&keys, 1));
    assert!(decision?.allowed);
    none("a check of a key for each limit, new ones", counted);

    let (counted, decision) = allocations(|| limiter.credit("key", 1));
    assert_eq!(decision?.remaining, 99);
    none("a credit", counted);
    let (counted, decision) = allocations(|| limiter.settle("key", 1, 3));
    assert_eq!(decision?.remaining, 97);
    none("a settlement", counted);
    let (counted, decision) = allocations(|| limiter.hold("key", Duration::from_secs(60)));
    assert_eq!(decision?.remaining, 0);
    none("a hold", counted);
    let (counted, decision) = allocations(|| limiter.reset("key"));
    assert_eq!(decision?.remaining, 100);
    none("a reset", counted);

    let checks = [("key", 1); 200];
    let (counted, decisions) = allocations(|| limiter.check_many(checks));
    assert_eq!(decisions?.iter().filter(|decision| decision.allowed).count(), 100);
    assert!(counted <= 2, "{counted} allocations of 200 checks at once, limits: {limits:?}");
    Ok(())
}

/// Ten thousand new keys, whose room comes in mapped segments and not from the allocator.
fn new_keys_allocate_nothing(limiter: &Limiter) -> Tested {
    let keys: Vec<String> = (0..10_000).map(|number| format!("new {number}")).collect();
    limiter.check("first", 1)?;
    let (counted, allowed) = allocations(|| {
        keys.iter().filter(|key| limiter.check(*key, 1).is_ok_and(|it| it.allowed)).count()
    });
    assert_eq!(allowed, 10_000);
    assert_eq!(counted, 0);
    let (counted, _) =
        allocations(|| keys.iter().map(|key| limiter.check(key, 0)).all(|it| it.is_ok()));
    assert_eq!(counted, 0);
    Ok(())
}

fn keys_without_room_allocate_nothing(limiter: &Limiter) -> Tested {
    let keys: Vec<String> = (0..100).map(|number| format!("crowd {number}")).collect();
    limiter.check(&keys[0], 1)?;
    let (counted, refused) = allocations(|| {
        keys.iter().filter(|key| limiter.check(*key, 1).is_ok_and(|it| !it.allowed)).count()
    });
    assert!(refused > 0);
    assert_eq!(counted, 0);
    Ok(())
}

/// A directory of this process for shared files, removed in the end.
#[cfg(any(target_os = "linux", target_os = "macos"))]
struct Directory(std::path::PathBuf);

#[cfg(any(target_os = "linux", target_os = "macos"))]
impl Directory {
    fn new() -> std::io::Result<Self> {
        let name = format!("tidegate-allocations-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn url(&self, name: &str) -> String {
        format!("shm://{name}?dir={}&max_keys={MAX_KEYS}", self.0.display())
    }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
