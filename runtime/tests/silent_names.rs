//! A store whose name nobody answers for keeps no other store waiting, and works as soon as its
//! name is answered for.
//!
//! The system's look-up is replaced in this program: it defines `getaddrinfo`, which is found
//! before the C library's. So the test needs no name server and changes nothing on the machine.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may stop")]
#![allow(unsafe_code, reason = "it stands in for a function of the C library")]

use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Instant;

use tidegate::{Limiter, Store};

/// No call takes nearly this long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether names that end in `.silent` are left without an answer.
static SILENT: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());
/// How often names were looked up, and how many of these are under way.
static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

type GetAddrInfo = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const libc::addrinfo,
    *mut *mut libc::addrinfo,
) -> c_int;

/// The look-up of this program: every name is this host's, and the silent ones take their time.
///
/// # Safety
/// As that of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getaddrinfo(
    name: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
) -> c_int {
    // SAFETY: The caller gives a text that ends with a zero, or none.
    let is_silent =
        !name.is_null() && unsafe { CStr::from_ptr(name) }.to_bytes().ends_with(b".silent");
    LOOKUPS.fetch_add(1, Ordering::Relaxed);
    UNDER_WAY.fetch_add(1, Ordering::Relaxed);
    if is_silent {
        let silent = SILENT.0.lock().unwrap();
        drop(SILENT.1.wait_while(silent, |silent| *silent).unwrap());
    }
    UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: The next function of this name is the C library's, whose type this is; all
    // arguments but the name are the caller's.
    unsafe {
        let next = libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr());
        let next: GetAddrInfo = core::mem::transmute(next);
        next(c"127.0.0.1".as_ptr(), service, hints, found)
    }
}

/// A server that answers every command, as a Redis would answer a PING.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || answer_all(connection));
        }
    });
    port
}

/// Answers each command, which is `*` with the number of its words, and two lines for each.
fn answer_all(mut connection: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(connection.try_clone().ok()?).lines();
    loop {
        let words: usize = lines.next()?.ok()?.strip_prefix('*')?.parse().ok()?;
        lines.nth(2 * words - 1)?.ok()?;
        connection.write_all(b"+PONG\r\n").ok()?;
    }
}

fn store(host: &str, port: u16) -> Store {
    Store::open(&format!("redis://{host}:{port}"), Duration::from_millis(50)).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_silent_name_keeps_no_other_store_waiting() {
    let port = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = |store: &Store| runtime.block_on(store.ping()).is_ok();

    let here = store("localhost", port);
    eventually("localhost answers", || answers(&here));
    assert_eq!(LOOKUPS.load(Ordering::Relaxed), 0, "localhost was looked up");

    // Several limiters, each of which goes on asking for its server.
    let url = format!("redis://redis.silent:{port}");
    let limiters: Vec<_> =
        (0..3).map(|_| Limiter::builder().limit("10/s").store_url(&url).build().unwrap()).collect();
    for _ in 0..20 {
        limiters.iter().for_each(|limiter| drop(limiter.check("key", 1)));
    }
    eventually("the silent name is looked up", || UNDER_WAY.load(Ordering::Relaxed) > 0);

    let other = store("other.name", port);
    eventually("another name answers", || answers(&other));
    let silent = store("redis.silent", port);
    assert!(!answers(&silent));
    drop(limiters);
    let third = store("third.name", port);
    eventually("a third name answers", || answers(&third));
    assert!(UNDER_WAY.load(Ordering::Relaxed) <= 10, "one name has many look-ups");

    *SILENT.0.lock().unwrap() = false;
    SILENT.1.notify_all();
    eventually("the name answers once it is answered for", || answers(&silent));
}
