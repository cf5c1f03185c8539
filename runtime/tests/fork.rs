//! A forked child can use the limiters it inherits, whatever the parent's threads were doing at
//! the moment of the fork: it inherits none of their locks.
//!
//! One lock is out of Tidegate's reach. In a program whose `main` is Rust's, the standard library
//! takes a lock of its own while a thread starts or ends. A child forked at that moment can start
//! no thread. So the test forks when all threads run.

#![cfg(any(target_os = "linux", target_os = "macos"))]
#![allow(clippy::unwrap_used, reason = "a test may stop")]
#![allow(unsafe_code, reason = "only the C library forks")]

use core::sync::atomic::{AtomicBool, Ordering};
use std::net::TcpListener;
use std::sync::Barrier;
use std::thread;

use tidegate::{Limiter, OnStoreError};

/// How many children are forked: before locks were kept per process, one of the first ten hung.
const CHILDREN: u32 = 60;

/// How many threads of the parent meet the failing store all the time.
const THREADS: usize = 4;

/// A port of this host at which connections are refused.
fn refusing_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn limiter(port: u16, on_store_error: OnStoreError) -> Limiter {
    let url = format!("redis://127.0.0.1:{port}");
    let builder = Limiter::builder().limit("1000000/s").store_url(&url);
    builder.on_store_error(on_store_error).build().unwrap()
}

/// Forks; the child runs `work` and is killed if that takes longer than a minute. Whether the
/// child has ended by itself.
fn ends_in_a_child(work: impl FnOnce()) -> bool {
    // SAFETY: The child of a process with many threads may call little by POSIX, but the C
    // libraries of Linux and macOS make their own locks usable there. `_exit` runs no destructor.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: Both take a number and return at once.
        unsafe { libc::alarm(60) };
        work();
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "no child");
    let mut status = -1;
    // SAFETY: `status` is a live integer, `child` a child of this process.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn a_child_forked_while_a_store_fails_can_check() {
    let port = refusing_port();
    let policies = [OnStoreError::Raise, OnStoreError::Deny, OnStoreError::Local { peers: 1 }];
    let limiters = policies.map(|policy| limiter(port, policy));
    let (all_run, done) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (limiters, all_run, done) = (&limiters, &all_run, &done);
            scope.spawn(move || {
                let key = format!("parent {number}");
                // An answer shows that the I/O thread runs as well.
                limiters.iter().for_each(|limiter| drop(limiter.check(&key, 1)));
                all_run.wait();
                while !done.load(Ordering::Relaxed) {
                    limiters.iter().for_each(|limiter| drop(limiter.check(&key, 1)));
                }
            });
        }
        all_run.wait();
        let hung = (0..CHILDREN).filter(|number| {
            let key = format!("child {number}");
            let check_all = || limiters.iter().for_each(|limiter| drop(limiter.check(&key, 1)));
            !ends_in_a_child(check_all)
        });
        let hung = hung.take(1).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(hung, 0, "a child hung");
    });
}
