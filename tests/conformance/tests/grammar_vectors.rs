//! `grammar.json` and `errors.json` on the core and the facade.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::{AnyLimit, Error, Limiter};
use tidegate_conformance::vectors::{ErrorVectors, GrammarVectors, load, nanos};

#[test]
fn texts_mean_their_limits() {
    let vectors: GrammarVectors = load("grammar.json");
    assert!(!vectors.valid.is_empty());
    for case in vectors.valid {
        let text = &case.text;
        let limit = AnyLimit::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found = (limit.tokens(), limit.burst(), limit.shape_name());
        assert_eq!(found, (case.tokens, case.burst, &*case.shape));
        assert_eq!(limit.period(), nanos(&case.period), "{text:?}");
        assert_eq!(limit.to_string(), case.canonical, "{text:?}");
        let limiter = Limiter::builder().limit(text).build().expect("a limiter");
        let decision = limiter.check("k", 0).expect("a decision");
        assert_eq!(limiter.limit_name(&decision), text.trim_ascii());
        assert_eq!(AnyLimit::parse(&case.canonical), Ok(limit), "{:?} reads back", case.canonical);
    }
}

#[test]
fn texts_break_the_bound_they_name() {
    let vectors: GrammarVectors = load("grammar.json");
    assert!(!vectors.invalid.is_empty());
    for case in vectors.invalid {
        match AnyLimit::parse(&case.text) {
            Ok(limit) => panic!("{:?} was read as {limit}", case.text),
            Err(error) => assert_eq!(error.reason(), case.reason, "{:?}: {error}", case.text),
        }
        let error = Limiter::builder().limit(&case.text).build().expect_err("the limit is invalid");
        assert_eq!((error.code(), error.reason()), ("invalid_limit", Some(case.reason.as_str())));
        assert!(error.to_string().contains(&format!("{:?}", case.text)), "{error}");
        if let Some(write) = case.write {
            let is_said = write.starts_with('"') || error.to_string().contains("; write ");
            assert!(is_said && error.to_string().ends_with(&format!(" {write}")), "{error}");
        }
    }
}

#[test]
fn errors_are_those_of_the_table() {
    let vectors: ErrorVectors = load("errors.json");
    let listed: BTreeSet<&str> = vectors.errors.iter().map(|error| error.code.as_str()).collect();
    let source = tidegate_core::Error::RateTooHigh;
    let decision = Limiter::builder()
        .limit("1/s")
        .build()
        .and_then(|limiter| limiter.check("k", 1))
        .expect("a decision");
    let of_the_facade = [
        Error::InvalidLimit { text: None, source },
        Error::InvalidArgument { name: "key", message: String::new() },
        Error::CostTooLarge { cost: 2, burst: 1 },
        Error::RateLimited { decision, key: String::new() },
        Error::NoPermit { limit: 1, timeout: Duration::ZERO },
        Error::Store(String::new().into()),
        Error::timeout(Duration::ZERO),
        Error::CorruptBucket { key: String::new() },
    ];
    let mut codes: BTreeSet<&str> = of_the_facade.iter().map(Error::code).collect();
    // No error has the base class itself.
    codes.insert("error");
    assert_eq!(codes, listed);
}
