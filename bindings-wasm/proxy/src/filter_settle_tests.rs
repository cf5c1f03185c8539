//! Tests of costs that are estimates until the response tells what was used, on a host that they control.

use super::Action;
use super::tests::{ROOT, SECOND, World};
use crate::fake_host::leaked;
use crate::host::Status;

const UNAVAILABLE: u32 = 14;
const CONTENT_TYPE: &[u8] = b"response\0headers\0content-type";

fn config(mode: &str, settle: &str) -> String {
    format!(r#"{{"key":{{"header":"k"}},{mode},"cost":{{"estimate":50,"settle":{settle}}}}}"#)
}

fn local() -> World {
    World::new(&config(r#""local":{"limits":["100/h"]}"#, r#"{"json":"usage.total_tokens"}"#))
}

fn exact() -> World {
    World::new(&config(
        r#""service":{"cluster":"c","domain":"d"}"#,
        r#"{"json":"usage.total_tokens"}"#,
    ))
}

impl World {
    /// The response of a stream: its body in pieces, and whether it ends.
    fn respond(&mut self, stream: u32, body: &str, ends: bool) {
        self.filter.response_headers(&self.host, stream, false);
        let half = body.len() / 2;
        for (piece, is_end) in [(&body[..half], false), (&body[half..], ends)] {
            self.host.body.set((leaked(piece.as_bytes()), 7));
            self.filter.response_body(&self.host, stream, piece.len(), is_end);
        }
        self.filter.context_done(&self.host, stream);
    }

    /// A request that is allowed, with a response that tells this much.
    fn use_up(&mut self, used: u32) {
        let (stream, action) = self.request();
        assert_eq!(action, Action::Continue);
        self.respond(stream, &told(used), true);
    }

    /// The last report: the bytes after the descriptor's entries.
    fn reported(&self) -> Option<Vec<u8>> {
        let call = self.host.calls.borrow().last().cloned()?;
        call.is_report.then(|| call.message.get(15..).unwrap_or_default().to_vec())
    }
}

fn told(used: u32) -> String {
    format!(r#"{{"choices":["{{\"usage\":"],"usage":{{"total_tokens":{used}}}}}"#)
}

#[test]
fn a_local_bucket_is_charged_what_was_used() {
    let mut world = local();
    // 100 tokens: 50 are reserved each time.
    world.use_up(10);
    world.use_up(20);
    world.use_up(30);
    assert_eq!(world.request().1, Action::Pause);
    world.assert_counted(&[("ok", 3), ("limited_local", 1), ("settled", 3)]);
    // What is used beyond the estimate is owed, also above the burst.
    let mut world = local();
    world.use_up(250);
    assert_eq!(world.request().1, Action::Pause);
    world.host.advance(3_600 * SECOND);
    assert_eq!(world.request().1, Action::Pause, "150 tokens of 100/h are owed");
    world.host.advance(3_600 * SECOND);
    assert_eq!(world.request().1, Action::Continue);
}

#[test]
fn a_response_that_tells_nothing_keeps_the_estimate() {
    let mut world = local();
    for body in ["{}", "<html>"] {
        let (stream, action) = world.request();
        assert_eq!(action, Action::Continue);
        world.respond(stream, body, true);
    }
    assert_eq!(world.request().1, Action::Pause);
    world.assert_counted(&[("ok", 2), ("limited_local", 1), ("unsettled", 2)]);
}

#[test]
fn a_response_that_is_cut_off_costs_no_less_than_the_estimate() {
    let mut world = local();
    let (stream, _) = world.request();
    world.respond(stream, &told(1), false);
    let (stream, action) = world.request();
    assert_eq!(action, Action::Continue);
    world.respond(stream, &told(60), false);
    assert_eq!(world.request().1, Action::Pause);
    // Trailers end a response.
    let mut world = local();
    for _ in 0..5 {
        let (stream, action) = world.request();
        assert_eq!(action, Action::Continue);
        world.filter.response_headers(&world.host, stream, false);
        world.host.body.set((leaked(told(1).as_bytes()), 100));
        world.filter.response_body(&world.host, stream, told(1).len(), false);
        world.filter.response_ended(stream);
        world.filter.context_done(&world.host, stream);
    }
}

#[test]
fn events_and_a_header_tell_it_too() {
    let mut world = local();
    world.host.set_property(CONTENT_TYPE, Ok(b"Text/Event-Stream; charset=utf-8"));
    for _ in 0..5 {
        let (stream, action) = world.request();
        assert_eq!(action, Action::Continue);
        world.respond(stream, &format!("data: {}\n\ndata: [DONE]\n\n", told(1)), true);
    }
    let limits = r#""local":{"limits":["100/h"]}"#;
    let mut world = World::new(&config(limits, r#"{"header":"X-Used"}"#));
    let used = b"response\0headers\0x-used";
    for (header, expect) in [("100", Action::Continue), ("7", Action::Pause)] {
        world.host.set_property(used, Ok(header.as_bytes()));
        let (stream, action) = world.request();
        assert_eq!(action, expect);
        world.respond(stream, "", false);
    }
    let mut world = World::new(&config(limits, r#"{"header":"X-Used"}"#));
    for header in ["5, 6", "x"] {
        world.host.set_property(used, Ok(header.as_bytes()));
        let (stream, action) = world.request();
        assert_eq!(action, Action::Continue);
        world.respond(stream, "", true);
    }
    assert_eq!(world.request().1, Action::Pause);
}

#[test]
fn the_service_is_told_the_difference_with_the_key_of_the_request() {
    let mut world = exact();
    for (used, expect) in [
        // 100 more, and 40 that are given back.
        (150, Some(b"\x1a\x02\x08\x64".to_vec())),
        (10, Some(b"\x1a\x02\x08\x28\x20\x01".to_vec())),
        (50, None),
    ] {
        let (stream, action) = world.request();
        assert_eq!(action, Action::Pause);
        world.answer(1, b"\x08\x01");
        // A filter after this one removes the key from the request.
        world.host.set_property(b"request\0headers\0k", Err(Status::NOT_FOUND));
        world.respond(stream, &told(used), true);
        assert_eq!(world.reported(), expect);
        world.answer(1, b"\x08\x02");
    }
    world.assert_counted(&[("ok", 3), ("settled", 3)]);
}

#[test]
fn a_request_that_the_service_did_not_charge_is_not_settled_with_it() {
    let mut world = exact();
    let (stream, _) = world.request();
    world.filter.call_failed(&world.host, 1, UNAVAILABLE);
    world.respond(stream, &told(150), true);
    assert_eq!(world.host.calls.borrow().len(), 1);
    let (stream, _) = world.request();
    world.answer(1, b"\x08\x02");
    world.respond(stream, &told(150), true);
    assert_eq!(world.host.calls.borrow().len(), 2);
    // Without an estimate nothing is kept.
    assert!(world.configure(ROOT, r#"{"key":{"header":"k"},"service":{"cluster":"c"}}"#));
    let (stream, _) = world.request();
    world.answer(1, b"\x08\x01");
    world.respond(stream, &told(150), true);
    assert_eq!(world.host.calls.borrow().len(), 3);
}

#[test]
fn a_settlement_that_does_not_reach_the_service_is_counted() {
    let mut world = exact();
    let (stream, _) = world.request();
    world.answer(1, b"\x08\x01");
    world.host.call.set(Err(Status::INTERNAL_FAILURE));
    world.respond(stream, &told(150), true);
    world.host.call.set(Ok(2));
    let (stream, _) = world.request();
    world.answer(2, b"\x08\x01");
    world.respond(stream, &told(150), true);
    world.filter.call_failed(&world.host, 2, UNAVAILABLE);
    world.assert_counted(&[("ok", 2), ("settled", 2), ("settle_error", 2)]);
}

#[test]
fn several_descriptors_are_settled_each_by_its_own_estimate() {
    let mut world = World::new(
        r#"{"descriptors":[
            {"actions":[{"request_headers":{"header_name":"k","descriptor_key":"k"}}],
             "cost":{"estimate":5,"settle":{"json":"usage.total_tokens"}}},
            {"actions":[{"generic_key":{"descriptor_value":"v"}}]},
            {"actions":[{"generic_key":{"descriptor_value":"w"}}],
             "cost":{"estimate":9,"settle":{"json":"usage.total_tokens"}}}],
          "service":{"cluster":"c","domain":"d"}}"#,
    );
    let (stream, _) = world.request();
    world.answer(1, b"\x08\x01");
    world.respond(stream, &told(7), true);
    let calls = world.host.calls.borrow();
    let expect = [
        &b"\x0a\x01d\x12\x0c\x0a\x06\x0a\x01k\x12\x01a\x1a\x02\x08\x02"[..],
        b"\x12\x18\x0a\x10\x0a\x0bgeneric_key\x12\x01w\x1a\x02\x08\x02\x20\x01",
    ]
    .concat();
    assert_eq!(calls.last().map(|call| call.message.clone()), Some(expect));
}
