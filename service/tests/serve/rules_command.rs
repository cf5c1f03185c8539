//! Tests of `tidegate rules check` and `tidegate rules import`, and of the service with what it writes.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use tempfile::TempDir;

use crate::TestResult;
use crate::process::{Client, Failed, Service, ask, descriptor, run};

/// Files in a directory of their own.
struct Files(TempDir);

impl Files {
    fn new() -> Result<Self, Failed> {
        Ok(Self(TempDir::new()?))
    }

    fn write(&self, name: &str, text: &str) -> Result<String, Failed> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().ok_or("path")?.to_owned())
    }
}

/// Runs `tidegate rules`; returns the exit code, standard output and standard error.
fn rules(arguments: &[&str]) -> Result<(Option<i32>, String, String), Failed> {
    let output = run(&[&["rules"][..], arguments].concat(), &[])?;
    let text = String::from_utf8;
    Ok((output.status.code(), text(output.stdout)?, text(output.stderr)?))
}

/// Imports a configuration; returns a service with its rules.
async fn imported(config: &str, said: &[&str]) -> Result<Service, Failed> {
    let files = Files::new()?;
    let file = files.write("config.yaml", config)?;
    let (code, text, message) = rules(&["import", &file])?;
    assert_eq!(code, Some(0), "{message}");
    for said in said {
        assert!(message.contains(said), "{message}");
    }
    Service::with_rules(&text).await
}

type Entries<'a> = [(&'a str, &'a str)];

/// Sends descriptors; returns the overall code and, for each, whether it has a limit and what is left.
async fn left(
    client: &mut Client,
    domain: &str,
    descriptors: &[&Entries<'_>],
) -> Result<(Code, Vec<Option<u32>>), Failed> {
    let descriptors = descriptors.iter().map(|it| descriptor(it)).collect();
    let request = RateLimitRequest { domain: domain.to_owned(), descriptors, hits_addend: 1 };
    let response = ask(client, request).await?;
    let left = |it: &_| match it {
        envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus {
            current_limit: Some(_),
            limit_remaining,
            ..
        } => Some(*limit_remaining),
        _ => None,
    };
    Ok((response.overall_code(), response.statuses.iter().map(left).collect()))
}

#[test]
fn check_says_what_rules_mean_and_which_never_decide() -> TestResult {
    let files = Files::new()?;
    let file = files.write(
        "rules.toml",
        r#"
        [[rules]]
        name = "logins"
        domain = "edge"
        match = [{ key = "path", value = "/login*" }, "client"]
        limits = ["5/min", { limit = "100/d window", cost = 2 }]

        [[rules]]
        domain = "edge"
        match = [{ key = "path", value = "/login/x" }, "client"]
        limits = ["unlimited"]

        [[rules]]
        has = [{ key = "tenant", share = true }]
        limits = ["20/s burst 5"]
        continue = true
        shadow = true
        "#,
    )?;
    let (code, text, message) = rules(&["check", &file])?;
    assert_eq!(code, Some(0), "{message}");
    let expected = r#"rules[0] "logins": domain "edge", descriptor (path = "/login" and any text after it, client = anything)
  5/min: 5 per 1m one by one, at most 5 at once
  100/d window: 100 in each window of 1day; each request takes 2
  buckets under the prefix "tidegate/edge/path=%2Flogin%2A/client"
rules[1]: domain "edge", descriptor (path = "/login/x", client = anything)
  unlimited: every request is allowed
  buckets under the prefix "tidegate/edge/path=%2Flogin%2Fx/client"
rules[2]: any domain, descriptors that have (tenant = anything)
  20/s burst 5: 20 per 1s one by one, at most 5 at once
  buckets under the prefix "tidegate/*/*/tenant"
  all values of tenant share a bucket
  only counts and never refuses
  later rules that match decide, too
"#;
    assert_eq!(text, expected);
    let warning = "rules[1]: the rule never decides, because rules[0] \"logins\" matches all of it";
    assert!(message.contains(warning), "{message}");
    let (code, text, _) = rules(&["check", "--strict", "--quiet", &file])?;
    assert_eq!((code, text.as_str()), (Some(1), ""));

    for (rules_text, said) in [
        ("[[rules]]\nlimits = [\"5/fortnight\"]", "rules[0].limits[0]: invalid limit"),
        ("[[rules]]\nlimits = [\"5/s\"]\nreplaces = [\"x\"]", "rules[0].replaces[0]: no rule has"),
        ("[[rules]]\nname = \"a\"\nlimits = [\"5/s\"]\nreplaces = [\"a\"]", "the rule's own name"),
        (
            "[[rules]]\nname = \"a\"\nmatch = [\"x\"]\nlimits = [\"5/s\"]\nreplaces = [\"b\"]\n\
             [[rules]]\nname = \"b\"\nmatch = [\"y\"]\nlimits = [\"5/s\"]\nreplaces = [\"a\"]",
            "rules[0].replaces: \"b\" replaces \"a\" and is replaced by it in turn",
        ),
        ("[[rules]]\nname = \"\"\nlimits = [\"5/s\"]", "rules[0].name: it must be 1 to 64 bytes"),
        (
            "[[rules]]\nmatch = [\"a\"]\nhas = [\"a\"]\nlimits = [\"5/s\"]",
            "either `match` or `has`",
        ),
        ("[[rules]]\nhas = [\"\"]\nlimits = [\"5/s\"]", "rules[0].has[0]: the entry key must"),
    ] {
        let file = files.write("wrong.toml", rules_text)?;
        let (code, _, message) = rules(&["check", &file])?;
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(&file) && message.contains(said), "{message}");
    }
    assert_eq!(rules(&["check", "/none.toml"])?.0, Some(2));
    Ok(())
}

/// Limits of each kind that the documentation of envoyproxy/ratelimit describes.
const ENVOYPROXY: &str = r#"
domain: messaging
descriptors:
  # The most specific entry decides.
  - key: message_type
    value: marketing
    descriptors:
      - key: to_number
        rate_limit: { unit: day, requests_per_unit: 5 }
  - key: to_number
    rate_limit: { unit: DAY, requests_per_unit: 100 }
  # An address that is banned, one without a limit, and all others.
  - key: remote_address
    value: 50.0.0.5
    rate_limit: { unit: second, requests_per_unit: 0 }
  - key: remote_address
    value: 50.0.0.6
    rate_limit: { unlimited: true }
  - key: remote_address
    value: 50.0.0.7
  - key: remote_address
    rate_limit: { unit: hour, requests_per_unit: 10 }
  # Wildcards, with a bucket for each value, and with one for all of them.
  - key: path
    value: /api/*
    rate_limit: { unit: minute, requests_per_unit: 2 }
  - key: path
    value: /static/*
    share_threshold: true
    rate_limit: { unit: minute, requests_per_unit: 2 }
  # Nested entries: a request has the limit of its last entry, or none.
  - key: api
    value: v2
    descriptors:
      - key: method
        value: POST
        rate_limit: { unit: month, requests_per_unit: 3 }
  - key: api
    descriptors:
      - key: method
        rate_limit: { unit: year, requests_per_unit: 7 }
  - key: tried
    rate_limit: { unit: hour, requests_per_unit: 1 }
    shadow_mode: true
    detailed_metric: true
  # One limit replaces others in a request.
  - key: replaceable
    rate_limit: { name: ordinary, unit: hour, requests_per_unit: 1 }
  - key: replacing
    rate_limit:
      name: special
      unit: hour
      requests_per_unit: 20
      replaces:
        - name: ordinary
        - name: nobody
"#;

#[tokio::test]
async fn a_configuration_of_envoyproxy_is_imported_and_decides_as_there() -> TestResult {
    let said = [
        "config.yaml:45: descriptors[10].detailed_metric: metrics have the names of rules",
        "replaces: no other limit has the name \"nobody\"",
        "2 not taken over",
    ];
    let service = imported(ENVOYPROXY, &said).await?;
    let client = &mut service.client().await?;
    let mut expect =
        async |entries: &Entries<'_>, expected: &[(Code, Option<u32>)]| -> TestResult {
            for (code, expected) in expected {
                let (found, left) = left(client, "messaging", &[entries]).await?;
                assert_eq!((found, left[0]), (*code, *expected), "{entries:?}");
            }
            Ok(())
        };
    let (ok, over) = (Code::Ok, Code::OverLimit);
    let marketing = [("message_type", "marketing"), ("to_number", "2061111111")];
    expect(&marketing, &[(ok, Some(4)), (ok, Some(3)), (ok, Some(2))]).await?;
    expect(&marketing, &[(ok, Some(1)), (ok, Some(0)), (over, Some(0))]).await?;
    expect(&[("message_type", "marketing"), ("to_number", "2062222222")], &[(ok, Some(4))]).await?;
    expect(&[("to_number", "2061111111")], &[(ok, Some(99))]).await?;
    expect(&[("message_type", "marketing")], &[(ok, None)]).await?;
    expect(&[("message_type", "other"), ("to_number", "1")], &[(ok, None)]).await?;
    expect(&[("remote_address", "50.0.0.5")], &[(over, None), (over, None)]).await?;
    expect(&[("remote_address", "50.0.0.6")], &[(ok, None)]).await?;
    expect(&[("remote_address", "50.0.0.7")], &[(ok, None)]).await?;
    expect(&[("remote_address", "50.0.0.8")], &[(ok, Some(9))]).await?;
    expect(&[("path", "/api/a")], &[(ok, Some(1)), (ok, Some(0)), (over, Some(0))]).await?;
    expect(&[("path", "/api/b")], &[(ok, Some(1))]).await?;
    expect(&[("path", "/other")], &[(ok, None)]).await?;
    expect(&[("path", "/static/a")], &[(ok, Some(1))]).await?;
    expect(&[("path", "/static/b")], &[(ok, Some(0)), (over, Some(0))]).await?;
    expect(&[("api", "v2"), ("method", "POST")], &[(ok, Some(2))]).await?;
    expect(&[("api", "v2"), ("method", "GET")], &[(ok, None)]).await?;
    expect(&[("api", "v1"), ("method", "POST")], &[(ok, Some(6))]).await?;
    expect(&[("api", "v1"), ("method", "POST"), ("more", "x")], &[(ok, None)]).await?;
    expect(&[("tried", "x")], &[(ok, Some(0)), (ok, Some(0)), (ok, Some(0))]).await?;

    let pair: [&Entries<'_>; 2] = [&[("replaceable", "x")], &[("replacing", "x")]];
    for remaining in [19, 18] {
        let found = left(client, "messaging", &pair).await?;
        assert_eq!(found, (ok, vec![None, Some(remaining)]), "the other one does not decide");
    }
    assert_eq!(left(client, "messaging", &pair[..1]).await?, (ok, vec![Some(0)]));
    assert_eq!(left(client, "messaging", &pair[..1]).await?.0, over);
    assert_eq!(left(client, "other", &[&[("to_number", "1")]]).await?, (ok, vec![None]));

    let asked = RateLimitRequest {
        domain: "messaging".to_owned(),
        descriptors: vec![descriptor(&[("replacing", "y")])],
        hits_addend: 1,
    };
    let response = ask(client, asked).await?;
    let limit = response.statuses[0].current_limit.as_ref().ok_or("no limit")?;
    assert_eq!(
        (limit.name.as_str(), limit.requests_per_unit, limit.unit()),
        ("special", 20, Unit::Hour)
    );
    Ok(())
}

const LIMITADOR: &str = r#"
- namespace: shop
  max_value: 5
  seconds: 3600
  name: per-user
  conditions: ["descriptors[0]['method'] == 'POST'"]
  variables: ["descriptors[0].user"]
- namespace: shop
  max_value: 8
  seconds: 86400
  conditions: ["descriptors[0]['method'] == 'POST'"]
  variables: ["descriptors[0].user"]
- namespace: shop
  max_value: 7
  seconds: 3600
- namespace: shop
  max_value: 1
  seconds: 60
  conditions: ["descriptors[0]['method'] != 'GET'"]
"#;

#[tokio::test]
async fn limits_of_limitador_are_imported_and_all_that_apply_decide() -> TestResult {
    let said =
        ["config.yaml:19: [3].conditions[0]: the expression cannot be said", "1 not taken over"];
    let service = imported(LIMITADOR, &said).await?;
    let client = &mut service.client().await?;
    let mut ask = async |entries: &Entries<'_>| left(client, "shop", &[entries]).await;
    let (ok, over) = (Code::Ok, Code::OverLimit);
    let ann = [("path", "/"), ("user", "ann"), ("method", "POST")];
    for remaining in [4, 3, 2] {
        assert_eq!(ask(&ann).await?, (ok, vec![Some(remaining)]));
    }
    let ben = [("method", "POST"), ("user", "ben")];
    assert_eq!(ask(&ben).await?, (ok, vec![Some(3)]), "the limit of the whole namespace is closer");
    // Without the entry that the first limit needs, only the one of the namespace applies.
    assert_eq!(ask(&[("method", "GET"), ("user", "ann")]).await?, (ok, vec![Some(2)]));
    assert_eq!(ask(&[("method", "POST")]).await?, (ok, vec![Some(1)]));
    assert_eq!(ask(&ben).await?, (ok, vec![Some(0)]));
    assert_eq!(ask(&ben).await?, (over, vec![Some(0)]));
    Ok(())
}

#[test]
fn an_import_lists_all_that_it_cannot_say() -> TestResult {
    let files = Files::new()?;
    let config = "\
domain: a
descriptors:
  - key: x
    value: a*b
    rate_limit: { unit: second, requests_per_unit: 1 }
  - key: y
    quota_mode: true
    rate_limit: { unit: second, requests_per_unit: 3, burst: 9 }
  - key: y
    rate_limit: { unit: second, requests_per_unit: 4 }
other: 1
";
    let file = files.write("a.yaml", config)?;
    let output = files.write("out.toml", "")?;
    let arguments = ["import", "--strict", "--smooth", "--output", &output, &file];
    let (code, text, message) = rules(&arguments)?;
    assert_eq!((code, text.as_str()), (Some(1), ""), "{message}");
    let written = std::fs::read_to_string(&output)?;
    assert!(written.contains("limits = [\"3/s\"]"), "{written}");
    for note in [
        ":4: descriptors[0].value: a `*` that is not at the end; the descriptor is left out",
        ":7: descriptors[1].quota_mode: the field is unknown",
        ":8: descriptors[1].rate_limit.burst: the field is unknown",
        ":9: descriptors[2]: the same key and value stand before; the first counts",
        ":11: other: the field is unknown",
    ] {
        assert!(message.contains(note) && written.contains(note), "{note}: {message}{written}");
    }
    assert_eq!(rules(&["check", &output])?.0, Some(0));

    for (config, said) in [
        ("- a\n- b", "line 1: it is neither a map with `domain`"),
        ("domain: a\ndescriptors: x", "line 2: descriptors: it must be a list"),
        ("domain: a\ndescriptors:\n- rate_limit: {}", "descriptors[0].key: it is missing"),
        (
            "domain: a\ndescriptors:\n- key: a\n  rate_limit: {unit: eon, requests_per_unit: 1}",
            "descriptors[0].rate_limit.unit: it must be second, minute",
        ),
        ("domain: a\ndomain: b", "line 2: "),
        ("domain: a", "no rule can be made of it"),
        ("- namespace: a\n  max_value: -1", "[0].max_value: it must be a whole number"),
    ] {
        let file = files.write("wrong.yaml", config)?;
        let (code, _, message) = rules(&["import", &file])?;
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(said), "{message}");
    }
    Ok(())
}
