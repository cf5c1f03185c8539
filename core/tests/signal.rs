//! Properties of reading signals: any bytes are read, and what comes out keeps its bounds.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_core::{
    DEFAULT_MAX_HOLD, HoldScope, Meaning, Profile, Row, Signal, SignalKind, SignalReader, Unit,
};

const SECOND: u64 = 1_000_000_000;
/// The time of the responses: Mon, 05 Jan 2026 10:00:00 GMT.
const NOW: u64 = 1_767_607_200 * SECOND;

/// Names that mean something, and one that means nothing.
const NAMES: &[&str] = &[
    "Date",
    "Age",
    "Retry-After",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "x-amz-retry-after",
    "x-should-retry",
    "grpc-retry-pushback-ms",
    "RateLimit",
    "RateLimit-Policy",
    "RateLimit-Limit",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Reset-After",
    "X-RateLimit-Reset-Ms",
    "X-RateLimit-Tokens-Reset-ms",
    "-Ms",
    "RateLimit-Ms",
    "x-rate-limit-reset",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-limit-tokens",
    "X-RateLimit-Requests-Reset",
    "X-RateLimit-Bucket",
    "X-RateLimit-Scope",
    "X-RateLimit-Next",
    "X-HubSpot-RateLimit-Interval-Milliseconds",
    "X-HubSpot-RateLimit-Remaining",
    "X-Shopify-Shop-Api-Call-Limit",
    "anthropic-ratelimit-tokens-reset",
    "Content-Type",
];
/// Paths of fields.
const PATHS: &[&str] = &[
    "retry_after",
    "retry_after_ms",
    "[].error",
    "global",
    "error.code",
    "type",
    "violated-policies",
    "a.throttleStatus.restoreRate",
    "throttleStatus.currentlyAvailable",
    "throttleStatus.maximumAvailable",
    "cost.requestedQueryCost",
];

/// Values of every form, whole or spoilt, and any bytes.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let forms = vec![
        "120",
        "2.0",
        "0",
        "-1",
        "99999999999999999999999999",
        "1767607260",
        "1767607260123",
        "6m0s",
        "17ms",
        "Mon, 05 Jan 2026 10:02:00 GMT",
        "Monday, 05-Jan-26 10:02:00 GMT",
        "Mon Jan  5 10:02:00 2026",
        "2026-01-05T10:03Z",
        "2026-01-05T11:01:30.25+01:00",
        "Mon Jan 05 2026 11:00:42 GMT+0100 (CET)",
        "\"default\";r=0;t=30, b;r=1;q=5;w=60",
        "limit=100, remaining=50, reset=50",
        "100;w=60",
        "39/40",
        "true",
        "false",
        "global",
        "",
    ];
    let whole = select(forms).prop_map(|form| form.as_bytes().to_vec());
    let spoilt = (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut form, place, byte)| {
            if !form.is_empty() {
                let place = place.index(form.len());
                form[place] = byte;
            }
            form
        },
    );
    let numbers = ("-?[0-9]{1,25}(\\.[0-9]{1,12})?").prop_map(String::into_bytes);
    prop_oneof![4 => whole, 3 => spoilt, 2 => numbers, 1 => vec(any::<u8>(), 0..40)]
}

fn pairs(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    vec((select(names), value()), 0..12)
}

fn read<'a>(
    status: u16,
    profile: &'a Profile<'a>,
    headers: &'a [(&str, Vec<u8>)],
    fields: &'a [(&str, Vec<u8>)],
    now: u64,
    max_hold: u64,
) -> Signal<'a> {
    let mut reader = SignalReader::new(status, profile);
    for (name, value) in headers {
        reader.header(name.as_bytes(), value);
    }
    for (path, value) in fields {
        reader.body(path.as_bytes(), value);
    }
    reader.finish(now, max_hold)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_signal_keeps_its_bounds(
        status in 0_u16..1000,
        profile in select(Profile::BUILT_IN),
        headers in pairs(NAMES),
        fields in pairs(PATHS),
        now in any::<u64>(),
        max_hold in any::<u64>(),
    ) {
        let signal = read(status, &profile, &headers, &fields, now, max_hold);
        prop_assert_eq!(signal.hold, signal.asked.min(max_hold));
        if let (Some(remaining), Some(limit)) = (signal.remaining, signal.limit) {
            prop_assert!(remaining <= limit);
        }
        prop_assert!(signal.asked > 0 || signal.source.is_empty());
        let named = |name: &&(&str, Vec<u8>)| name.0 == signal.source;
        prop_assert!(
            signal.source.is_empty() || headers.iter().chain(&fields).any(|name| named(&name))
        );
        if signal.kind == SignalKind::Ok && status < 300 {
            // What is no refusal holds by a limit or by gRPC alone.
            prop_assert!(!signal.source.eq_ignore_ascii_case("retry-after"));
        }
        // The clock means nothing beside the response's date.
        let has_date = headers.iter().any(|(name, value)| {
            *name == "Date" && value.starts_with(b"Mon, 05 Jan 2026 10:02:00 GMT")
        });
        if has_date {
            prop_assert_eq!(read(status, &profile, &headers, &fields, !now, max_hold), signal);
        }
    }

    /// Any bytes are a name, and any bytes a value.
    #[test]
    fn any_bytes_are_read(
        status in any::<u16>(),
        headers in vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..200)), 0..30),
    ) {
        let pairs = headers.iter().map(|(name, value)| (name, value));
        let signal = Signal::parse(status, pairs, &Profile::GENERIC, NOW);
        prop_assert!(signal.hold <= DEFAULT_MAX_HOLD);
    }

    /// A delta is what it says in every form, and an absolute time what is left until it.
    #[test]
    fn all_forms_of_a_wait_mean_the_same(seconds in 0_u64..900, skew in 0_u64..7_200) {
        let at = 1_767_607_200 + seconds;
        let clock = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
        let forms = [
            format!("{seconds}"),
            format!("{seconds}.000"),
            format!("{at}"),
            format!("{at}000"),
            format!("{}m{}s", seconds / 60, seconds % 60),
            format!("Mon, 05 Jan 2026 10:{clock} GMT"),
            format!("Monday, 05-Jan-26 10:{clock} GMT"),
            format!("Mon Jan  5 10:{clock} 2026"),
            format!("2026-01-05T10:{clock}Z"),
            format!("2026-01-05 12:{clock}+02:00"),
            format!("Mon Jan 05 2026 05:{clock} GMT-0500 (Eastern Standard Time)"),
        ];
        for form in &forms {
            let headers = [("Date", "Mon, 05 Jan 2026 10:00:00 GMT"), ("Retry-After", form)];
            let signal = Signal::parse(429, headers, &Profile::GENERIC, NOW - 3_600 * SECOND + skew * SECOND);
            prop_assert_eq!(signal.hold, seconds * SECOND, "{}", form);
        }
    }

    /// A wait that is larger never becomes a shorter hold.
    #[test]
    fn holds_grow_with_what_is_asked(first in any::<u64>(), second in any::<u64>()) {
        let hold = |milliseconds: u64| {
            let text = milliseconds.to_string();
            Signal::parse(429, [("retry-after-ms", &*text)], &Profile::GENERIC, NOW).hold
        };
        prop_assert!((first <= second) <= (hold(first) <= hold(second)));
    }
}

#[test]
fn words_are_read_as_they_are_written() {
    for meaning in [
        Meaning::RetryAfter,
        Meaning::Limit,
        Meaning::Remaining,
        Meaning::Reset,
        Meaning::Window,
        Meaning::UsedOfLimit,
        Meaning::Bucket,
        Meaning::Global,
        Meaning::Reason,
        Meaning::ShouldRetry,
        Meaning::Cost,
        Meaning::RestoreRate,
        Meaning::Violated,
    ] {
        assert_eq!(Meaning::parse(meaning.as_str()), Some(meaning));
    }
    for unit in
        [Unit::Auto, Unit::Seconds, Unit::Milliseconds, Unit::EpochSeconds, Unit::EpochMilliseconds]
    {
        assert_eq!(Unit::parse(unit.as_str()), Some(unit));
    }
    assert_eq!((Meaning::parse(""), Unit::parse("minutes")), (None, None));
}

#[test]
fn profiles_are_found_by_their_names_alone() {
    for profile in Profile::BUILT_IN {
        assert_eq!(Profile::named(profile.name).map(|found| found.name), Some(profile.name));
    }
    assert!(Profile::named("GitHub").is_none());
    let names = Profile::BUILT_IN.iter().map(|profile| profile.name);
    assert_eq!(names.clone().collect::<std::collections::BTreeSet<_>>().len(), names.count());
}

#[test]
fn a_vendor_is_known_by_its_host() {
    let name = |host| Profile::of_host(host).map(|profile| profile.name);
    assert_eq!(name("api.github.com"), Some("github"));
    assert_eq!(name("API.OpenAI.com."), Some("openai"));
    assert_eq!(name("shop.myshopify.com"), Some("shopify"));
    assert_eq!(name("sqs.eu-west-1.amazonaws.com"), Some("aws"));
    assert_eq!(name("evilmyshopify.com"), None);
    assert_eq!(name("api.github.com.example.org"), None);
    assert_eq!(name("github.com"), None);
    assert_eq!(name("é"), None);
    assert_eq!(name(""), None);
    // What everybody's software or no host of its own tells is chosen by name.
    let vendors = ["generic", "kong"];
    let hosts = [
        "a.akamaiapis.net",
        "api.anthropic.com",
        "a.amazonaws.com",
        "management.azure.com",
        "discord.com",
        "registry-1.docker.io",
        "api.github.com",
        "gitlab.com",
        "api.groq.com",
        "api.hubapi.com",
        "a.atlassian.net",
        "api.linear.app",
        "connect.mailerlite.com",
        "a.okta.com",
        "api.openai.com",
        "oauth.reddit.com",
        "a.myshopify.com",
        "slack.com",
        "api.stripe.com",
        "api.vimeo.com",
        "api.x.com",
    ];
    let known: std::collections::BTreeSet<_> =
        hosts.into_iter().filter_map(name).chain(vendors).collect();
    assert_eq!(known, Profile::BUILT_IN.iter().map(|profile| profile.name).collect());
}

#[test]
fn a_row_replaces_what_a_header_usually_means() {
    let rows = [Row::new("retry-after", Meaning::RetryAfter).unit(Unit::Milliseconds)];
    let profile = Profile { rows: &rows, scope: HoldScope::Vendor, ..Profile::GENERIC };
    let signal = Signal::parse(429, [("Retry-After", "1500")], &profile, NOW);
    assert_eq!((signal.hold, signal.scope), (1_500_000_000, HoldScope::Vendor));
}
