//! Tests of the filter, on a host that they control.

use super::{Action, Filter};
use crate::fake_host::{Called, FakeHost, Replied, leaked};
use crate::host::Status;
use crate::plugins::MAX_PLUGINS;

pub(super) const ROOT: u32 = 1;
pub(super) const MILLI: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MILLI;
const UNAVAILABLE: u32 = 14;
const KEY: &[u8] = b"request\0headers\0k";

const LOCAL: &str = r#"{"key":{"header":"k"},"local":{"limits":["2/s"]}}"#;
const SERVICE: &str = r#"{"key":{"header":"k"},"service":{"cluster":"c","domain":"d"}}"#;
const SERVICE_DENY: &str = r#"{"key":{"header":"k"},"service":{"cluster":"c","on_error":"deny"}}"#;

/// A new filter. It is made on a larger stack than a test has: a build without optimization makes it there
/// before it moves it.
fn filter() -> Box<Filter<64>> {
    let large = std::thread::Builder::new().stack_size(64 << 20);
    let made = large.spawn(|| Box::new(Filter::new())).map(std::thread::JoinHandle::join);
    let Ok(Ok(filter)) = made else { panic!("no thread") };
    filter
}

pub(super) struct World {
    pub(super) host: FakeHost,
    pub(super) filter: Box<Filter<64>>,
    next_stream: u32,
}

impl World {
    #[track_caller]
    pub(super) fn new(json: &str) -> Self {
        let mut world = Self { host: FakeHost::default(), filter: filter(), next_stream: 10 };
        assert!(world.configure(ROOT, json), "{:?}", world.host.log);
        world
    }

    pub(super) fn configure(&mut self, root: u32, json: &str) -> bool {
        self.host.configuration.set(Ok(leaked(json.as_bytes())));
        self.filter.context_created(root, 0);
        self.filter.configure(&self.host, root)
    }

    /// Sends a request with this key; returns its stream and what the filter does with it.
    pub(super) fn request_under(&mut self, root: u32, key: &[u8]) -> (u32, Action) {
        self.request_with(root, Ok(key))
    }

    /// The same, when the host answers this for the key.
    pub(super) fn request_with(&mut self, root: u32, key: Result<&[u8], Status>) -> (u32, Action) {
        let stream = self.next_stream;
        self.next_stream += 1;
        self.host.set_property(KEY, key);
        self.filter.context_created(stream, root);
        (stream, self.filter.request_headers(&self.host, stream, false))
    }

    pub(super) fn request(&mut self) -> (u32, Action) {
        self.request_under(ROOT, b"a")
    }

    /// Answers a call with this message.
    pub(super) fn answer(&mut self, call: u32, message: &[u8]) {
        self.host.grpc_message.set(Ok(leaked(message)));
        self.filter.call_answered(&self.host, call);
    }

    /// Opens the breaker by three failed calls; `random` is the host's randomness from then on,
    /// and calls keep failing.
    fn open_breaker(&mut self, random: Result<(u64, u64), Status>) {
        self.host.random.set(random);
        self.host.call.set(Err(Status::INTERNAL_FAILURE));
        for _ in 0..3 {
            self.request();
        }
    }

    pub(super) fn last_reply(&self) -> Option<Replied> {
        self.host.replies.borrow().last().cloned()
    }

    #[track_caller]
    pub(super) fn assert_counted(&self, expect: &[(&str, u64)]) {
        let expect: Vec<_> =
            expect.iter().map(|(name, count)| (format!("tidegate.{name}"), *count)).collect();
        assert_eq!(self.host.counted(), expect);
    }
}

#[test]
fn local_limits_are_per_key_and_refusals_show_the_quota() {
    let mut world = World::new(LOCAL);
    assert_eq!(world.request().1, Action::Continue);
    assert_eq!(world.request().1, Action::Continue);
    let (stream, action) = world.request();
    assert_eq!(action, Action::Pause);
    let headers = [
        ("x-ratelimit-limit", "2"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1"),
        ("retry-after", "1"),
        ("x-envoy-ratelimited", "true"),
    ];
    let expect = Replied {
        stream,
        status: 429,
        details: "tidegate_limited_local",
        body: "too many requests\n".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        grpc_status: 8,
    };
    assert_eq!(world.last_reply(), Some(expect));
    assert_eq!(world.request_under(ROOT, b"b").1, Action::Continue);
    world.host.advance(SECOND / 2);
    assert_eq!(world.request().1, Action::Continue);
    world.assert_counted(&[("ok", 4), ("limited_local", 1)]);
    assert!(world.host.calls.borrow().is_empty());
}

#[test]
fn none_refuses_every_request_and_unlimited_none() {
    let configured = |limits: &str| {
        World::new(&format!(r#"{{"key":{{"header":"k"}},"local":{{"limits":{limits}}}}}"#))
    };
    let mut none = configured(r#"["5/s","none"]"#);
    for _ in 0..3 {
        assert_eq!(none.request().1, Action::Pause);
    }
    // Such a request is never allowed, so no header says when.
    let headers = [
        ("x-ratelimit-limit", "0"),
        ("x-ratelimit-remaining", "0"),
        ("x-envoy-ratelimited", "true"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(none.last_reply().map(|reply| (reply.status, reply.headers)), Some((429, headers)));
    none.assert_counted(&[("limited_local", 3)]);

    let mut unlimited = configured(r#"["unlimited"]"#);
    for _ in 0..1_000 {
        assert_eq!(unlimited.request().1, Action::Continue);
    }
    unlimited.assert_counted(&[("ok", 1_000)]);

    let mut mixed = configured(r#"["unlimited","2/s"]"#);
    let actions = [0; 3].map(|_| mixed.request().1);
    assert_eq!(actions, [Action::Continue, Action::Continue, Action::Pause]);
}

#[test]
fn windows_begin_with_the_wall_clock() {
    let mut world = World::new(
        r#"{"key":{"header":"k"},"local":{"limits":["1/s window"]},"headers":false,"status":503}"#,
    );
    // The fake host's wall clock stands at a whole second and 1000 ns.
    assert_eq!(world.request().1, Action::Continue);
    world.host.advance(SECOND - 1001);
    assert_eq!(world.request().1, Action::Pause);
    assert_eq!(world.last_reply().map(|reply| (reply.status, reply.headers.len())), Some((503, 0)));
    world.host.advance(1);
    assert_eq!(world.request().1, Action::Continue);
}

#[test]
fn requests_without_a_usable_key() {
    let mut world = World::new(LOCAL);
    assert_eq!(world.request_with(ROOT, Err(Status::NOT_FOUND)).1, Action::Continue);
    world.host.set_header(b"k", Ok(b"a"));
    assert_eq!(world.request_under(ROOT, b"a,b").1, Action::Pause);
    let body = "the header k is repeated: it is the key of a rate limit\n";
    let reply = |world: &World| world.last_reply().map(|r| (r.status, r.details, r.body));
    assert_eq!(reply(&world), Some((400, "tidegate_bad_key", body.to_owned())));
    let too_long = Err(Status::INVALID_MEMORY_ACCESS);
    assert_eq!(world.request_with(ROOT, too_long).1, Action::Pause);
    assert_eq!(
        reply(&world).map(|(_, _, body)| body.contains("longer than 64 KiB less")),
        Some(true)
    );
    world.assert_counted(&[("missing_key", 1), ("bad_key", 2)]);

    let mut world =
        World::new(r#"{"key":{"header":"k"},"missing_key":"deny","local":{"limits":["2/s"]}}"#);
    assert_eq!(world.request_with(ROOT, Err(Status::NOT_FOUND)).1, Action::Pause);
    let body = "the header k is missing: it is the key of a rate limit\n";
    assert_eq!(reply(&world), Some((400, "tidegate_missing_key", body.to_owned())));
}

#[test]
fn the_service_decides_when_it_answers() {
    let mut world = World::new(SERVICE);
    let (stream, action) = world.request();
    assert_eq!(action, Action::Pause);
    let call = Called {
        root: ROOT,
        stream,
        cluster: "c".to_owned(),
        message: b"\x0a\x01d\x12\x0a\x0a\x08\x0a\x03key\x12\x01a\x18\x01".to_vec(),
        timeout_ms: 100,
        is_report: false,
    };
    assert_eq!(*world.host.calls.borrow(), [call]);
    world.answer(1, b"\x08\x01");
    assert_eq!(*world.host.resumed.borrow(), [stream]);

    world.host.call.set(Ok(3));
    let (stream, _) = world.request();
    // Over the limit of 50; reset in 1.5 s; the service names x-ratelimit-limit itself.
    let status = b"\x08\x02\x12\x02\x08\x32\x22\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
    let header = b"\x0a\x11X-RateLimit-Limit\x12\x0250";
    let bad_header = b"\x0a\x03a b\x12\x01c";
    let mut message = vec![8, 2, 0x12, status.len() as u8];
    message.extend(status);
    for header in [&header[..], bad_header] {
        message.extend([0x1A, header.len() as u8]);
        message.extend(header);
    }
    world.answer(3, &message);
    let reply = world.last_reply();
    let Some(reply) = reply else { panic!("no reply") };
    assert_eq!(
        (reply.stream, reply.status, reply.details),
        (stream, 429, "tidegate_limited_service")
    );
    let headers: Vec<_> = reply.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        headers,
        [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "2"),
            ("retry-after", "2"),
            ("x-envoy-ratelimited", "true"),
            ("X-RateLimit-Limit", "50")
        ]
    );
    world.assert_counted(&[("ok", 1), ("limited_service", 1)]);
}

#[test]
fn a_request_that_a_local_limit_refuses_is_not_sent_to_the_service() {
    let mut world = World::new(
        r#"{"key":{"header":"k"},"local":{"limits":["1/s"]},"service":{"cluster":"c"}}"#,
    );
    world.request();
    assert_eq!(world.request().1, Action::Pause);
    assert_eq!(world.host.calls.borrow().len(), 1);
    world.assert_counted(&[("limited_local", 1)]);
}

#[test]
fn requests_whose_call_failed_are_handled_by_on_error() {
    let mut world = World::new(SERVICE);
    let (stream, _) = world.request();
    world.filter.call_failed(&world.host, 1, UNAVAILABLE);
    assert_eq!(*world.host.resumed.borrow(), [stream]);

    let mut world = World::new(SERVICE_DENY);
    let (stream, _) = world.request();
    world.filter.call_failed(&world.host, 1, UNAVAILABLE);
    assert_eq!(
        world.last_reply().map(|r| (r.stream, r.status, r.details)),
        Some((stream, 503, "tidegate_service_error"))
    );
    // A response with an unknown code, and a call that could not be made.
    let (stream, _) = world.request();
    world.answer(1, b"\x08\x00");
    assert_eq!(world.last_reply().map(|r| (r.stream, r.status)), Some((stream, 503)));
    world.host.call.set(Err(Status(4)));
    let (stream, action) = world.request();
    assert_eq!((action, world.last_reply().map(|r| r.stream)), (Action::Pause, Some(stream)));
    world.assert_counted(&[("service_error", 3)]);
}

#[test]
fn failed_calls_count_for_the_breaker_also_when_the_client_has_gone() {
    let mut world = World::new(SERVICE);
    for call in 0..3 {
        world.host.call.set(Ok(call));
        let (stream, _) = world.request();
        world.filter.context_done(&world.host, stream);
        world.filter.call_failed(&world.host, call, UNAVAILABLE);
    }
    assert!(world.host.resumed.borrow().is_empty() && world.host.replies.borrow().is_empty());
    assert_eq!(world.request().1, Action::Continue);
    world.assert_counted(&[("service_error", 3), ("breaker_open", 1)]);
    // Answers to calls that are not in flight are ignored.
    world.answer(2, b"\x08\x01");
    world.filter.call_failed(&world.host, 1234, UNAVAILABLE);
}

#[test]
fn only_failures_of_the_service_count_for_the_breaker() {
    for status in 1..=16 {
        let mut world = World::new(SERVICE);
        for _ in 0..5 {
            let (stream, action) = world.request();
            if action == Action::Pause {
                world.filter.call_failed(&world.host, 1, status);
                assert_eq!(world.host.resumed.borrow().last(), Some(&stream));
            }
        }
        let calls = world.host.calls.borrow().len();
        let is_about_the_request = [3, 5, 6, 9, 11, 15].contains(&status);
        assert_eq!(calls, if is_about_the_request { 5 } else { 3 }, "{status}");
    }
    // Such a status shows that the service is back.
    let mut world = World::new(SERVICE);
    world.open_breaker(Ok((0, 0)));
    world.host.call.set(Ok(1));
    world.host.advance(SECOND);
    assert_eq!(world.request().1, Action::Pause, "the probe");
    world.filter.call_failed(&world.host, 1, 3);
    assert_eq!(world.request().1, Action::Pause);
}

#[test]
fn a_refused_request_never_waits_for_ever() {
    let mut message = vec![0x08, 0x02, 0x2A, 0xE0, 0xD4, 0x03];
    message.resize(6 + 60_000, b'x');
    let mut world = World::new(SERVICE);
    world.request();
    world.answer(1, &message);
    let body = |world: &World| world.last_reply().map(|reply| (reply.status, reply.body.len()));
    assert_eq!(body(&world), Some((429, 48 * 1024 - 6)));
    // A host that takes no such body is given none, and the request of one that takes no reply passes.
    world.host.max_body.set(Some(1_000));
    world.request();
    world.answer(1, &message);
    assert_eq!(body(&world), Some((429, "too many requests\n".len())));
    world.host.max_body.set(None);
    let (stream, _) = world.request();
    world.answer(1, &message);
    assert_eq!(*world.host.resumed.borrow(), [stream]);
    world.assert_counted(&[("limited_service", 3), ("hostcall_error", 2)]);
}

#[test]
fn an_open_breaker_keeps_requests_from_a_dead_service_until_a_probe_succeeds() {
    let mut world = World::new(SERVICE_DENY);
    world.open_breaker(Ok((u64::MAX, 0)));
    for _ in 0..17 {
        world.request();
    }
    assert_eq!(world.host.calls.borrow().len(), 3);
    world.host.call.set(Ok(9));
    world.host.advance(SECOND / 10 - 1);
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 3);
    world.host.advance(1);
    let (probe, _) = world.request();
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 4, "one probe only");
    world.answer(9, b"\x08\x01");
    assert_eq!(*world.host.resumed.borrow(), [probe]);
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 5);
    world.assert_counted(&[("ok", 1), ("service_error", 3), ("breaker_open", 19)]);
}

#[test]
fn waits_double_up_to_five_seconds_while_probes_fail() {
    let mut world = World::new(SERVICE);
    world.open_breaker(Ok((u64::MAX, 0)));
    for wait in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        let calls = world.host.calls.borrow().len();
        world.host.advance(wait * MILLI - 1);
        world.request();
        assert_eq!(world.host.calls.borrow().len(), calls, "{wait} ms less 1 ns");
        world.host.advance(1);
        world.request();
        assert_eq!(world.host.calls.borrow().len(), calls + 1, "{wait} ms");
    }
}

#[test]
fn the_hosts_randomness_chooses_a_wait_between_half_of_its_bound_and_all_of_it() {
    for (random, wait) in [
        (Ok((0, u64::MAX)), 50 * MILLI),
        (Ok((1 << 63, 0)), 75 * MILLI),
        (Ok((u64::MAX, 0)), 100 * MILLI),
        (Err(Status(12)), 100 * MILLI),
    ] {
        let mut world = World::new(SERVICE);
        world.open_breaker(random);
        world.host.advance(wait - 1);
        world.request();
        assert_eq!(world.host.calls.borrow().len(), 3, "{random:?}");
        world.host.advance(1);
        world.request();
        assert_eq!(world.host.calls.borrow().len(), 4, "{random:?}");
    }
}

#[test]
fn calls_that_are_in_flight_together_fail_as_one() {
    let mut world = World::new(SERVICE);
    for round in 0..3 {
        for call in 0..20 {
            world.host.call.set(Ok(100 * round + call));
            assert_eq!(world.request().1, Action::Pause, "{round} {call}");
        }
        for call in 0..20 {
            world.filter.call_failed(&world.host, 100 * round + call, UNAVAILABLE);
        }
    }
    assert_eq!(world.request().1, Action::Continue);
    world.assert_counted(&[("service_error", 60), ("breaker_open", 1)]);
}

#[test]
fn a_probe_without_an_outcome_is_given_up() {
    let mut world = World::new(SERVICE);
    world.open_breaker(Ok((u64::MAX, 0)));
    world.host.call.set(Ok(9));
    world.host.advance(100 * MILLI);
    world.request();
    // The call's timeout is 100 ms, and the longest wait is 5 s.
    world.host.advance(5_100 * MILLI - 1);
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 4);
    world.host.advance(1);
    world.host.call.set(Ok(10));
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 5);
    // The outcome of the first probe is ignored now; the outcome of the second counts.
    world.filter.call_failed(&world.host, 9, UNAVAILABLE);
    world.answer(10, b"\x08\x01");
    assert_eq!(world.request().1, Action::Pause);
}

#[test]
fn one_failure_soon_after_a_successful_probe_opens_the_breaker_again() {
    let mut world = World::new(SERVICE);
    world.open_breaker(Ok((u64::MAX, 0)));
    world.host.advance(100 * MILLI);
    world.host.call.set(Ok(9));
    world.request();
    world.answer(9, b"\x08\x01");
    world.host.call.set(Err(Status::INTERNAL_FAILURE));
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 5);
    world.host.advance(200 * MILLI - 1);
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 5, "the wait goes on doubling");
    world.host.advance(1);
    world.request();
    assert_eq!(world.host.calls.borrow().len(), 6);
}

#[test]
fn a_refused_configuration_is_logged_and_the_old_one_stays_in_force() {
    let mut world = World::new(LOCAL);
    world.request();
    world.request();
    assert!(!world.configure(ROOT, r#"{"key":{"header":"k"},"local":{"limits":["0/s"]}}"#));
    assert_eq!(
        *world.host.log.borrow(),
        [
            "tidegate: configuration refused: local.limits[0]: found \"0/s\": tokens must be at least 1"
        ]
    );
    assert_eq!(world.request().1, Action::Pause, "still limited");
    // The same limits keep their buckets; other limits begin with full ones.
    assert!(world.configure(ROOT, &LOCAL.replace("}}", "},\"status\":430}")));
    assert_eq!(world.request().1, Action::Pause);
    assert_eq!(world.last_reply().map(|reply| reply.status), Some(430));
    assert!(world.configure(ROOT, &LOCAL.replace("2/s", "3/s")));
    assert_eq!(world.request().1, Action::Continue);
}

#[test]
fn a_host_that_lacks_a_needed_call_is_refused_when_configured() {
    let refused = |withhold: fn(&FakeHost)| {
        let mut filter = filter();
        let host = FakeHost::default();
        host.configuration.set(Ok(LOCAL.as_bytes()));
        withhold(&host);
        assert!(!filter.configure(&host, ROOT));
        let log = host.log.borrow().join("");
        log.trim_start_matches("tidegate: configuration refused: ").to_owned()
    };
    let no = Status(12);
    assert_eq!(
        refused(|host| host.monotonic.set(Err(Status(12)))),
        "the host gives no clock (clock_time_get)"
    );
    assert_eq!(
        refused(|host| host.random.set(Err(Status(12)))),
        "the host gives no randomness (random_get)"
    );
    assert_eq!(
        refused(|host| host.metrics.set(Err(Status(12)))),
        "the host does not let it define metrics"
    );
    assert_eq!(refused(|host| host.configuration.set(Err(Status(6)))), "it is larger than 64 KiB");
    assert_eq!(
        refused(|host| host.configuration.set(Err(Status(1)))),
        "configuration: not JSON at byte 0: expected a value"
    );

    let mut world = World::new(LOCAL);
    assert_eq!(world.host.defined(), 14);
    world.host.set_property(KEY, Err(no));
    world.filter.context_created(50, ROOT);
    assert_eq!(world.filter.request_headers(&world.host, 50, false), Action::Continue);
    world.host.monotonic.set(Err(no));
    assert_eq!(world.request().1, Action::Continue);
    world.assert_counted(&[("missing_key", 1), ("hostcall_error", 2)]);
}

#[test]
fn plugins_of_one_vm_have_their_own_buckets_and_make_room_when_they_are_removed() {
    let mut world = World::new(LOCAL);
    let other = LOCAL.replace("{\"key\"", "{\"stat_prefix\":\"other\",\"key\"");
    assert!(world.configure(2, &other));
    world.request();
    world.request();
    assert_eq!(world.request().1, Action::Pause);
    assert_eq!(world.request_under(2, b"a").1, Action::Continue);
    // The plugin of a stream that was not announced is unknown while there are two.
    assert_eq!(world.filter.request_headers(&world.host, 99, false), Action::Pause);
    assert_eq!(
        world.last_reply().map(|r| (r.stream, r.details)),
        Some((99, "tidegate_not_configured"))
    );
    for root in 3..=MAX_PLUGINS as u32 {
        assert!(world.configure(root, LOCAL));
    }
    assert!(!world.configure(1000, LOCAL));
    assert!(
        world
            .host
            .log
            .borrow()
            .join("")
            .ends_with("256 filters already; give this one another vm_id")
    );
    world.filter.context_done(&world.host, 2);
    assert!(world.configure(1000, LOCAL));
    assert_eq!(world.request_under(1000, b"new").1, Action::Continue);
    assert_eq!(world.request_under(2, b"a").1, Action::Pause, "not configured");
    for root in 2..=1000 {
        world.filter.context_done(&world.host, root);
    }
    // With one plugin left it is known.
    assert_eq!(world.filter.request_headers(&world.host, 98, false), Action::Pause);
    assert_eq!(
        world.last_reply().map(|r| (r.stream, r.details)),
        Some((98, "tidegate_limited_local"))
    );
}

#[test]
fn a_failed_resume_is_counted() {
    let mut world = World::new(SERVICE);
    world.request();
    world.host.resume.set(Err(Status(2)));
    world.answer(1, b"\x08\x01");
    world.assert_counted(&[("ok", 1), ("hostcall_error", 1)]);
}
