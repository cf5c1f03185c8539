//! A store whose I/O runs on a runtime of the program's own.

use std::time::{Duration, Instant};

use tidegate::{Error, Limiter, Store};
use tidegate_conformance::redis_server::RedisServer;
use tokio::runtime::{Builder, Runtime};

const TIMEOUT: Duration = Duration::from_secs(1);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn limiter(server: &RedisServer, runtime: &Runtime) -> Limiter {
    let store = Store::open_on(&server.url(), TIMEOUT, runtime.handle()).expect("a store");
    Limiter::builder().limit("50/d").store(store).build().expect("a limiter")
}

/// Whether this process has Tidegate's I/O thread. No test in this file needs it.
#[cfg(target_os = "linux")]
fn has_io_thread() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").expect("threads");
    let mut names = threads.filter_map(|thread| {
        std::fs::read_to_string(thread.expect("a thread").path().join("comm")).ok()
    });
    names.any(|name| name.trim() == "tidegate-io")
}

#[test]
fn its_tasks_share_round_trips_and_no_other_thread_is_needed() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let limiter = limiter(&server, &runtime);
    let allowed = runtime.block_on(async {
        let mut checks = tokio::task::JoinSet::new();
        (0..100).for_each(|_| drop(checks.spawn(limiter.check_async("key", 1))));
        let decisions = checks.join_all().await;
        decisions.into_iter().filter(|it| it.as_ref().expect("a decision").allowed).count()
    });
    assert_eq!(allowed, 50);
    #[cfg(target_os = "linux")]
    assert!(!has_io_thread());
}

#[test]
fn other_threads_may_block_while_it_runs() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let limiter = limiter(&server, &runtime);
    let waiting = std::thread::spawn({
        let limiter = limiter.clone();
        move || limiter.check("key", 20)
    });
    let left = runtime.block_on(async {
        while !waiting.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        limiter.check_async("key", 0).await
    });
    assert!(waiting.join().expect("no panic").expect("a decision").allowed);
    assert_eq!(left.expect("a decision").remaining, 30);
}

#[test]
fn a_call_that_blocks_its_only_thread_times_out() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let limiter = limiter(&server, &runtime);
    let began = Instant::now();
    let answer = runtime.block_on(async { limiter.check("key", 1) });
    assert!(matches!(answer, Err(Error::StoreTimeout { after: TIMEOUT, .. })), "{answer:?}");
    assert!(began.elapsed() >= TIMEOUT);
    // The blocked call leaves nothing behind that disturbs the next.
    let next = runtime.block_on(limiter.check_async("key", 1));
    assert!(next.expect("a decision").allowed);
}

#[test]
fn a_runtime_that_is_gone_is_an_error_at_once() {
    let (server, runtime) = (RedisServer::start(), one_thread());
    let limiter = limiter(&server, &runtime);
    assert!(runtime.block_on(limiter.check_async("key", 1)).expect("a decision").allowed);
    let waiting = limiter.check_async("key", 1);
    drop(runtime);
    let here = one_thread();
    let lost = here.block_on(waiting);
    assert!(matches!(lost, Err(Error::Store(_))), "{lost:?}");
    let later = here.block_on(limiter.check_async("key", 1));
    assert!(matches!(later, Err(Error::Store(_))), "{later:?}");
    let blocking = limiter.check("key", 1);
    assert!(matches!(blocking, Err(Error::Store(_))), "{blocking:?}");
}

#[test]
fn memory_needs_no_runtime() {
    for url in ["memory://", "shm://not-made"] {
        let refused = Store::open_on(url, TIMEOUT, one_thread().handle());
        let Err(Error::InvalidArgument { name, .. }) = refused else {
            panic!("{url}: {refused:?}")
        };
        assert_eq!(name, "runtime");
    }
}
