//! Properties of retries: the load of retries is bounded, waits keep their bounds, and a deadline is
//! never missed by a retry.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_core::{GiveUp, Profile, Retry, RetryBudget, RetryPolicy, Signal};

const SECOND: u64 = 1_000_000_000;

/// A response that asks for a wait of so many milliseconds.
fn with_signal<T>(status: u16, hold_ms: u64, run: impl FnOnce(&Signal<'_>) -> T) -> T {
    let text = hold_ms.to_string();
    run(&Signal::parse(status, [("retry-after-ms", &*text)], &Profile::GENERIC, 0))
}

proptest! {
    /// When every call fails, the vendor gets at most 1.1 times as many calls, however calls interleave.
    #[test]
    fn total_failure_offers_at_most_1_1_times_the_calls(
        calls in 1_usize..2_000,
        attempts in 1_u32..8,
        reserve in 0_u32..20,
        order in vec(any::<u64>(), 1..50),
    ) {
        let policy = RetryPolicy { attempts, base: SECOND, longest: 20 * SECOND };
        let budget = RetryBudget::new(10, reserve);
        let (mut started, mut retries) = (0_u64, 0_u64);
        let mut open: Vec<Retry> = Vec::new();
        for number in 0..calls * 4 {
            let random = order[number % order.len()].rotate_left(u32::try_from(number % 64).unwrap_or(0));
            if open.is_empty() || (random % 3 == 0 && started < calls as u64) {
                budget.call();
                started += 1;
                open.push(Retry::new(policy, u64::MAX));
            }
            let place = usize::try_from(random % open.len() as u64).unwrap_or(0);
            let answer =
                with_signal(503, 0, |signal| open[place].failed(signal, 0, random, &budget));
            match answer {
                Ok(_) => retries += 1,
                Err(_) => drop(open.swap_remove(place)),
            }
            // 10 % of the calls, or the reserve until they have paid for it.
            prop_assert!(retries * 10 <= started.max(u64::from(reserve) * 10));
            prop_assert!(budget.retries() <= u64::from(reserve.max(1)));
        }
        if started >= u64::from(reserve) * 10 {
            prop_assert!((started + retries) * 10 <= started * 11);
        }
    }

    #[test]
    fn waits_are_within_their_bounds(
        base in 0_u64..100 * SECOND,
        longest in any::<u64>(),
        hold_ms in 0_u64..1_000_000,
        now in any::<u64>(),
        deadline in any::<u64>(),
        randoms in vec(any::<u64>(), 1..70),
    ) {
        let policy = RetryPolicy { attempts: u32::MAX, base, longest };
        let budget = RetryBudget::new(100, 1_000);
        let mut retry = Retry::new(policy, deadline);
        for (number, &random) in randoms.iter().enumerate() {
            let (answer, hold) =
                with_signal(429, hold_ms, |signal| (retry.failed(signal, now, random, &budget), signal.hold));
            let bound = u128::from(base) << number.min(63);
            let bound = bound.min(u128::from(longest));
            match answer {
                Ok(wait) => {
                    prop_assert!(wait >= hold && u128::from(wait - hold) <= bound);
                    prop_assert!(now.checked_add(wait).is_some_and(|at| at < deadline));
                }
                Err(reason) => {
                    prop_assert_eq!(reason, GiveUp::Deadline);
                    prop_assert!(u128::from(now) + u128::from(hold) + bound >= u128::from(deadline));
                    break;
                }
            }
        }
    }
}

#[test]
fn the_jitter_is_full() {
    let policy = RetryPolicy { attempts: 9, base: 1_000, longest: 3_000 };
    let budget = RetryBudget::new(0, 9);
    let mut retry = Retry::new(policy, u64::MAX);
    for (random, expected) in
        [(0, 0), (u64::MAX, 2_000), (u64::MAX, 3_000), (u64::MAX / 2, 1_500), (u64::MAX, 3_000)]
    {
        let wait = with_signal(503, 0, |signal| retry.failed(signal, 0, random, &budget));
        assert_eq!(wait, Ok(expected));
    }
}

#[test]
fn giving_up_costs_the_budget_nothing() {
    let budget = RetryBudget::new(10, 2);
    let policy = RetryPolicy { attempts: 2, base: SECOND, longest: SECOND };
    let mut retry = Retry::new(policy, 5 * SECOND);
    let mut failed = |status, hold_ms, now| {
        with_signal(status, hold_ms, |signal| retry.failed(signal, now, 0, &budget))
    };
    assert_eq!(failed(400, 0, 0), Err(GiveUp::Permanent));
    assert_eq!(failed(503, 5_000, 0), Err(GiveUp::Deadline));
    assert_eq!(failed(503, 4_999, 0), Ok(4_999_000_000));
    assert_eq!(failed(503, 0, 0), Err(GiveUp::Attempts));
    assert_eq!(budget.retries(), 1);
    let mut other = Retry::new(policy, u64::MAX);
    assert_eq!(with_signal(503, 0, |signal| other.failed(signal, 0, 0, &budget)), Ok(0));
    let mut third = Retry::new(policy, u64::MAX);
    let spent = with_signal(503, 0, |signal| third.failed(signal, 0, 0, &budget));
    assert_eq!(spent, Err(GiveUp::Budget));
    // 20 calls pay for the reserve of 2, and each further ten save a retry.
    (0..29).for_each(|_| budget.call());
    assert_eq!(budget.retries(), 0);
    budget.call();
    assert_eq!(budget.retries(), 1);
}

/// The vendor said when to come back, and the hold paces those who do.
#[test]
fn a_refusal_with_a_hold_costs_the_budget_nothing() {
    let budget = RetryBudget::new(10, 1);
    let policy = RetryPolicy { attempts: 9, base: 0, longest: 0 };
    let mut retry = Retry::new(policy, u64::MAX);
    for _ in 0..3 {
        let wait = with_signal(429, 2_000, |signal| retry.failed(signal, 0, 0, &budget));
        assert_eq!(wait, Ok(2 * SECOND));
    }
    assert_eq!(budget.retries(), 1);
    // A vendor that is short of capacity has failed, whatever it says, and so has one without a wait.
    let spent = with_signal(503, 2_000, |signal| retry.failed(signal, 0, 0, &budget));
    assert_eq!((spent, budget.retries()), (Ok(2 * SECOND), 0));
    let unpaid = with_signal(429, 0, |signal| retry.failed(signal, 0, 0, &budget));
    assert_eq!(unpaid, Err(GiveUp::Budget));
}

#[test]
fn threads_share_a_budget() {
    let budget = RetryBudget::new(10, 1);
    let policy = RetryPolicy { attempts: 2, base: 0, longest: 0 };
    let retries: usize = std::thread::scope(|scope| {
        let run = || {
            let one = || {
                budget.call();
                let mut retry = Retry::new(policy, u64::MAX);
                with_signal(503, 0, |signal| retry.failed(signal, 0, 0, &budget)).is_ok()
            };
            (0..5_000).filter(|_| one()).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    // Each retry was saved by ten calls; the first was lent, and ten calls paid for it.
    assert!((1..=2_000).contains(&retries), "{retries}");
}
