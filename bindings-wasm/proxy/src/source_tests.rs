//! Tests of the sources of entries.

use tidegate_core::MAX_KEY;

use super::{NoKey, Source, header_property};
use crate::fake_host::FakeHost;
use crate::header_match::{Form, HeaderMatch, HeaderMatches};
use crate::host::Status;
use crate::names::{Name, Names};
use crate::scratch::Scratch;

/// A host, and the texts of a configuration.
struct World {
    host: FakeHost,
    names: Names,
}

impl World {
    fn new() -> Self {
        Self { host: FakeHost::default(), names: Names::EMPTY }
    }

    #[track_caller]
    fn name(&mut self, text: &str) -> Name {
        self.names.add(text.as_bytes()).unwrap_or_else(|| panic!("no room for {text}"))
    }

    #[track_caller]
    fn header(&mut self, name: &str) -> Name {
        let property = header_property(name).map(|path| path.as_str().to_owned());
        self.name(&property.unwrap_or_else(|| panic!("{name} is no header")))
    }

    /// What a source reads when this property has this value.
    fn read(
        &self,
        source: Source,
        property: &str,
        value: Result<&[u8], Status>,
    ) -> Result<Vec<u8>, NoKey> {
        self.host.set_property(property.as_bytes(), value);
        let mut memory = [0; 2048];
        let read = source.read(&self.names, &self.host, &mut Scratch::new(&mut memory));
        read.map(<[u8]>::to_vec)
    }

    fn text(&self, source: Source, property: &str, value: &str) -> Result<String, NoKey> {
        let read = self.read(source, property, Ok(value.as_bytes()))?;
        Ok(String::from_utf8_lossy(&read).into_owned())
    }
}

#[test]
fn header_names_are_tokens_in_lower_case() {
    let mut world = World::new();
    for (name, path) in [
        ("X-Api-Key", "request\0headers\0x-api-key"),
        (":authority", "request\0headers\0:authority"),
    ] {
        let property = world.header(name);
        assert_eq!(world.names.text(property), path);
    }
    for bad in ["", ":", "a b", "a:b", "é", "a\0b", "a\nb", &"x".repeat(65)] {
        assert!(header_property(bad).is_none(), "{bad}");
    }
}

#[test]
fn any_value_of_a_header_is_a_key() {
    let mut world = World::new();
    let source = Source::Header { property: world.header("K") };
    let path = "request\0headers\0k";
    for value in [&b""[..], b"a", b"a,b", b"a\xFF", &[b'a'; MAX_KEY], &[b'a'; MAX_KEY + 1]] {
        world.host.set_header(b"k", Ok(value));
        assert_eq!(world.read(source, path, Ok(value)), Ok(value.to_vec()));
    }
    for (first, joined) in [("a", "a,b"), ("", ","), ("", ",a"), ("a,b", "a,b,c")] {
        world.host.set_header(b"k", Ok(first.as_bytes()));
        assert_eq!(world.text(source, path, joined), Err(NoKey::Repeated));
    }
    world.host.set_header(b"k", Err(Status::INVALID_MEMORY_ACCESS));
    assert_eq!(world.text(source, path, "a,b"), Err(NoKey::TooLong));
    for (status, why) in [
        (Status::NOT_FOUND, NoKey::Missing),
        (Status::INVALID_MEMORY_ACCESS, NoKey::TooLong),
        (Status(12), NoKey::Host(Status(12))),
    ] {
        assert_eq!(world.read(source, path, Err(status)), Err(why));
    }
}

#[test]
fn addresses_and_networks_have_no_port() {
    let world = World::new();
    let path = "source\0address";
    assert_eq!(world.text(Source::RemoteAddress, path, "[::1]:80"), Ok("::1".to_owned()));
    assert_eq!(world.text(Source::RemoteAddress, path, ""), Err(NoKey::Missing));
    let network = Source::Network { v4_bits: 24, v6_bits: 64 };
    for (address, expect) in [
        ("192.0.2.7:80", "192.0.2.0/24"),
        ("[2001:db8::1:2:3:4]:80", "2001:db8::/64"),
        ("/run/app.sock", "/run/app.sock"),
    ] {
        assert_eq!(world.text(network, path, address).as_deref(), Ok(expect));
    }
    assert_eq!(world.text(network, path, ""), Err(NoKey::Missing));
}

#[test]
fn a_host_has_one_spelling() {
    let world = World::new();
    let host = |name| world.text(Source::HostName, "request\0host", name);
    for name in [
        "example.com",
        "EXAMPLE.com",
        "example.com:8080",
        "Example.Com.",
        "example.com.:1",
        "example.com:",
        "example.com.:",
    ] {
        assert_eq!(host(name).as_deref(), Ok("example.com"), "{name}");
    }
    // A client could switch descriptors off if there were hosts that are no value.
    for name in ["", ".", ":", ":80", ".:80"] {
        assert_eq!(host(name).as_deref(), Ok(""), "{name}");
    }
    let absent = Err(Status::NOT_FOUND);
    assert_eq!(world.read(Source::HostName, "request\0host", absent), Err(NoKey::Missing));
}

#[test]
fn parts_of_the_request_line_and_metadata_are_read_as_they_are() {
    let mut world = World::new();
    let value = world.name("v");
    let (query, cookie) = (Source::Query(world.name("q")), Source::Cookie(world.name("c")));
    let property = world.name("metadata\0filter_metadata\0jwt\0sub");
    let metadata = |default| Source::Metadata { property, default };
    for (source, path, found, expect) in [
        (Source::Path, "request\0url_path", "/a/b", "/a/b"),
        (Source::Method, "request\0method", "GET", "GET"),
        (query, "request\0query", "a=1&q=%41", "A"),
        (cookie, "request\0headers\0cookie", "a=1; c=2", "2"),
        (Source::Value(value), "", "", "v"),
        (metadata(None), "metadata\0filter_metadata\0jwt\0sub", "ann", "ann"),
        (metadata(Some(value)), "metadata\0filter_metadata\0jwt\0sub", "", "v"),
    ] {
        assert_eq!(world.text(source, path, found).as_deref(), Ok(expect), "{source:?}");
    }
    let path = "metadata\0filter_metadata\0jwt\0sub";
    let absent = Err(Status::NOT_FOUND);
    assert_eq!(world.read(metadata(None), path, absent), Err(NoKey::Missing));
    assert_eq!(world.read(metadata(Some(value)), path, absent), Ok(b"v".to_vec()));
}

#[test]
fn headers_match_as_envoy_matches_them_and_a_repeated_one_never() {
    let mut world = World::new();
    let (property, value) = (world.header("x-plan"), world.name("free"));
    let (part, end) = (world.name("re"), world.name("ee"));
    let path = "request\0headers\0x-plan";
    let source = |form, inverted, expected| {
        let mut matches = HeaderMatches::default();
        assert!(matches.add(HeaderMatch { property, form, inverted }).is_some());
        Source::HeaderMatch { matches, expected, value }
    };
    let absent: Result<&str, Status> = Err(Status::NOT_FOUND);
    for (form, given, matches) in [
        (Form::Exact(value), Ok("free"), true),
        (Form::Exact(value), Ok("freed"), false),
        (Form::Prefix(value), Ok("freed"), true),
        (Form::Prefix(value), Ok("fre"), false),
        (Form::Suffix(end), Ok("free"), true),
        (Form::Suffix(end), Ok("freed"), false),
        (Form::Contains(part), Ok("free"), true),
        (Form::Contains(part), Ok("fe"), false),
        (Form::Present(true), Ok(""), true),
        (Form::Present(true), absent, false),
        (Form::Present(false), absent, true),
        (Form::Present(false), Ok("x"), false),
    ] {
        let given = given.map(str::as_bytes);
        let found =
            |inverted, expected| world.read(source(form, inverted, expected), path, given).is_ok();
        assert_eq!(found(false, true), matches, "{form:?} {given:?}");
        assert_eq!(found(false, false), !matches);
        assert_eq!(found(true, true), !matches);
    }
    // A header that is absent has no text, inverted or not.
    for inverted in [false, true] {
        let read =
            world.read(source(Form::Exact(value), inverted, true), path, absent.map(str::as_bytes));
        assert_eq!(read, Err(NoKey::NoMatch));
    }
    world.host.set_header(b"x-plan", Ok(b"free"));
    for form in [Form::Exact(value), Form::Prefix(value), Form::Suffix(end), Form::Contains(part)] {
        assert_eq!(world.text(source(form, false, true), path, "free,x"), Err(NoKey::Repeated));
    }
    assert!(world.text(source(Form::Present(true), false, true), path, "free,x").is_ok());
}
