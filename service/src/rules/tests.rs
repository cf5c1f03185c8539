//! Tests of the rules.

use super::*;
use crate::cli::ServeOptions;

fn parse(text: &str) -> Result<RuleSet, String> {
    parse_with(&["--store", "memory://"], text)
}

fn parse_with(options: &[&str], text: &str) -> Result<RuleSet, String> {
    let words = [&["tidegate", "serve", "--limit", "1/s"], options].concat();
    RuleSet::parse(text, &StoreOptions::open(&ServeOptions::parse_words(&words)?)?)
}

fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
    pairs
        .iter()
        .map(|(key, value)| Entry { key: (*key).to_owned(), value: (*value).to_owned() })
        .collect()
}

#[test]
fn the_first_rule_that_matches_decides() -> Result<(), String> {
    let rules = parse(
        r#"
        [[rules]]
        domain = "edge"
        match = [{ key = "path", value = "/login" }, "client"]
        key = "login/{client}"
        prefix = "login"
        limits = ["5/min"]
        shadow = true

        [[rules]]
        domain = "edge"
        match = ["api_key"]
        limits = ["50/s burst 50", { name = "daily", limit = "10000/d" }]

        [[rules]]
        match = ["api_key", "path"]
        limits = ["50/s burst 50", "10000/d"]

        [[rules]]
        match = ["path", "client"]
        limits = ["100/s"]
        prefix = "paths"
        "#,
    )?;
    let found = |domain: &str, pairs: &[(&str, &str)]| {
        let entries = entries(pairs);
        let rule = rules.deciding(domain, &entries).next()?;
        Some((rule.name.clone(), rule.bucket_key(&entries)))
    };
    let at = |index: usize, key: &str| Some((format!("rules[{index}]"), key.to_owned()));
    assert_eq!(found("edge", &[("path", "/login"), ("client", "c")]), at(0, "login/c"));
    assert_eq!(found("edge", &[("path", "/other"), ("client", "c")]), at(3, "%/%2Fother/c"));
    assert_eq!(found("edge", &[("client", "c"), ("path", "/login")]), None);
    assert_eq!(found("edge", &[("api_key", "k/1")]), at(1, "k/1"));
    assert_eq!(found("core", &[("api_key", "k/1")]), None);
    assert_eq!(found("core", &[("api_key", "k/1"), ("path", "/x")]), at(2, "%/k%2F1/%2Fx"));
    assert_eq!(rules.len(), 4);
    assert_eq!(
        rules.0.iter().map(|rule| rule.shadow).collect::<Vec<_>>(),
        [true, false, false, false]
    );
    let names: Vec<_> = rules.0[1].limiter.limits().iter().map(|it| &it.name).collect();
    assert_eq!(names, ["50/s burst 50", "daily"]);
    Ok(())
}

#[test]
fn the_rules_of_the_readme_work() -> Result<(), String> {
    let readme = include_str!("../../README.md");
    let rules = readme.split_once("```toml").and_then(|(_, after)| after.split_once("```"));
    let rules = parse(rules.ok_or("no example")?.0)?;
    let login = entries(&[("path", "/login"), ("client", "c")]);
    let rule = rules.deciding("edge", &login).next().ok_or("no rule")?;
    assert_eq!((rules.len(), rule.bucket_key(&login).as_str()), (3, "login/c"));
    Ok(())
}

#[test]
fn rules_without_a_prefix_never_share_a_bucket() -> Result<(), String> {
    let matched = [
        ("", ""),
        ("domain = \"a\"", ""),
        ("domain = \"b\"", ""),
        ("domain = \"*\"", ""),
        ("domain = \"a/user\"", ""),
        ("", "match = [\"user\"]"),
        ("domain = \"a\"", "match = [\"user\"]"),
        ("domain = \"b\"", "match = [\"tenant\"]"),
        ("domain = \"b\"", "match = [\"tenant\", \"user\"]"),
        ("domain = \"b\"", "match = [\"tenant/user\"]"),
        ("domain = \"b\"", "match = [\"tenant=x\"]"),
        ("domain = \"b\"", "match = [{ key = \"tenant\", value = \"x\" }]"),
        ("domain = \"b\"", "match = [{ key = \"tenant\", value = \"\" }]"),
        ("domain = \"b\"", "match = [{ key = \"tenant\", value = \"x*\" }]"),
    ];
    let mut prefixes = std::collections::BTreeSet::new();
    for (domain, entries) in matched {
        let rules = parse(&format!("[[rules]]\n{domain}\n{entries}\nlimits = [\"1/s\"]"))?;
        prefixes.insert(rules.0[0].prefix.clone());
    }
    assert_eq!(prefixes.len(), matched.len(), "{prefixes:?}");
    assert!(prefixes.contains("tidegate") && prefixes.contains("tidegate/a/user"));
    let long = "x".repeat(250);
    let message = parse(&format!("[[rules]]\nmatch = [\"{long}\"]\nlimits = [\"1/s\"]")).err();
    let message = message.unwrap_or_default();
    assert!(message.contains("give the rule a shorter one"), "{message}");
    Ok(())
}

#[test]
fn a_star_at_the_end_of_a_value_stands_for_any_text() -> Result<(), String> {
    let entry = "{ key = \"path\", value = \"/api/*\" }";
    let rules = parse(&format!("[[rules]]\nmatch = [{entry}]\nlimits = [\"1/s\"]"))?;
    for (path, is_matched) in
        [("/api/", true), ("/api/x/y", true), ("/api/*", true), ("/api", false), ("/a", false)]
    {
        let entries = entries(&[("path", path)]);
        assert_eq!(rules.deciding("edge", &entries).next().is_some(), is_matched, "{path}");
    }
    Ok(())
}

#[test]
fn a_rule_that_an_earlier_one_covers_is_found() -> Result<(), String> {
    let rules = parse(
        r#"
        [[rules]]
        domain = "edge"
        match = ["path", { key = "client", value = "c" }]
        limits = ["1/s"]

        [[rules]]
        domain = "edge"
        match = [{ key = "path", value = "/" }, { key = "client", value = "c" }]
        limits = ["1/s"]

        [[rules]]
        match = ["path", "client"]
        limits = ["1/s"]

        [[rules]]
        limits = ["1/s"]
        "#,
    )?;
    let covers = |a: usize, b: usize| rules.0[a].covers(&rules.0[b]);
    assert!(covers(0, 1) && covers(2, 0) && covers(2, 1));
    assert!((0..3).all(|later| covers(3, later)));
    assert!(!covers(1, 0) && !covers(0, 2) && !covers(0, 3) && !covers(2, 3));
    Ok(())
}

#[test]
fn a_rule_without_domain_and_match_matches_everything() -> Result<(), String> {
    let rules = parse("[[rules]]\nlimits = [\"1/s\"]")?;
    assert!(rules.deciding("any", &entries(&[("a", "1"), ("b", "2")])).next().is_some());
    Ok(())
}

#[test]
fn rules_without_buckets_share_no_prefix() -> Result<(), String> {
    let rules = parse(
        r#"
        [[rules]]
        match = [{ key = "client", value = "banned" }]
        limits = ["none", "5/s"]

        [[rules]]
        match = [{ key = "client", value = "internal" }]
        limits = ["unlimited"]

        [[rules]]
        match = ["client"]
        limits = ["unlimited", "10/s"]

        [[rules]]
        limits = ["10/s"]
        "#,
    )?;
    let check = |value: &str| {
        let asked = entries(&[("client", value)]);
        let rule = rules.deciding("edge", &asked).next()?;
        rule.limiter.check(value, 7).ok().map(|decision| (decision.allowed, decision.limit))
    };
    assert_eq!(check("banned"), Some((false, 0)));
    assert_eq!(check("internal"), Some((true, u64::MAX)));
    assert_eq!((check("other"), check("other")), (Some((true, 10)), Some((false, 10))));
    Ok(())
}

#[test]
fn an_option_that_the_limits_of_a_rule_cannot_have_is_named() -> Result<(), String> {
    let leased = ["--store", "redis://127.0.0.1:1", "--lease-ttl", "1s"];
    let slow = "[[rules]]\nlimits = [\"5/min\"]\n";
    let message = parse_with(&leased, slow).err().unwrap_or_default();
    assert!(message.starts_with("rules[0].limits: with --lease-ttl"), "{message}");
    parse_with(&leased, &format!("{slow}lease = false"))?;
    let shared = ["--on-store-error", "local", "--peers", "1000000"];
    let options = [&["--store", "redis://127.0.0.1:1"], &shared[..]].concat();
    let message = parse_with(&options, "[[rules]]\nlimits = [\"5/d\"]").err();
    assert!(message.unwrap_or_default().starts_with("rules[0].limits: with --peers: "));
    Ok(())
}

#[test]
fn errors_name_the_field_and_the_bound() {
    for (text, said) in [
        ("", "missing field `rules`"),
        ("rules = []", "rules: there must be 1 to 1000, but there are 0"),
        ("[[rules]]\nlimits = []", "rules[0].limits: a limiter holds 1 to 4 limits, but 0"),
        ("[[rules]]\nlimit = \"1/s\"", "unknown field `limit`, expected one of"),
        ("[[rules]]\ndomain = \"x\"", "missing field `limits`"),
        (
            "[[rules]]\nlimits = [{ limit = '5/s', cost = 6 }]",
            "rules[0].limits[0].cost: it must be 1 to the burst of 5, but is 6",
        ),
        (
            "[[rules]]\nlimits = [{ limit = '5/s', cost = 0 }]",
            "rules[0].limits[0].cost: it must be 1 to the burst of 5, but is 0",
        ),
        (
            "[[rules]]\nlimits = [\"1/s\", \"1/fortnight\"]",
            "rules[0].limits[1]: invalid limit \"1/fortnight\": at byte 2: unknown unit",
        ),
        ("[[rules]]\nlimits = [\"0/s\"]", "tokens must be at least 1"),
        ("[[rules]]\nlimits = [1]", "expected a limit, or a table { limit, name, cost }"),
        (
            "[[rules]]\nlimits = [{ name = \"a\", rate = \"1/s\" }]",
            "unknown field `rate`, expected one of `name`, `limit`, `cost`",
        ),
        (
            "[[rules]]\nlimits = [\"1/s\",\"2/s\",\"3/s\",\"4/s\",\"5/s\"]",
            "rules[0].limits: a limiter holds 1 to 4 limits, but 5 were given",
        ),
        ("[[rules]]\nlimits = [\"1/s\"]\ndomain = \"\"", "rules[0].domain: it must not be"),
        ("[[rules]]\nlimits = [\"1/s\"]\nmatch = []", "rules[0].match: it must list at least"),
        ("[[rules]]\nlimits = [\"1/s\"]\nmatch = [\"\"]", "rules[0].match[0]: the entry key"),
        (
            "[[rules]]\nlimits = [\"1/s\"]\nmatch = [{ key = \"a\", val = \"b\" }]",
            "unknown field `val`, expected one of `key`, `value`, `share`",
        ),
        ("[[rules]]\nlimits = [\"1/s\"]\nkey = \"{a}\"", "rules[0].key: it needs `match` or `has`"),
        (
            "[[rules]]\nlimits = [\"1/s\"]\nmatch = [\"a\"]\nkey = \"{b}\"",
            "rules[0].key: {b} is not an entry key",
        ),
        ("[[rules]]\nlimits = [\"1/s\"]\nprefix = \"\"", "rules[0].prefix: "),
        ("[[rules]]\nlimits = [\"1/s\"]\nshadow = 1", "expected a boolean"),
        (
            "[[rules]]\nlimits = [\"1/s\"]\n[[rules]]\nlimits = [\"2/s\"]",
            "rules[1].prefix: rules[0] has the same prefix \"tidegate\" with other limits",
        ),
        (
            "[[rules]]\nlimits = [\"1/s\"]\nmatch = [{ key = \"path\", value = \"/a/*/b\" }]",
            "rules[0].match[0].value: `*` stands for any text, and only at the end",
        ),
        (
            "[[rules]]\nlimits = [\"1/s\"]\nmatch = [\"g\", \"g\"]\nkey = \"{g}\"",
            "rules[0].key: {g} is the key of several entries of `match`",
        ),
    ] {
        let message = parse(text).err().unwrap_or_default();
        assert!(message.contains(said), "{text:?} said {message:?}, not {said:?}");
    }
}

#[test]
fn an_error_of_toml_is_one_line_that_names_the_place_and_repeats_no_line_of_the_file() {
    for (text, place) in [
        ("hunter2", "line 1, column "),
        ("password: hunter2", "line 1, column "),
        ("[[rules]]\nmatch = [\"hunter2", "line 2, column "),
        (
            "[[rules]]\nlimits = [\"1/s\"]\nburst = \"hunter2\"",
            "line 3, column 1: unknown field `burst`",
        ),
        ("rules = \"hunter2\"", "line 1, column 9: invalid type: string, expected a sequence"),
    ] {
        let message = parse(text).err().unwrap_or_default();
        assert!(message.starts_with(&format!("TOML parse error at {place}")), "{message}");
        assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
    }
}
