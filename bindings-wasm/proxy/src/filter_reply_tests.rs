//! Tests of the form of refusals, and of those that are not enforced.

use super::Action;
use super::tests::{ROOT, World};

fn world(more: &str) -> World {
    World::new(&format!(
        r#"{{"key":{{"header":"k"}},"local":{{"limits":["2/min burst 1"]}}{more}}}"#
    ))
}

/// The headers of a refusal.
fn headers(more: &str) -> Vec<String> {
    let mut world = world(more);
    world.request();
    assert_eq!(world.request().1, Action::Pause);
    let reply = world.last_reply();
    let headers = reply.iter().flat_map(|reply| &reply.headers);
    headers.map(|(name, value)| format!("{name}: {value}")).collect()
}

#[test]
fn headers_have_the_form_of_the_option() {
    let x = ["x-ratelimit-limit: 2", "x-ratelimit-remaining: 0", "x-ratelimit-reset: 30"];
    let ietf = [r#"ratelimit-policy: "default";q=2;w=60"#, r#"ratelimit: "default";r=0;t=30"#];
    let (retry, envoy) = (["retry-after: 30"], ["x-envoy-ratelimited: true"]);
    assert_eq!(headers(""), [&x[..], &retry, &envoy].concat());
    assert_eq!(headers(r#","header_form":"ietf""#), [&ietf[..], &retry, &envoy].concat());
    assert_eq!(headers(r#","header_form":"both""#), [&x[..], &ietf, &retry, &envoy].concat());
    assert_eq!(headers(r#","headers":false,"header_form":"both""#), [""; 0]);
}

#[test]
fn the_body_and_the_grpc_status_can_be_chosen() {
    let mut world = world(
        r#","body":"{\"error\":\"slow down\"}","content_type":"application/json","grpc_status":14,"headers":false"#,
    );
    world.request();
    world.request();
    let reply = world.last_reply().map(|reply| (reply.body, reply.headers, reply.grpc_status));
    let header = ("content-type".to_owned(), "application/json".to_owned());
    assert_eq!(reply, Some((r#"{"error":"slow down"}"#.to_owned(), vec![header], 14)));
}

#[test]
fn the_service_and_the_filter_mean_the_same_by_their_limit() {
    let mut world = World::new(
        r#"{"key":{"header":"k"},"service":{"cluster":"c"},"header_form":"both","body":"no"}"#,
    );
    world.request();
    // Over the limit of 50 per hour, for 90 s.
    world.answer(1, b"\x08\x02\x12\x0c\x08\x02\x12\x04\x08\x32\x10\x03\x22\x02\x08\x5a");
    let reply = world.last_reply();
    let headers: Vec<_> = reply.iter().flat_map(|reply| &reply.headers).collect();
    let value = |name: &str| {
        let found = headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(value("x-ratelimit-limit"), Some("50"));
    assert_eq!(value("ratelimit-policy"), Some(r#""default";q=50;w=3600"#));
    assert_eq!(value("ratelimit"), Some(r#""default";r=0;t=90"#));
    assert_eq!(reply.map(|reply| reply.body).as_deref(), Some("no"));
}

#[test]
fn refusals_that_are_not_enforced_are_counted_and_pass() {
    let mut shadow = world(r#","enforced":0"#);
    for _ in 0..5 {
        assert_eq!(shadow.request().1, Action::Continue);
    }
    shadow.assert_counted(&[("ok", 1), ("limited_local", 4), ("shadow", 4)]);

    let mut service = World::new(
        r#"{"key":{"header":"k"},"service":{"cluster":"c","mode":"leased"},"enforced":0}"#,
    );
    let (stream, _) = service.request();
    service.answer(1, b"\x08\x02");
    assert_eq!(*service.host.resumed.borrow(), [stream]);
    assert_eq!(service.request().1, Action::Continue, "it is remembered, and not enforced");
    service.assert_counted(&[("limited_service", 2), ("shadow", 2)]);

    let mut off = world(r#","enabled":0"#);
    for _ in 0..5 {
        assert_eq!(off.request().1, Action::Continue);
    }
    off.assert_counted(&[]);
}

#[test]
fn a_percentage_is_drawn_for_each_request() {
    let mut half = world(r#","enforced":50"#);
    half.request();
    for (bits, action) in [(49, Action::Pause), (50, Action::Continue), (99, Action::Continue)] {
        half.host.random.set(Ok((bits, 0)));
        assert_eq!(half.request_under(ROOT, b"a").1, action, "{bits}");
    }
}

/// The headers that were added to the response of an allowed request.
fn added(world: &mut World, stream: u32) -> Vec<(String, String)> {
    world.host.response_headers.borrow_mut().clear();
    world.filter.response_headers(&world.host, stream, true);
    world.filter.context_done(&world.host, stream);
    let headers = world.host.response_headers.borrow();
    headers.clone()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// OK, 7 of 50 left of a minute for 3 s, and 9 of 10 of another limit.
const OK_OF_TWO: &[u8] =
    b"\x08\x01\x12\x0e\x08\x01\x12\x04\x08\x0a\x10\x01\x18\x09\x22\x02\x08\x01\
      \x12\x0e\x08\x01\x12\x04\x08\x32\x10\x02\x18\x07\x22\x02\x08\x03";

#[test]
fn allowed_answers_have_the_headers_of_the_limit_of_which_least_remains() {
    let local = r#""key":{"header":"k"},"local":{"limits":["100/min burst 9","5/s"]}"#;
    let mut world = World::new(&format!(r#"{{{local},"allowed_headers":true}}"#));
    let (stream, _) = world.request();
    let expect =
        [("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", "4"), ("x-ratelimit-reset", "1")];
    assert_eq!(added(&mut world, stream), pairs(&expect));
    assert_eq!(added(&mut world, stream), [], "once");
    let mut world = World::new(&format!("{{{local}}}"));
    let (stream, _) = world.request();
    assert_eq!(added(&mut world, stream), [], "unless configured");

    let service = r#""service":{"cluster":"c","domain":"d"},"allowed_headers":true"#;
    let mut world = World::new(&format!(r#"{{"key":{{"header":"k"}},{service}}}"#));
    let (stream, _) = world.request();
    world.answer(1, OK_OF_TWO);
    let of_service =
        [("x-ratelimit-limit", "50"), ("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "3")];
    assert_eq!(added(&mut world, stream), pairs(&of_service));
    // Both, in the other form.
    let mut world = World::new(&format!(r#"{{{local},{service},"header_form":"ietf"}}"#));
    let (stream, _) = world.request();
    world.answer(1, OK_OF_TWO);
    let expect =
        [("ratelimit-policy", "\"default\";q=5;w=1"), ("ratelimit", "\"default\";r=4;t=1")];
    assert_eq!(added(&mut world, stream), pairs(&expect));
    // A request that is refused has the headers of the refusal.
    let (stream, _) = world.request();
    world.answer(1, b"\x08\x02");
    assert_eq!(added(&mut world, stream), []);
}

#[test]
fn the_services_headers_are_passed_on_with_its_ok() {
    let headers = [OK_OF_TWO, b"\x1a\x06\x0a\x01a\x12\x01b\x1a\x06\x0a\x01a\x12\x01c"].concat();
    let mut world = World::new(r#"{"key":{"header":"k"},"service":{"cluster":"c"}}"#);
    let (stream, _) = world.request();
    world.answer(1, &headers);
    assert_eq!(added(&mut world, stream), pairs(&[("a", "b"), ("a", "c")]));
    // Its own take precedence, and what HTTP does not allow is left out.
    let mut world =
        World::new(r#"{"key":{"header":"k"},"service":{"cluster":"c"},"allowed_headers":true}"#);
    let own = b"\x1a\x18\x0a\x11X-RateLimit-Limit\x12\x03x y\x1a\x07\x0a\x02b \x12\x01b";
    let (stream, _) = world.request();
    world.answer(1, &[OK_OF_TWO, own].concat());
    let expect = [
        ("x-ratelimit-limit", "50"),
        ("x-ratelimit-remaining", "7"),
        ("x-ratelimit-reset", "3"),
        ("X-RateLimit-Limit", "x y"),
    ];
    assert_eq!(added(&mut world, stream), pairs(&expect));
}

#[test]
fn tokens_taken_ahead_are_shown_as_what_remains() {
    let mut world = World::new(
        r#"{"key":{"header":"k"},"service":{"cluster":"c","mode":"leased"},"allowed_headers":true}"#,
    );
    // 7 of 800 left.
    let ok = b"\x08\x01\x12\x0b\x08\x01\x12\x05\x08\xa0\x06\x10\x01\x18\x07";
    for call in 0..3 {
        world.host.call.set(Ok(call));
        let (stream, action) = world.request();
        assert_eq!(action, Action::Pause);
        world.answer(call, ok);
        world.filter.context_done(&world.host, stream);
    }
    world.host.call.set(Ok(10));
    world.request();
    world.answer(10, ok);
    let (stream, action) = world.request();
    assert_eq!(action, Action::Continue);
    let found = added(&mut world, stream);
    let remaining = pairs(&[("x-ratelimit-limit", "800"), ("x-ratelimit-remaining", "3")]);
    assert_eq!(found, remaining);
}
