//! Waiting in a line, in memory: who leaves, what comes back, holds, and closing. What a line
//! decides is tested beside the exact bucket in `protocol/src/line/tests.rs`.

#![allow(clippy::panic, reason = "how a test fails")]

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use std::time::Instant;

use tidegate::{Error, Limiter};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

type Tested = Result<(), Error>;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn limiter(limit: &str) -> Result<Limiter, Error> {
    Limiter::builder().limit(limit).build()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map(|runtime| runtime.block_on(future)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn deadlines_from_outside_waste_no_slot() -> Tested {
    // A1: before, the slots of who had left were lost, and after a second nobody was served.
    // A busy machine may stop this process for longer than its callers wait.
    let mut counts = Vec::new();
    for _ in 0..3 {
        let served = serve_with_deadlines(&limiter("100/s burst 1")?)?;
        for (place, at) in (0..).zip(&served) {
            assert!(*at + MILLI >= place * 10 * MILLI, "{place} came early, at {at:?}");
        }
        let in_second = |second| served.iter().filter(|at| at.as_secs() == second).count();
        counts = (0..4).map(in_second).collect();
        if served.len() >= 4 * 95 && counts.iter().all(|count| *count >= 80) {
            return Ok(());
        }
    }
    panic!("served in each second: {counts:?}");
}

/// When callers were served of whom 150 come in each of four seconds, each for 0.3 s.
fn serve_with_deadlines(limiter: &Limiter) -> Result<Vec<Duration>, Error> {
    let served = block_on(async {
        let mut callers = JoinSet::new();
        let start = tokio::time::Instant::now();
        for number in 0..150 * 4 {
            sleep_until(start + number * SECOND / 150).await;
            let acquiring = limiter.acquire_async("v", 1, None);
            callers.spawn(async move {
                let answer = timeout(300 * MILLI, acquiring).await;
                answer.ok().map(|decision| decision.map(|_| start.elapsed()))
            });
        }
        callers.join_all().await
    });
    let mut served: Vec<_> = served.into_iter().flatten().collect::<Result<_, _>>()?;
    served.sort_unstable();
    Ok(served)
}

#[test]
fn who_leaves_together_leaves_nothing_behind() -> Tested {
    // A2: before, the next caller waited for the slots of all who had left.
    let limiter = limiter("10/s burst 1")?;
    let waited = block_on(async {
        let mut group = JoinSet::new();
        for _ in 0..100 {
            group.spawn(limiter.acquire_async("v", 1, None));
        }
        sleep(300 * MILLI).await;
        group.shutdown().await;
        let started = Instant::now();
        limiter.acquire_async("v", 1, None).await.map(|_| started.elapsed())
    })?;
    assert!(waited < 200 * MILLI, "{waited:?}");
    Ok(())
}

#[test]
fn nobody_is_served_during_a_hold() -> Tested {
    // A3: before, slots that had been reserved kept their time.
    let limiter = limiter("20/s burst 1")?;
    let (served, held) = block_on(async {
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..20 {
            let acquiring = limiter.acquire_async("v", 1, None);
            callers.spawn(async move { acquiring.await.map(|_| start.elapsed()) });
        }
        sleep(120 * MILLI).await;
        let before = start.elapsed();
        limiter.hold("v", SECOND).map(drop).unwrap_or_else(|error| panic!("{error}"));
        let held = (start.elapsed(), before + SECOND);
        (callers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>(), held)
    });
    let mut served = served?;
    served.sort_unstable();
    // A caller may have been served before the hold and run after it.
    let during = served.iter().filter(|at| **at > held.0 + MILLI && **at < held.1).count();
    assert_eq!(during, 0, "{served:?}");
    assert_eq!(served.len(), 20);
    // At the normal pace after it, nobody starved: at most 18 of them at 20/s.
    assert!(served[19] < held.1 + 2 * SECOND, "{served:?}");
    Ok(())
}

#[test]
fn tokens_that_come_back_move_waiters_up() -> Tested {
    // A4: before, a quarter of the limit was used.
    let limiter = Arc::new(limiter("60000/s burst 4000")?);
    let took = block_on(async {
        let start = Instant::now();
        let mut jobs = JoinSet::new();
        for _ in 0..120 {
            let limiter = Arc::clone(&limiter);
            let acquiring = limiter.acquire_async("model", 4000, None);
            jobs.spawn(async move {
                acquiring.await?;
                sleep(MILLI).await;
                limiter.settle("model", 4000, 1000).map(drop)
            });
        }
        let ended: Result<Vec<_>, _> = jobs.join_all().await.into_iter().collect();
        ended.map(|_| start.elapsed())
    })?;
    // 120,000 tokens at 60,000/s; 90 % of the limit would take 2.2 s.
    assert!(took < 2_220 * MILLI, "{took:?}");
    assert!(took > 1_850 * MILLI, "{took:?}");
    Ok(())
}

#[test]
fn who_waits_is_told_that_the_limiter_is_closed() -> Tested {
    // A7: before, a caller was served by a closed limiter.
    let limiter = limiter("1/min")?;
    limiter.acquire("k", 1, None)?;
    let told = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let answer = limiter.acquire("k", 1, None);
                assert_eq!(answer.err().map(|error| error.code()), Some("store_error"));
                told.fetch_add(1, Ordering::Relaxed);
            });
        }
        while limiter.waiting("k").is_ok_and(|waiting| waiting.callers < 3) {
            std::thread::yield_now();
        }
        limiter.close();
    });
    assert_eq!(told.load(Ordering::Relaxed), 3);
    Ok(())
}

#[test]
fn a_full_line_refuses_at_once() -> Tested {
    let limiter = Limiter::builder().limit("1/min").max_waiting(2).build()?;
    limiter.acquire("k", 1, None)?;
    let waiters = [limiter.acquire_async("k", 1, None), limiter.acquire_async("k", 1, None)];
    assert_eq!(limiter.waiting("k")?.callers, 2);
    let Err(Error::RateLimited { decision, .. }) = limiter.acquire("k", 1, None) else {
        panic!("the line is full");
    };
    assert!(decision.retry_after > 118_000_000_000, "{decision:?}");
    assert!(limiter.acquire("another", 1, None)?.allowed);
    drop(waiters);
    assert_eq!(limiter.waiting("k")?.callers, 0);
    for wrong in [0, 1_000_001] {
        let built = Limiter::builder().limit("1/min").max_waiting(wrong).build();
        assert!(matches!(built, Err(Error::InvalidArgument { name: "max_waiting", .. })));
    }
    Ok(())
}

#[test]
fn a_shorter_deadline_is_refused_at_once_and_a_longer_one_served() -> Tested {
    let limiter = limiter("1/s burst 1")?;
    limiter.acquire("k", 1, None)?;
    let started = Instant::now();
    let patience = Some(1500 * MILLI);
    let waiting = limiter.acquire_async("k", 1, patience);
    assert!(matches!(limiter.acquire("k", 1, patience), Err(Error::RateLimited { .. })));
    assert!(started.elapsed() < 900 * MILLI, "told at once");
    assert!(block_on(waiting)?.allowed);
    Ok(())
}

#[cfg(feature = "__bindings")]
#[test]
fn a_handle_of_who_was_served_moves_nobody_else() -> Tested {
    let limiter = limiter("20/s burst 1")?;
    let wait_for = || {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiter = limiter.acquire_then("k", 1, None, move |answer| {
            _ = sender.send(answer.map(tidegate::bindings::Granted::claim));
        });
        (waiter, receiver)
    };
    let (first, answer) = wait_for();
    assert!(answer.recv().is_ok_and(|answer| answer.is_ok()));
    while limiter.waiting("k")?.callers > 0 {}
    let (_second, answer) = wait_for();
    first.leave();
    assert!(answer.recv().is_ok_and(|answer| answer.is_ok()), "the second was lost");
    Ok(())
}
