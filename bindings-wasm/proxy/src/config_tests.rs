//! Tests of the configuration: its defaults, its bounds, and the message of every error.

use super::{Config, Limits, Policy};

fn parse(json: &str) -> Result<Config, String> {
    Config::parse(json.as_bytes()).map_err(|error| error.to_string())
}

#[track_caller]
fn parsed(json: &str) -> Config {
    parse(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The entries of all descriptors: their keys and sources.
fn keys(config: &Config) -> Vec<String> {
    let all = &config.descriptors;
    let entries = all.as_slice().iter().flat_map(|descriptor| all.entries(descriptor));
    entries
        .map(|entry| {
            let source = all.source(entry);
            format!("{}: {}", all.names.text(entry.key), source.describe(&all.names))
        })
        .collect()
}

fn limits(config: &Config) -> Vec<Vec<String>> {
    let descriptors = config.descriptors.as_slice().iter();
    let limits = descriptors.map(|descriptor| descriptor.limits.iter().flat_map(Limits::as_slice));
    limits.map(|limits| limits.map(ToString::to_string).collect()).collect()
}

#[test]
fn the_shortest_configuration_has_the_defaults() {
    let config = parsed(r#"{"key":{"path":{}},"local":{"limits":["10/s"]}}"#);
    assert_eq!(keys(&config), ["key: the path"]);
    assert_eq!((config.missing_key, config.status, config.headers), (Policy::Allow, 429, true));
    assert_eq!(config.descriptors.names.text(config.stat_prefix), "tidegate");
    assert!(config.service.is_none());
    assert_eq!(limits(&config), [vec!["10/s"]]);

    let config = parsed(r#"{"key":{"client_address":{}},"service":{"cluster":"c"}}"#);
    assert_eq!(keys(&config), ["key: the client's address"]);
    let service = config.service.as_ref();
    let text = |name| config.descriptors.names.text(name);
    assert_eq!(
        service.map(|s| (text(s.domain), s.timeout_ms, s.on_error)),
        Some(("tidegate", 100, Policy::Allow))
    );
}

#[test]
fn every_field_can_be_given() {
    let config = parsed(
        r#" { "key": {"header": "X-Api-Key"}, "missing_key": "deny",
              "local": {"limits": ["100/s burst 20", "1000/h window", "5/s", "6/s"], "max_keys": 65536},
              "service": {"cluster": "tide\u0067ate", "domain": "d", "descriptor": "e",
                          "timeout": "60s", "on_error": "deny"},
              "status": 599, "stat_prefix": "a_b-C.9", "headers": false } "#,
    );
    assert_eq!(keys(&config), ["e: the header x-api-key"]);
    assert_eq!((config.missing_key, config.status, config.headers), (Policy::Deny, 599, false));
    assert_eq!((limits(&config)[0].len(), config.max_keys), (4, 65_536));
    let text = |name| config.descriptors.names.text(name);
    assert_eq!(
        config.service.as_ref().map(|s| (text(s.cluster), s.timeout_ms, s.on_error)),
        Some(("tidegate", 60_000, Policy::Deny))
    );
}

#[test]
fn every_error_names_the_field_the_value_found_and_the_bound() {
    let local = r#""local":{"limits":["1/s"]}"#;
    let path = r#""key":{"path":{}}"#;
    let cases = [
        ("", "configuration: not JSON at byte 0: expected a value"),
        ("{", "configuration: not JSON at byte 1: expected the name of a field"),
        ("[]", "configuration: found an array, wanted an object"),
        ("null", "configuration: found null, wanted an object"),
        ("{}", "configuration: neither local nor service is given; at least one of them must be"),
        (
            &format!("{{{path}}}"),
            "configuration: neither local nor service is given; at least one of them must be",
        ),
        (
            &format!("{{{local}}}"),
            "key: missing; wanted {\"header\": \"x-api-key\"}, {\"client_address\": {}} or {\"path\": {}}",
        ),
        (
            &format!("{{{path},{local},\"limit\":1}}"),
            "limit: unknown field; known here: key, descriptors, missing_key, local, service, cost, status, stat_prefix, headers, header_form, body, content_type, grpc_status, enabled, enforced and allowed_headers",
        ),
        (&format!("{{{path},{local},{local}}}"), "local: given twice"),
        (&format!("{{{path},{local}}} x"), "configuration: not JSON at byte 47: expected the end"),
        (
            &format!("{{\"key\":\"path\",{local}}}"),
            "key: found \"path\", wanted {\"header\": \"x-api-key\"}, {\"client_address\": {}} or {\"path\": {}}",
        ),
        (
            &format!("{{\"key\":{{}},{local}}}"),
            "key: missing; wanted {\"header\": \"x-api-key\"}, {\"client_address\": {}} or {\"path\": {}}",
        ),
        (
            &format!("{{\"key\":{{\"cookie\":\"a\"}},{local}}}"),
            "key.cookie: unknown field; known here: header, client_address and path",
        ),
        (
            &format!("{{\"key\":{{\"path\":{{}},\"header\":\"a\"}},{local}}}"),
            "key.header: a second source; give exactly one",
        ),
        (
            &format!("{{\"key\":{{\"path\":{{\"query\":1}}}},{local}}}"),
            "key.path.query: unknown field; known here: none",
        ),
        (
            &format!("{{\"key\":{{\"header\":\"a b\"}},{local}}}"),
            "key.header: found \"a b\", wanted the name of a header, 1 to 64 of the characters that HTTP allows",
        ),
        (
            &format!("{{\"key\":{{\"header\":\"\"}},{local}}}"),
            "key.header: found \"\", wanted the name of a header, 1 to 64 of the characters that HTTP allows",
        ),
        (
            &format!("{{{path},\"missing_key\":\"refuse\",{local}}}"),
            "missing_key: found \"refuse\", wanted \"allow\" or \"deny\"",
        ),
        (
            &format!("{{{path},\"missing_key\":true,{local}}}"),
            "missing_key: found true, wanted \"allow\" or \"deny\"",
        ),
        (
            &format!("{{{path},\"local\":{{}}}}"),
            "local.limits: missing; wanted a list of 1 to 4 limits, such as [\"100/s burst 20\"]",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[]}}}}"),
            "local.limits: found an empty list, wanted a list of 1 to 4 limits, such as [\"100/s burst 20\"]",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":\"1/s\"}}}}"),
            "local.limits: found \"1/s\", wanted a list of 1 to 4 limits, such as [\"100/s burst 20\"]",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[\"1/s\",\"0/s\"]}}}}"),
            "local.limits[1]: found \"0/s\": tokens must be at least 1",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[\"1/fortnight\"]}}}}"),
            "local.limits[0]: found \"1/fortnight\": at byte 2: unknown unit of time; use ns, us, ms, s, min, h, d or w",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[1]}}}}"),
            "local.limits[0]: found 1, wanted the text of a limit, such as \"100/s burst 20\"",
        ),
        (
            &format!(
                "{{{path},\"local\":{{\"limits\":[\"1/s\",\"2/s\",\"3/s\",\"4/s\",\"5/s\"]}}}}"
            ),
            "local.limits[4]: a limiter holds 1 to 4 limits",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[\"1/s\"],\"max_keys\":15}}}}"),
            "local.max_keys: found 15, wanted a whole number from 16 to 65536",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[\"1/s\"],\"max_keys\":65537}}}}"),
            "local.max_keys: found 65537, wanted a whole number from 16 to 65536",
        ),
        (
            &format!("{{{path},\"local\":{{\"limits\":[\"1/s\"],\"burst\":1}}}}"),
            "local.burst: unknown field; known here: limits and max_keys",
        ),
        (
            &format!("{{{path},\"service\":{{}}}}"),
            "service.cluster: missing; wanted a string of 1 to 255 bytes",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"\"}}}}"),
            "service.cluster: found \"\", wanted a string of 1 to 255 bytes",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"c\",\"timeout\":\"20\"}}}}"),
            "service.timeout: found \"20\", wanted a whole number of ms or s from \"1ms\" to \"60s\"",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"c\",\"timeout\":\"0ms\"}}}}"),
            "service.timeout: found \"0ms\", wanted a whole number of ms or s from \"1ms\" to \"60s\"",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"c\",\"timeout\":\"61s\"}}}}"),
            "service.timeout: found \"61s\", wanted a whole number of ms or s from \"1ms\" to \"60s\"",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"c\",\"timeout\":\"+5s\"}}}}"),
            "service.timeout: found \"+5s\", wanted a whole number of ms or s from \"1ms\" to \"60s\"",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"c\",\"timeout\":20}}}}"),
            "service.timeout: found 20, wanted a whole number of ms or s from \"1ms\" to \"60s\"",
        ),
        (
            &format!("{{{path},\"service\":{{\"cluster\":\"c\",\"on_error\":\"local\"}}}}"),
            "service.on_error: found \"local\", wanted \"allow\" or \"deny\"",
        ),
        (
            &format!("{{{path},{local},\"status\":200}}"),
            "status: found 200, wanted a whole number from 400 to 599",
        ),
        (
            &format!("{{{path},{local},\"status\":429.5}}"),
            "status: found 429.5, wanted a whole number from 400 to 599",
        ),
        (
            &format!("{{{path},{local},\"status\":\"429\"}}"),
            "status: found \"429\", wanted a whole number from 400 to 599",
        ),
        (
            &format!("{{{path},{local},\"stat_prefix\":\"a b\"}}"),
            "stat_prefix: found \"a b\", wanted 1 to 64 of the characters a-z, A-Z, 0-9, \"_\", \"-\" and \".\"",
        ),
        (&format!("{{{path},{local},\"headers\":1}}"), "headers: found 1, wanted true or false"),
    ];
    for (json, expect) in cases {
        assert_eq!(parse(json).err().as_deref(), Some(expect), "{json}");
    }
}

#[test]
fn errors_of_descriptors_name_every_step_of_their_path() {
    let address = r#"{"remote_address":{}}"#;
    let of = |descriptors: &str| format!(r#"{{"descriptors":{descriptors}}}"#);
    let actions =
        |actions: &str| of(&format!(r#"[{{"actions":[{actions}],"local":{{"limits":["1/s"]}}}}]"#));
    let many = |count: usize| vec![address; count].join(",");
    let matched = |headers: &str| {
        actions(&format!(
            r#"{{"header_value_match":{{"descriptor_value":"v","headers":{headers}}}}}"#
        ))
    };
    let leased = |count: usize| {
        let one = r#"{"actions":[{"path":{}}],"mode":"leased"}"#;
        let list = vec![one; count].join(",");
        format!(r#"{{"descriptors":[{list}],"service":{{"cluster":"c"}}}}"#)
    };
    let settled = |cost: &str| {
        format!(r#"{{"key":{{"path":{{}}}},"local":{{"limits":["1/s"]}},"cost":{cost}}}"#)
    };
    parsed(&actions(&many(16)));
    parsed(&settled(r#"{"estimate":{"body_bytes":{"per":4}},"settle":{"header":"x-used"}}"#));
    parsed(&leased(4));
    for (json, expect) in [
        (of("{}"), "descriptors: found an object, wanted a list of 1 to 8 descriptors"),
        (of("[]"), "descriptors: found an empty list, wanted a list of 1 to 8 descriptors"),
        (
            of("[{}]"),
            "descriptors[0].actions: missing; wanted a list of actions, such as [{\"remote_address\": {}}]",
        ),
        (
            of(r#"[{"actions":[{"path":{}}]}]"#),
            "descriptors[0].local.limits: missing; wanted a list of 1 to 4 limits, such as [\"100/s burst 20\"]",
        ),
        (of(r#"[{"actions":[{"path":{}}],"mode":"exact"}]"#), "descriptors[0].mode: needs service"),
        (
            of(r#"[{"actions":[{"path":{}}],"mode":"often"}]"#),
            "descriptors[0].mode: found \"often\", wanted \"local\", \"exact\" or \"leased\"",
        ),
        (leased(5), "descriptors[4].mode: more than 4 leased descriptors"),
        (
            of(&format!(
                "[{}]",
                [r#"{"actions":[{"path":{}}],"local":{"limits":["1/s"]}}"#; 9].join(",")
            )),
            "descriptors[8]: more than 8 descriptors",
        ),
        (actions(&many(17)), "descriptors[0].actions[16]: more than 16 actions in all"),
        (
            actions(r#"{"path":{},"host":{}}"#),
            "descriptors[0].actions[0].host: a second source; give exactly one",
        ),
        (
            actions(r#"{"cookie":{"name":"a"}}"#),
            "descriptors[0].actions[0].cookie.descriptor_key: missing; wanted a string of 1 to 255 bytes",
        ),
        (
            actions(r#"{"cookie":{"name":"a=b","descriptor_key":"c"}}"#),
            "descriptors[0].actions[0].cookie.name: found \"a=b\", wanted the name of a cookie, without spaces, quotes, \"=\", \";\" and \",\"",
        ),
        (
            actions(r#"{"masked_remote_address":{"v6_prefix_mask_len":129}}"#),
            "descriptors[0].actions[0].masked_remote_address.v6_prefix_mask_len: found 129, wanted a whole number from 0 to 128",
        ),
        (
            actions(r#"{"metadata":{"descriptor_key":"k","metadata_key":{"key":"a","path":[]}}}"#),
            "descriptors[0].actions[0].metadata.metadata_key.path: found an empty list, wanted a list of keys, such as [{\"key\": \"sub\"}]",
        ),
        (
            matched(r#"[{"name":"a b"}]"#),
            "descriptors[0].actions[0].header_value_match.headers[0].name: found \"a b\", wanted the name of a header, 1 to 64 of the characters that HTTP allows",
        ),
        (
            matched(r#"[{"name":"a","string_match":{"exact":1}}]"#),
            "descriptors[0].actions[0].header_value_match.headers[0].string_match.exact: found 1, wanted a string of 1 to 255 bytes",
        ),
        (
            matched(r#"[{"name":"a","string_match":{"exact":"b"},"present_match":true}]"#),
            "descriptors[0].actions[0].header_value_match.headers[0].present_match: not together with string_match",
        ),
        (
            format!(r#"{{"key":{{"path":{{}}}},{}"#, &actions(address)[1..]),
            "key: not together with descriptors",
        ),
        (
            format!(r#"{{"local":{{"limits":["1/s"]}},{}"#, &actions(address)[1..]),
            "local.limits: not together with descriptors",
        ),
        (
            r#"{"key":{"path":{}},"local":{"limits":["1/s"]},"cost":0}"#.to_owned(),
            "cost: found 0, wanted a whole number from 1 to 4294967295",
        ),
        (
            r#"{"key":{"path":{}},"local":{"limits":["1/s"]},"cost":{"header":{"name":"x","max":5,"absent":6}}}"#
                .to_owned(),
            "cost.header.absent: found a number above max, wanted at most max",
        ),
        (
            r#"{"key":{"path":{}},"local":{"limits":["1/s"]},"cost":{"header":{"name":"x"}}}"#
                .to_owned(),
            "cost.header.max: missing; wanted a number of tokens, {\"header\": {\"name\": \"x-cost\", \"max\": 100}}, {\"body_bytes\": {\"per\": 1024}} or {\"estimate\": 500, \"settle\": {\"header\": \"x-used\"}}",
        ),
        (
            settled("{}"),
            "cost: missing; wanted a number of tokens, {\"header\": {\"name\": \"x-cost\", \"max\": 100}}, {\"body_bytes\": {\"per\": 1024}} or {\"estimate\": 500, \"settle\": {\"header\": \"x-used\"}}",
        ),
        (
            settled(r#"{"estimate":5}"#),
            r#"cost.settle: missing; wanted {"header": "x-used"} or {"json": "usage.total_tokens"}"#,
        ),
        (
            settled(r#"{"settle":{"json":"n"}}"#),
            "cost.estimate: missing; wanted a number of tokens, {\"header\": {\"name\": \"x-cost\", \"max\": 100}}, {\"body_bytes\": {\"per\": 1024}} or {\"estimate\": 500, \"settle\": {\"header\": \"x-used\"}}",
        ),
        (
            settled(r#"{"estimate":5,"settle":{"json":"a..b"}}"#),
            "cost.settle.json: found \"a..b\", wanted 1 to 8 names, separated by dots",
        ),
        (
            settled(r#"{"estimate":5,"settle":{"json":"a","header":"b"}}"#),
            "cost.settle.header: a second source; give exactly one",
        ),
        (
            settled(r#"{"body_bytes":{},"settle":{"json":"a"}}"#),
            "cost.estimate: missing; wanted a number of tokens, {\"header\": {\"name\": \"x-cost\", \"max\": 100}}, {\"body_bytes\": {\"per\": 1024}} or {\"estimate\": 500, \"settle\": {\"header\": \"x-used\"}}",
        ),
        (
            settled(r#"{"header":{"name":"x","max":5},"estimate":5,"settle":{"json":"a"}}"#),
            "cost.estimate: a second source; give exactly one",
        ),
        (
            settled(r#"{"estimate":{"estimate":5,"settle":{"json":"a"}},"settle":{"json":"a"}}"#),
            "cost.estimate: not together with settle",
        ),
        (
            of(
                r#"[{"actions":[{"path":{}}],"local":{"limits":["1/s"]},"cost":{"estimate":1,"settle":{"json":"a"}}},{"actions":[{"host":{}}],"local":{"limits":["1/s"]},"cost":{"estimate":1,"settle":{"json":"b"}}}]"#,
            ),
            "descriptors[1].cost.settle: more than 1 ways to settle",
        ),
    ] {
        assert_eq!(parse(&json).err().as_deref(), Some(expect), "{json}");
    }
    let texts = (0..10).map(|number| {
        format!(
            r#"{{"cookie":{{"name":"{}","descriptor_key":"{number}"}}}}"#,
            number.to_string().repeat(255)
        )
    });
    let error = parse(&actions(&texts.collect::<Vec<_>>().join(","))).err().unwrap_or_default();
    assert!(error.ends_with("the texts of the configuration exceed 2048 bytes"), "{error}");
}

#[test]
fn names_that_are_too_long_are_refused_and_error_messages_stay_short() {
    let long = "n".repeat(256);
    let error =
        parse(&format!(r#"{{"key":{{"path":{{}}}},"service":{{"cluster":"{long}"}}}}"#)).err();
    let error = error.unwrap_or_default();
    assert!(error.starts_with("service.cluster: found \"nnn"), "{error}");
    assert!(error.ends_with("wanted a string of 1 to 255 bytes"), "{error}");
    assert!(parse(&format!(r#"{{"{}":1}}"#, "x".repeat(5000))).is_err());
}

#[test]
fn no_prefix_of_a_configuration_is_accepted_and_none_panics() {
    let whole = r#"{"key":{"header":"x"},"local":{"limits":["1/s burst 2"],"max_keys":20},"service":{"cluster":"c\u00e9","timeout":"5ms"},"headers":true}"#;
    parsed(whole);
    for end in 0..whole.len() {
        assert!(Config::parse(&whole.as_bytes()[..end]).is_err(), "{end}");
    }
    assert!(Config::parse(b"\xFF{}").is_err());
}
