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
    assert_eq!(headers(r#","header_form":"ietf""#), [&retry[..], &ietf, &envoy].concat());
    assert_eq!(headers(r#","header_form":"both""#), [&x[..], &retry, &ietf, &envoy].concat());
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
