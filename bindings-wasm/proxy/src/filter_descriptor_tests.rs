//! Tests of the filter with several descriptors, and of costs, on a host that they control.

use super::tests::{ROOT, SECOND, World};
use super::{Action, Counter};
use crate::host::Status;

const PATH: &[u8] = b"request\0url_path";
const ADDRESS: &[u8] = b"source\0address";
const COST: &[u8] = b"request\0headers\0x-cost";

fn two(first: &str, second: &str, more: &str) -> World {
    let world = World::new(&format!(
        r#"{{"descriptors":[
            {{"actions":[{{"remote_address":{{}}}}]{first}}},
            {{"actions":[{{"request_headers":{{"header_name":"k","descriptor_key":"k"}}}},{{"path":{{}}}}]{second}}}
        ]{more}}}"#
    ));
    world.host.set_property(ADDRESS, Ok(b"192.0.2.1:1000"));
    world.host.set_property(PATH, Ok(b"/a"));
    world
}

const TWO: &str = r#","local":{"limits":["2/h"]}"#;
const THREE: &str = r#","local":{"limits":["3/h"]}"#;
const SERVICE: &str = r#","service":{"cluster":"c","domain":"d"}"#;

#[test]
fn each_descriptor_has_its_limits_and_a_refusal_charges_none_of_them() {
    let mut world = two(THREE, TWO, "");
    let mut statuses = |key: &[u8]| world.request_under(ROOT, key).1 == Action::Continue;
    assert!(statuses(b"a") && statuses(b"a"));
    // The key's own bucket refuses, so the address still has its third token.
    assert!(!statuses(b"a") && !statuses(b"a"));
    assert!(statuses(b"b"));
    assert!(!statuses(b"b") && !statuses(b"c"));
    world.assert_counted(&[("ok", 3), ("limited_local", 4)]);
    // Another address has other tokens, and the pair of `b` and another path too.
    world.host.set_property(ADDRESS, Ok(b"192.0.2.2:1000"));
    world.host.set_property(PATH, Ok(b"/b"));
    assert_eq!(world.request_under(ROOT, b"b").1, Action::Continue);
}

#[test]
fn one_request_to_the_service_has_all_descriptors_that_apply() {
    let mut world = two("", "", SERVICE);
    assert_eq!(world.request_under(ROOT, b"x").1, Action::Pause);
    let message = world.host.calls.borrow()[0].message.clone();
    let expect = [
        &b"\x0a\x01d"[..],
        b"\x12\x1d\x0a\x1b\x0a\x0eremote_address\x12\x09192.0.2.1",
        b"\x12\x14\x0a\x06\x0a\x01k\x12\x01x\x0a\x0a\x0a\x04path\x12\x02/a",
        b"\x18\x01",
    ]
    .concat();
    assert_eq!(message, expect);
    // Without the header only the address is left.
    world.host.call.set(Ok(2));
    world.request_with(ROOT, Err(Status::NOT_FOUND));
    let message = world.host.calls.borrow()[1].message.clone();
    assert_eq!(message.len(), expect.len() - 22);
}

#[test]
fn a_mode_keeps_a_descriptor_from_the_service() {
    let mut world = two(&format!(r#"{TWO},"mode":"local""#), r#","mode":"exact""#, SERVICE);
    world.request_with(ROOT, Err(Status::NOT_FOUND));
    assert!(world.host.calls.borrow().is_empty());
    world.request_under(ROOT, b"x");
    assert_eq!(world.host.calls.borrow().len(), 1);
    assert!(!world.host.calls.borrow()[0].message.windows(7).any(|part| part == b"address"));
    assert_eq!(world.request_under(ROOT, b"x").1, Action::Pause);
    world.assert_counted(&[("ok", 1), ("limited_local", 1)]);
}

#[test]
fn a_descriptor_lacks_an_entry_or_does_not_apply_or_is_demanded() {
    let action =
        r#"{"request_headers":{"header_name":"k","descriptor_key":"k","skip_if_absent":true}}"#;
    let config = |action: &str, more: &str| {
        format!(r#"{{"descriptors":[{{"actions":[{action},{{"path":{{}}}}]{TWO}}}]{more}}}"#)
    };
    let mut skipping = World::new(&config(action, ""));
    skipping.host.set_property(PATH, Ok(b"/a"));
    for left_out in [Ok(&b"/a"[..]), Err(Status::NOT_FOUND)] {
        // The same bytes in another entry are another key.
        skipping.host.set_property(PATH, Ok(b"/a"));
        let actions = [0; 3].map(|_| skipping.request_with(ROOT, left_out).1);
        assert_eq!(actions, [Action::Continue, Action::Continue, Action::Pause]);
    }
    let strict = action.replace(",\"skip_if_absent\":true", "");
    let mut world = World::new(&config(&strict, r#","missing_key":"deny""#));
    world.host.set_property(PATH, Ok(b"/a"));
    assert_eq!(world.request_with(ROOT, Err(Status::NOT_FOUND)).1, Action::Pause);
    world.assert_counted(&[("missing_key", 1)]);
    let mut world = World::new(&config(&strict, ""));
    world.host.set_property(PATH, Err(Status::NOT_FOUND));
    assert_eq!(world.request_under(ROOT, b"a").1, Action::Continue);
    world.host.set_property(PATH, Err(Status(12)));
    assert_eq!(world.request_under(ROOT, b"a").1, Action::Continue);
    world.assert_counted(&[("missing_key", 2), ("hostcall_error", 1)]);
}

#[test]
fn a_header_that_matches_makes_a_descriptor_apply() {
    let mut world = World::new(
        r#"{"descriptors":[{"actions":[{"header_value_match":{"descriptor_value":"free",
            "headers":[{"name":"k","string_match":{"exact":"free"}}]}}],"local":{"limits":["1/h"]}}],
            "missing_key":"deny"}"#,
    );
    for _ in 0..3 {
        assert_eq!(world.request_under(ROOT, b"paid").1, Action::Continue);
    }
    assert_eq!(world.request_under(ROOT, b"free").1, Action::Continue);
    assert_eq!(world.request_under(ROOT, b"free").1, Action::Pause);
    world.host.set_header(b"k", Ok(b"free"));
    assert_eq!(world.request_under(ROOT, b"free,x").1, Action::Pause);
    assert_eq!(world.last_reply().map(|reply| reply.status), Some(400));
    world.assert_counted(&[("ok", 1), ("limited_local", 1), ("missing_key", 3), ("bad_key", 1)]);
}

#[test]
fn a_request_takes_its_cost_of_every_limit() {
    let mut world =
        World::new(r#"{"key":{"header":"k"},"local":{"limits":["10/h","100/d"]},"cost":4}"#);
    let actions = [0; 3].map(|_| world.request().1);
    assert_eq!(actions, [Action::Continue, Action::Continue, Action::Pause]);
    world.host.advance(720 * SECOND);
    assert_eq!(world.request().1, Action::Continue);

    let mut world = World::new(
        r#"{"key":{"header":"k"},"local":{"limits":["10/h"]},"cost":{"header":{"name":"x-cost","max":20}}}"#,
    );
    let mut cost = |cost: &[u8]| {
        world.host.set_property(COST, Ok(cost));
        let action = world.request().1;
        (action, world.last_reply().map_or(0, |reply| reply.status))
    };
    assert_eq!(cost(b"9"), (Action::Continue, 0));
    assert_eq!(cost(b"2"), (Action::Pause, 429));
    // More than the burst is refused for ever, and more than `max` is no cost.
    assert_eq!(cost(b"11"), (Action::Pause, 429));
    assert_eq!(cost(b"21"), (Action::Pause, 400));
    assert_eq!(cost(b"1"), (Action::Continue, 400));
    world.assert_counted(&[("ok", 2), ("limited_local", 2), ("bad_key", 1)]);
    assert!(Counter::ALL.len() < 32);
}

#[test]
fn the_service_is_told_one_cost_for_all_descriptors_or_one_for_each() {
    let mut same = two(r#","cost":300"#, r#","cost":300"#, SERVICE);
    same.request_under(ROOT, b"x");
    let message = same.host.calls.borrow()[0].message.clone();
    assert!(message.ends_with(b"\x12\x02/a\x18\xac\x02"), "{message:?}");
    let mut each = two("", r#","cost":300"#, SERVICE);
    each.request_under(ROOT, b"x");
    let message = each.host.calls.borrow()[0].message.clone();
    let expect = [
        &b"\x0a\x01d"[..],
        b"\x12\x21\x0a\x1b\x0a\x0eremote_address\x12\x09192.0.2.1\x1a\x02\x08\x01",
        b"\x12\x19\x0a\x06\x0a\x01k\x12\x01x\x0a\x0a\x0a\x04path\x12\x02/a\x1a\x03\x08\xac\x02",
        b"\x18\x01",
    ]
    .concat();
    assert_eq!(message, expect);
}

#[test]
fn the_longest_request_to_the_service_fits() {
    let name = "n".repeat(255);
    let actions: Vec<String> = (0..16)
        .map(|number| {
            // The texts share their memory, so that all of them may be long.
            let cookie = &name[..200 + number];
            format!(r#"{{"cookie":{{"name":"{cookie}","descriptor_key":"{name}"}}}}"#)
        })
        .collect();
    let actions = actions.chunks(2).map(|pair| format!(r#"{{"actions":[{}]}}"#, pair.join(",")));
    let descriptors = actions.collect::<Vec<_>>().join(",");
    let mut world = World::new(&format!(
        r#"{{"descriptors":[{descriptors}],"service":{{"cluster":"c","domain":"{name}"}}}}"#
    ));
    let cookies: Vec<String> =
        (0..16).map(|number| format!("{}={}", &name[..200 + number], "v".repeat(1024))).collect();
    world.host.set_property(b"request\0headers\0cookie", Ok(cookies.join("; ").as_bytes()));
    assert_eq!(world.request().1, Action::Pause);
    assert_eq!(world.host.calls.borrow().len(), 1);
    assert!(world.host.calls.borrow()[0].message.len() > 16 * (1024 + 255));
}

/// Whatever a client sends, its request is answered or resumed, once, and nothing fails.
#[test]
fn any_bytes_of_a_client_are_decided_on_once() {
    let mut world = World::new(
        r#"{"descriptors":[{"actions":[
            {"cookie":{"name":"a","descriptor_key":"c","skip_if_absent":true}},
            {"query_parameters":{"query_parameter_name":"a","descriptor_key":"q","skip_if_absent":true}},
            {"masked_remote_address":{}},{"host":{}}]}],
            "missing_key":"deny","service":{"cluster":"c","on_error":"deny"}}"#,
    );
    let mut random: u64 = 1;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    let alphabet = b"aA=&;,%+\\\" \t.:[]0/1f\xFF\0";
    for call in 0..3_000_u32 {
        for path in [
            &b"request\0headers\0cookie"[..],
            b"request\0query",
            b"source\0address",
            b"request\0host",
        ] {
            let bytes: Vec<u8> = (0..draw(24)).map(|_| alphabet[draw(alphabet.len())]).collect();
            world.host.set_property(path, Ok(&bytes));
            world.host.set_header(b"cookie", Ok(&bytes));
        }
        world.host.call.set(Ok(call));
        let done =
            |world: &World| world.host.replies.borrow().len() + world.host.resumed.borrow().len();
        let before = done(&world);
        assert_eq!(world.request().1, Action::Pause);
        if done(&world) == before {
            world.answer(call, b"\x08\x01");
        }
        assert_eq!(done(&world), before + 1);
    }
    let counted = world.host.counted();
    let names: Vec<_> = counted.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tidegate.ok", "tidegate.missing_key", "tidegate.bad_key"]);
}
