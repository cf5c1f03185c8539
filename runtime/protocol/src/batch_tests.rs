//! Tests of batches: deadlines, and which caller gets which answer.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::sync::mpsc::{Receiver, channel};

use tidegate_core::{Grant, LeaseAsk, LeaseTerms, Limit, Operation, Outcome, ShareKind};

use super::*;
use crate::client_store::ClientStore;
use crate::keys::RedisKeys;
use crate::lock::Mutex;
use crate::pending::PendingQueue;
use crate::plan::Together;
use crate::request::Request;
use crate::server_state::{ServerHandle, ServerState};
use crate::snapshot::ReplyPart;
use crate::store::Route as _;
use crate::transport::{ClientConnection, Transport};
use crate::work::{Addressed, Work};

const MILLI: u64 = 1_000_000;
const TIMEOUT: Duration = Duration::from_millis(50);
const START: u64 = 1_764_000_000_000 * MILLI;

/// Keeps requests in a queue, as the transport of a program's own client does.
struct Kept(Arc<Mutex<PendingQueue>>);

impl Transport for Kept {
    fn send(&self, requests: Vec<PendingRequest>) {
        self.0.lock().put(requests);
    }
}

/// What was sent by a client store at [`START`].
struct Client {
    store: ClientStore,
    queue: Arc<Mutex<PendingQueue>>,
    server: ServerHandle,
    limits: Arc<[Limit]>,
}

impl Client {
    fn new() -> Self {
        let (queue, server) = (Arc::<Mutex<PendingQueue>>::default(), ServerHandle::new(|| 1));
        let connection = ClientConnection::new(Kept(Arc::clone(&queue)), server.clone(), None);
        let limits = Arc::new([Limit::parse("10/s").unwrap()]);
        Self { store: ClientStore::new(connection, TIMEOUT, || START), queue, server, limits }
    }

    fn send(&self, work: Work) {
        self.store.send(&mut core::iter::once(Addressed { slot: 0, work }));
    }

    fn check(&self) -> Receiver<Result<Outcome, Error>> {
        self.check_key(b"k")
    }

    fn check_key(&self, key: &[u8]) -> Receiver<Result<Outcome, Error>> {
        let limits = Arc::clone(&self.limits);
        let keys = RedisKeys::One(key.to_vec());
        let request = Request::new(keys, limits, Operation::Check { cost: 1.into() }).unwrap();
        let (told, answers) = channel();
        let done = Box::new(move |outcome| told.send(outcome).unwrap());
        self.send(Work::Operation { request, done });
        answers
    }

    fn lease(&self) -> Receiver<Result<Grant, Error>> {
        let limits = [Limit::parse("100/s").unwrap()];
        let terms = LeaseTerms::new(&limits, 1_000 * MILLI, 1_000).unwrap();
        let call = LeaseCall::new(b"{k}", &limits, &terms, 7, &LeaseAsk::default());
        let (told, grants) = channel();
        let done = Box::new(move |grant| told.send(grant).unwrap());
        self.send(Work::Lease { call: Box::new(call), done });
        grants
    }

    fn batch(&self, now: u64) -> Batch {
        Batch::new(self.queue.lock().take(10), self.server.state(), now)
    }
}

fn count(batch: &mut Batch) -> usize {
    batch.commands(|_| ()).len()
}

const TOO_LATE: Result<Outcome, Error> = Err(Error::timeout(TIMEOUT));

#[test]
fn a_request_that_waits_for_its_timeout_is_given_up() {
    let client = Client::new();
    let answers = client.check();
    let mut queue = client.queue.lock();
    assert_eq!(queue.left(START + 20 * MILLI), Some(Duration::from_millis(30)));
    let (late, left) = queue.expire(START + 49 * MILLI);
    assert!(late.is_empty());
    assert_eq!(left, Some(Duration::from_millis(1)));
    let (late, left) = queue.expire(START + 50 * MILLI);
    assert_eq!((late.len(), left, queue.len()), (1, None, 0));
    late.into_iter().for_each(PendingRequest::give_up);
    assert_eq!(answers.try_recv(), Ok(TOO_LATE));
}

#[test]
fn a_batch_charges_nobody_whose_timeout_is_over() {
    let client = Client::new();
    let answers = client.check();
    let mut batch = client.batch(START + 50 * MILLI);
    assert_eq!(count(&mut batch), 0);
    assert!(batch.is_over());
    assert_eq!(answers.try_recv(), Ok(TOO_LATE));
}

#[test]
fn a_batch_answers_late_callers_before_it_is_over() {
    let client = Client::new();
    let answers = client.check();
    let mut batch = client.batch(START);
    assert_eq!(count(&mut batch), 1);
    assert_eq!(batch.expire(START + 49 * MILLI), Some(Duration::from_millis(1)));
    assert_eq!(batch.expire(START + 50 * MILLI), None);
    assert_eq!(answers.try_recv(), Ok(TOO_LATE));
    batch.take_one(0, Reply::Failure(Error::Store("lost".into())));
    assert!(answers.try_recv().is_err());
}

#[test]
fn calls_of_one_key_have_all_checks_of_that_key() {
    for (per_key, calls) in [(false, 1), (true, 3)] {
        let client = Client::new();
        let server = Arc::new(ServerState::new(per_key));
        for key in [&b"a"[..], b"b", b"a", b"c", b"b", b"a"] {
            drop(client.check_key(key));
        }
        let mut batch = Batch::new(client.queue.lock().take(10), &server, START);
        let commands = batch.commands(|words| words.map(Cow::into_owned).collect::<Vec<_>>());
        assert_eq!(commands.len(), calls);
        // "EVAL", the script, the number of keys, and the keys.
        let keys = |command: &Vec<Vec<u8>>| command[2].clone();
        assert!(commands.iter().all(|it| keys(it) == if per_key { b"1" } else { b"3" }));
    }
}

#[test]
fn a_handle_tells_the_state_of_each_process_to_send_keys_apart() {
    thread_local! {
        static PROCESS: core::cell::Cell<u32> = const { core::cell::Cell::new(1) };
    }
    let server = ServerHandle::new(|| PROCESS.get());
    let before = Arc::clone(server.state());
    assert_eq!(before.together(), Together::All);
    server.send_keys_apart();
    assert_eq!(before.together(), Together::Key);
    PROCESS.set(2);
    assert_eq!(server.state().together(), Together::Key);
}

#[test]
fn checks_and_lease_calls_share_a_batch_and_each_gets_its_own_answer() {
    let client = Client::new();
    let (first, grants, second) = (client.check(), client.lease(), client.check());
    let mut batch = client.batch(START);
    assert_eq!(count(&mut batch), 2, "the checks share a call");
    batch.take_one(1, Reply::Parts(vec![ReplyPart::Bytes(b"5 6 7 1 0".to_vec())]));
    let grant = Grant { tokens: 5, pace: 6, most: 7, share: ShareKind::Fair, hold: 0 };
    assert_eq!(grants.try_recv(), Ok(Ok(grant)));
    assert!(first.try_recv().is_err() && !batch.is_over());
    let now = [ReplyPart::Integer(1_764_000_000), ReplyPart::Integer(0), ReplyPart::Nil];
    batch.take_one(0, Reply::Parts(now.into()));
    assert!(batch.is_over());
    for (answers, remaining) in [(first, 9), (second, 8)] {
        let Ok(Ok(Outcome::Decision(decision))) = answers.try_recv() else { unreachable!() };
        assert_eq!(decision.remaining, remaining);
    }
}

#[test]
fn a_batch_that_fails_tells_all_who_still_wait() {
    let client = Client::new();
    let (answers, grants) = (client.check(), client.lease());
    let mut batch = client.batch(START);
    assert_eq!(count(&mut batch), 2);
    batch.fail(&Error::Store("gone".into()));
    assert_eq!(answers.try_recv(), Ok(Err(Error::Store("gone".into()))));
    assert_eq!(grants.try_recv(), Ok(Err(Error::Store("gone".into()))));
    assert!(batch.is_over());
}
