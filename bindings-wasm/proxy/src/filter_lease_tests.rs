//! Tests of tokens that are taken ahead, on a host that they control.

use super::tests::{MILLI, ROOT, SECOND, World};
use super::{Action, Counter};
use crate::host::Status;

const UNAVAILABLE: u32 = 14;

fn leased(more: &str) -> World {
    let world = World::new(&format!(
        r#"{{"key":{{"header":"k"}},"service":{{"cluster":"c","domain":"d","mode":"leased"{more}}}}}"#
    ));
    world.host.call.set(Ok(1));
    world
}

impl World {
    /// The tokens of each call so far.
    fn asked(&self) -> Vec<u8> {
        let calls = self.host.calls.borrow();
        calls.iter().filter_map(|call| call.message.last().copied()).collect()
    }

    /// Sends a request; its call, if it makes one, has this id and is allowed.
    fn pay(&mut self, call: u32) -> Action {
        let before = self.host.calls.borrow().len();
        self.host.call.set(Ok(call));
        let (_, action) = self.request();
        if self.host.calls.borrow().len() > before {
            self.answer(call, b"\x08\x01");
        }
        action
    }
}

#[test]
fn a_busy_key_takes_tokens_ahead_and_its_requests_pass_without_waiting() {
    let mut world = leased("");
    for call in 0..3 {
        assert_eq!(world.pay(call), Action::Pause);
    }
    assert_eq!(world.asked(), [1, 1, 1]);
    // Two calls have the same id here, so the second one is no call that was made.
    world.host.call.set(Ok(10));
    world.request();
    assert_eq!(world.asked(), [1, 1, 1, 4, 1]);
    world.answer(10, b"\x08\x01");
    for _ in 0..3 {
        assert_eq!(world.request().1, Action::Continue);
    }
    // A quarter is left: a call for the demand of the last 200 ms is made, and nobody waits for it.
    assert_eq!(world.asked(), [1, 1, 1, 4, 1, 7]);
    assert_eq!(world.request().1, Action::Continue);
    let resumed = world.host.resumed.borrow().len();
    world.answer(10, b"\x08\x01");
    assert_eq!(world.host.resumed.borrow().len(), resumed);
    for _ in 0..7 {
        assert_eq!(world.request().1, Action::Continue);
    }
    assert!(Counter::ALL.iter().any(|(_, name)| *name == "lease_calls"));
}

#[test]
fn a_slow_key_asks_for_each_request() {
    let mut world = leased("");
    for call in 0..20 {
        world.host.advance(SECOND);
        assert_eq!(world.pay(call), Action::Pause);
    }
    assert_eq!(world.asked(), [1; 20]);
    world.assert_counted(&[("ok", 20)]);
}

#[test]
fn a_refusal_is_remembered_until_its_time() {
    let mut world = leased("");
    world.request();
    // Over a limit of 50 for 1.5 s.
    let status = b"\x08\x02\x12\x02\x08\x32\x22\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
    let mut refusal = vec![8, 2, 0x12, status.len() as u8];
    refusal.extend(status);
    world.answer(1, &refusal);
    for _ in 0..100 {
        assert_eq!(world.request().1, Action::Pause);
    }
    assert_eq!(world.host.calls.borrow().len(), 1);
    let reply = world.last_reply();
    let headers: Vec<_> = reply.iter().flat_map(|reply| &reply.headers).cloned().collect();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expect = [
        header("x-ratelimit-limit", "50"),
        header("x-ratelimit-remaining", "0"),
        header("x-ratelimit-reset", "2"),
        header("retry-after", "2"),
        header("x-envoy-ratelimited", "true"),
    ];
    assert_eq!(headers, expect);
    assert_eq!(world.request_under(ROOT, b"other").1, Action::Pause);
    assert_eq!(world.host.calls.borrow().len(), 2, "another key is asked about");
    world.host.call.set(Ok(2));
    world.host.advance(1_500 * MILLI);
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 3);
    world.assert_counted(&[("limited_service", 101)]);
}

#[test]
fn tokens_lapse_and_are_spent_while_the_service_is_down() {
    let mut world = leased(r#","max_lease_ttl":"500ms","on_error":"deny""#);
    for call in 0..3 {
        world.pay(call);
    }
    world.host.call.set(Ok(10));
    world.request();
    world.answer(10, b"\x08\x01");
    world.host.call.set(Err(Status::INTERNAL_FAILURE));
    // Four tokens, and none of them waits for the service that is gone.
    let actions = [0; 5].map(|_| world.request().1);
    assert_eq!(actions[..4], [Action::Continue; 4]);
    assert_eq!(world.last_reply().map(|reply| reply.status), Some(503));

    let mut world = leased(r#","max_lease_ttl":"500ms""#);
    for call in 0..3 {
        world.pay(call);
    }
    world.host.call.set(Ok(10));
    world.request();
    world.answer(10, b"\x08\x01");
    world.host.advance(500 * MILLI);
    world.host.call.set(Ok(11));
    assert_eq!(world.request().1, Action::Pause, "they have lapsed");
}

#[test]
fn a_failed_call_for_tokens_fails_no_request_and_counts_for_the_breaker() {
    let mut world = leased(r#","on_error":"deny""#);
    for call in 0..3 {
        world.pay(call);
    }
    let before = world.host.replies.borrow().len();
    for failure in 0..3 {
        world.host.call.set(Ok(20 + failure));
        world.host.advance(MILLI);
        // The call for tokens has the id, and the request's own has it again.
        world.request();
        world.filter.call_failed(&world.host, 20 + failure, UNAVAILABLE);
    }
    assert!(world.host.replies.borrow().len() >= before);
    let calls = world.host.calls.borrow().len();
    world.request();
    assert_eq!(world.host.calls.borrow().len(), calls, "the breaker is open");
}

#[test]
fn a_cold_request_waits_or_passes_or_is_refused() {
    let mut passing = leased(r#","on_cold":"allow""#);
    assert_eq!(passing.request().1, Action::Continue);
    assert_eq!(passing.asked(), [1], "it is charged");
    passing.answer(1, b"\x08\x02");
    assert_eq!(passing.request().1, Action::Pause, "the refusal counts from now on");
    passing.assert_counted(&[("ok", 1), ("limited_service", 1)]);

    let mut refusing = leased(r#","on_cold":"deny""#);
    assert_eq!(refusing.request().1, Action::Pause);
    assert_eq!(refusing.last_reply().map(|reply| reply.status), Some(429));
    assert_eq!(refusing.asked(), [1]);
    refusing.answer(1, b"\x08\x01");
    assert_eq!(refusing.request().1, Action::Continue);
    refusing.assert_counted(&[("ok", 1), ("limited_service", 1), ("lease_calls", 1)]);
}

/// A refusal that is forgotten after a millisecond must not let the requests until the next one pass.
#[test]
fn cold_requests_pass_only_until_the_first_answer_about_their_key() {
    // Refused for 1 ms, and allowed.
    let status = b"\x08\x02\x22\x04\x10\xc0\x84\x3d";
    let mut refusal = vec![8, 2, 0x12, status.len() as u8];
    refusal.extend(status);
    let allowed = &b"\x08\x01"[..];
    for answers in [[&refusal[..]; 2], [allowed; 2], [allowed, &refusal]] {
        let mut world = leased(r#","on_cold":"allow""#);
        let mut passed = 0;
        for round in 0..50 {
            // Two requests come within each round trip.
            for call in [round * 2, round * 2 + 1] {
                world.host.call.set(Ok(call));
                let (_, action) = world.request_under(ROOT, b"a");
                passed += u32::from(action == Action::Continue);
            }
            for (call, answer) in [round * 2, round * 2 + 1].into_iter().zip(answers) {
                world.answer(call, answer);
            }
            world.host.advance(SECOND);
        }
        assert_eq!(passed, 2, "the requests before the first answer");
        world.host.call.set(Ok(1000));
        assert_eq!(world.request_under(ROOT, b"b").1, Action::Continue, "another key is cold");
    }

    // A call that fails is no answer.
    let mut world = leased(r#","on_cold":"allow""#);
    world.request();
    world.filter.call_failed(&world.host, 1, UNAVAILABLE);
    world.host.call.set(Ok(2));
    assert_eq!(world.request().1, Action::Continue);

    // A request of several descriptors waits for the one that is known.
    let mut world = World::new(
        r#"{"descriptors":[
            {"actions":[{"generic_key":{"descriptor_value":"all"}}]},
            {"actions":[{"request_headers":{"header_name":"k","descriptor_key":"k"}}]}],
            "service":{"cluster":"c","mode":"leased","on_cold":"allow"}}"#,
    );
    world.host.call.set(Ok(1));
    assert_eq!(world.request_under(ROOT, b"a").1, Action::Continue);
    world.answer(1, b"\x08\x01");
    world.host.call.set(Ok(2));
    assert_eq!(world.request_under(ROOT, b"b").1, Action::Pause);
}

#[test]
fn a_refusal_by_one_descriptor_gives_back_the_tokens_of_another() {
    let mut world = World::new(
        r#"{"descriptors":[
            {"actions":[{"generic_key":{"descriptor_value":"all"}}]},
            {"actions":[{"request_headers":{"header_name":"k","descriptor_key":"k"}}]}],
            "service":{"cluster":"c","mode":"leased","on_cold":"deny"}}"#,
    );
    // Both take one token ahead; the calls have the ids 5 and 6 in turn.
    world.host.call.set(Ok(5));
    world.request();
    world.answer(5, b"\x08\x01");
    for key in [&b"b"[..], b"c"] {
        world.host.call.set(Ok(6));
        assert_eq!(world.request_under(ROOT, key).1, Action::Pause, "its own bucket is cold");
    }
    world.answer(6, b"\x08\x01");
    let calls = world.host.calls.borrow();
    let all = |message: &[u8]| message.windows(3).any(|part| part == b"all");
    assert_eq!(
        calls.iter().filter(|call| all(&call.message)).count(),
        1,
        "its token is still there"
    );
}
