#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::sync::mpsc::{Receiver, channel};

use tidegate_core::{Limit, Operation};

use super::*;
use crate::keys::RedisKeys;
use crate::lock::Mutex;

const MILLI: u64 = 1_000_000;
const TIMEOUT: Duration = Duration::from_millis(50);
const START: u64 = 1_764_000_000_000 * MILLI;

/// Keeps errands in an outbox, as a program's own client does.
struct Kept(Arc<Mutex<Outbox>>);

impl Courier for Kept {
    fn take(&self, errands: Vec<Errand>) {
        self.0.lock().put(errands);
    }
}

/// An outbox with an errand of [`START`], and its caller's answers.
fn outbox() -> (Arc<Mutex<Outbox>>, Receiver<Result<Outcome, Error>>) {
    let outbox = Arc::<Mutex<Outbox>>::default();
    let carriage = Carriage::new(Kept(Arc::clone(&outbox)));
    let limits: Arc<[Limit]> = Arc::new([Limit::parse("10/s").unwrap()]);
    let keys = RedisKeys::One(b"k".to_vec());
    let request = Request::new(keys, limits, Operation::Check { cost: 1 }).unwrap();
    let (told, answers) = channel();
    let done: Done = Box::new(move |outcome| told.send(outcome).unwrap());
    carriage.send(core::iter::once((request, done)), TIMEOUT, START);
    (outbox, answers)
}

const TOO_LATE: Result<Outcome, Error> = Err(Error::StoreTimeout { after: TIMEOUT });

#[test]
fn an_errand_that_waits_for_its_timeout_is_given_up() {
    let (outbox, answers) = outbox();
    let mut outbox = outbox.lock();
    assert_eq!(outbox.left(START + 20 * MILLI), Some(Duration::from_millis(30)));
    let (late, left) = outbox.expire(START + 49 * MILLI);
    assert!(late.is_empty());
    assert_eq!(left, Some(Duration::from_millis(1)));
    let (late, left) = outbox.expire(START + 50 * MILLI);
    assert_eq!((late.len(), left, outbox.len()), (1, None, 0));
    late.into_iter().for_each(Errand::give_up);
    assert_eq!(answers.try_recv(), Ok(TOO_LATE));
}

#[test]
fn a_trip_charges_nobody_whose_timeout_is_over() {
    let (outbox, answers) = outbox();
    let mut trip = Trip::new(outbox.lock().leave(10), START + 50 * MILLI);
    assert!(trip.commands().is_empty());
    assert_eq!(answers.try_recv(), Ok(TOO_LATE));
}

#[test]
fn a_trip_answers_late_callers_before_it_is_over() {
    let (outbox, answers) = outbox();
    let mut trip = Trip::new(outbox.lock().leave(10), START);
    assert_eq!(trip.commands().len(), 1);
    assert_eq!(trip.expire(START + 49 * MILLI), Some(Duration::from_millis(1)));
    assert_eq!(trip.expire(START + 50 * MILLI), None);
    assert_eq!(answers.try_recv(), Ok(TOO_LATE));
    trip.take_one(0, Reply::Failure(Error::Store("lost".into())));
    assert!(answers.try_recv().is_err());
}
