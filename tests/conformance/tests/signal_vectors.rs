//! `signals.json` on the engine, whatever the order of the headers.

use tidegate_conformance::signal_vectors::{ExpectedSignal, SignalCase, SignalVectors, fields};
use tidegate_conformance::vectors::{load, nanos};
use tidegate_core::{DEFAULT_MAX_HOLD, Signal, SignalReader};

#[test]
fn the_engine_reads_every_response_as_the_oracle() {
    let vectors: SignalVectors = load("signals.json");
    assert!(vectors.cases.len() > 500);
    let wrong: Vec<_> = vectors.cases.iter().filter_map(difference).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), vectors.cases.len(), wrong.join("\n"));
}

fn difference(case: &SignalCase) -> Option<String> {
    let rows = case.profile.rows();
    let profile = case.profile.profile(&rows);
    let fields = fields(&case.body);
    let mut reader = SignalReader::new(case.status, &profile);
    for (name, value) in &case.headers {
        reader.header(name.as_bytes(), value.as_bytes());
    }
    for (path, value) in &fields {
        reader.body(path.as_bytes(), value.as_bytes());
    }
    let read = ExpectedSignal::from(reader.finish(nanos(&case.now), DEFAULT_MAX_HOLD));
    let expect = &case.expect;
    (read != *expect).then(|| format!("{}:\n  {read:?}\n  {expect:?}", case.name))
}

/// A `Date` may come after what needs it. Of two headers that say the same, the first is the source.
#[test]
fn the_order_of_headers_means_nothing() {
    let vectors: SignalVectors = load("signals.json");
    for case in vectors.cases.iter().filter(|case| case.name.ends_with(": plain")) {
        let rows = case.profile.rows();
        let profile = case.profile.profile(&rows);
        let read = |headers: Vec<(&str, &str)>| {
            let signal = Signal::parse(case.status, headers, &profile, nanos(&case.now));
            let mut read = ExpectedSignal::from(signal);
            read.source.clear();
            read
        };
        let headers: Vec<_> =
            case.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let reversed = headers.iter().rev().copied().collect();
        assert_eq!(read(reversed), read(headers), "{}", case.name);
    }
}
