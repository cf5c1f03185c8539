//! Tests of store URLs.

use super::*;

fn parsed(url: &str) -> Address {
    Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refused(url: &str) -> String {
    match Address::parse(url) {
        Ok(_) => panic!("{url} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn settings(url: &str) -> (Option<String>, Option<String>, i64, bool) {
    shown(&parsed(url).access)
}

fn shown(access: &Access) -> (Option<String>, Option<String>, i64, bool) {
    let it = &access.settings;
    let (user, password) = (it.username().map(Into::into), it.password().map(Into::into));
    (user, password, it.db(), it.protocol() == ProtocolVersion::RESP3)
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn one_server() {
    for (url, host, port) in [
        ("redis://localhost", "localhost", 6379),
        ("valkey://10.0.0.1:7000/", "10.0.0.1", 7000),
        ("redis://[::1]:7000", "::1", 7000),
        ("rediss://[2001:db8::1]", "2001:db8::1", 6379),
        ("valkeys://user:pw@redis.example:1/3", "redis.example", 1),
    ] {
        let Servers::One(place) = parsed(url).servers else { panic!("{url}") };
        assert_eq!(place, Place::tcp(host, port), "{url}");
        let tls = url.starts_with("rediss:") || url.starts_with("valkeys:");
        assert_eq!(parsed(url).access.tls.is_some(), tls, "{url}");
    }
    for url in ["redis+unix:///run/a%20b.sock", "unix:///run/a%20b.sock?db=1"] {
        let Servers::One(place) = parsed(url).servers else { panic!("{url}") };
        assert_eq!(place, Place::Socket("/run/a b.sock".into()), "{url}");
    }
}

#[test]
fn who_asks_for_which_database_in_which_protocol() {
    for (url, expected) in [
        ("redis://h", (None, None, 0, false)),
        ("redis://:pw@h/2", (None, text("pw"), 2, false)),
        ("redis://a%40b:p%3Aw%2F@h/?db=3&protocol=resp3", (text("a@b"), text("p:w/"), 3, true)),
        ("redis://a:b:c@h?protocol=2", (text("a"), text("b:c"), 0, false)),
        ("redis+unix:///s?user=a&pass=b%26&db=4&protocol=3", (text("a"), text("b&"), 4, true)),
        ("redis+cluster://a:b@h?db=0", (text("a"), text("b"), 0, false)),
        ("redis+sentinel://a:b@h/m/5", (text("a"), text("b"), 5, false)),
        ("redis+sentinel://a:b@h/m?db=6", (text("a"), text("b"), 6, false)),
    ] {
        assert_eq!(settings(url), expected, "{url}");
    }
}

#[test]
fn several_hosts() {
    let Servers::Cluster(seeds) = parsed("valkey+cluster://a,b:7001,[::1]:7002").servers else {
        panic!("no cluster")
    };
    assert_eq!(seeds, [Place::tcp("a", 6379), Place::tcp("b", 7001), Place::tcp("::1", 7002)]);
    assert!(parsed("rediss+cluster://a").access.tls.is_some());
    assert!(parsed("redis+cluster://a?tls=true").access.tls.is_some());
    assert!(parsed("redis+cluster://a?tls=false").access.tls.is_none());

    let url = "redis+sentinel://u:p@a,b:7001/my%2Fmaster?sentinel_username=w&sentinel_password=x";
    let address = parsed(url);
    let Servers::Sentinels { sentinels, master, access } = address.servers else {
        panic!("no sentinels")
    };
    assert_eq!(sentinels, [Place::tcp("a", 26379), Place::tcp("b", 7001)]);
    assert_eq!(master, "my/master");
    assert_eq!(shown(&access), (text("w"), text("x"), 0, false));
    assert_eq!(shown(&address.access), (text("u"), text("p"), 0, false));
}

#[test]
fn what_cannot_be_used_is_named() {
    for (url, why) in [
        ("redis://", "a host is missing"),
        ("redis://a,b", "several hosts need"),
        ("redis+cluster://a,,b", "a host is missing"),
        ("redis://0.0.0.0", "no addresses"),
        ("redis://h:0", "1 to 65535"),
        ("redis://h:65536", "1 to 65535"),
        ("redis://[::1]7000", "1 to 65535"),
        ("redis://[::1", "without its ]"),
        ("redis://[localhost]", "not an IPv6 address"),
        ("redis://a b", "letters"),
        ("redis://h/x", "number from 0"),
        ("redis://h/-1", "number from 0"),
        ("redis://h/1?db=1", "both in the path and in db="),
        ("redis://h?protocol=4", "resp2 or resp3"),
        ("redis://h?timeout=4", "timeout is not an option"),
        ("redis://h?tls=true", "tls is not an option"),
        ("redis://h?db=1&db=2", "db is given twice"),
        ("redis://h?db", "a name, = and a value"),
        ("redis://h#insecure", "%23"),
        ("redis+unix://s", "begin with /"),
        ("redis+unix:///s?tls=true", "tls is not an option"),
        ("redis+cluster://h/1", "no other database"),
        ("redis+cluster://h?tls=yes", "true or false"),
        ("rediss+cluster://h?tls=false", "contradicts"),
        ("redis+sentinel://h", "the master's name"),
        ("redis+sentinel://h/m/x", "number from 0"),
        ("redis://h?ca=/x", "ca cannot be read"),
        ("rediss://h?ca=/dev/null&cert=/dev/null", "given together"),
        ("redis://h?ca=/dev/null", "are for TLS"),
        ("rediss://h?cert=/dev/null&key=/dev/null", "cert has no certificate"),
        ("rediss://h?ca=/dev/null", "ca has no certificate"),
        (
            "redis://h?tls=true",
            "tls is not an option of it; there are db, password_file, per_key_calls, protocol",
        ),
        (
            "rediss://h?timeout=1",
            "there are ca, cert, db, key, password_file, per_key_calls, protocol, verify",
        ),
        (
            "redis+unix:///s?tls=true",
            "there are db, pass, password_file, per_key_calls, protocol, user",
        ),
        (
            "redis+sentinel://h/m?x=1",
            "there are db, password_file, per_key_calls, protocol, sentinel_password, sentinel_username, tls",
        ),
        ("redis://h?per_key_calls=yes", "per_key_calls must be true or false"),
        ("rediss://h?verify=no", "verify must be full or none"),
        ("rediss://h?verify=none&ca=/dev/null", "leave ca out"),
        ("redis://h?verify=none", "are for TLS"),
    ] {
        let told = refused(url);
        assert!(told.starts_with("invalid store: ") && told.contains(why), "{url}: {told}");
    }
}

#[test]
fn no_secret_is_repeated() {
    for url in [
        "redis://user:hunter2@h:99999",
        "redis://user:hunter2@h/x",
        "redis://user:hunter2@h?x=y",
        "redis://user:hun?ter2=x@h",
        "redis://user:hun/ter2@h",
        "redis://user:hun#ter2@h",
        "redis://user:%FFhunter2@h",
        "redis://h?hunter2",
        "redis://h?hunter2=1",
        "redis+sentinel://h/m?sentinel_password=hunter2&x=1",
        "redis+unix:///s?pass=hunter2&pass=hunter2",
        "hunter2://h",
    ] {
        let told = refused(url);
        for secret in ["hunter2", "ter2", "hun"] {
            assert!(!told.contains(secret), "{url}: {told}");
        }
    }
}
