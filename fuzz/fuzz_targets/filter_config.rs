//! Fuzzes the Envoy filter: any bytes as its configuration (JSON or protobuf), as a request's
//! key, and as the service's response.
#![no_main]

use core::cell::Cell;

use libfuzzer_sys::fuzz_target;
use tidegate_proxy::config::{Config, KEYS};
use tidegate_proxy::filter::{Action, Filter};
use tidegate_proxy::host::{GrpcCall, Host, LocalReply, Status};
use tidegate_proxy::pairs::Pair;

const ROOT: u32 = 1;
const STREAM: u32 = 2;
const CALL: u32 = 3;
const SERVICE: &[u8] = br#"{"key": {"header": "k"}, "missing_key": "deny", "service": {"cluster": "c", "on_error": "deny"}}"#;

/// Sources that decode what a client sends.
const SOURCES: &[u8] = br#"{"descriptors": [{"actions": [
    {"cookie": {"name": "a", "descriptor_key": "c", "skip_if_absent": true}},
    {"query_parameters": {"query_parameter_name": "a", "descriptor_key": "q", "skip_if_absent": true}},
    {"masked_remote_address": {}}, {"host": {}}]}],
    "missing_key": "deny", "service": {"cluster": "c", "on_error": "deny"}}"#;

/// What the service answers is the response, too.
const SETTLES: &[u8] = br#"{"key": {"header": "k"}, "missing_key": "deny",
    "cost": {"estimate": 5, "settle": {"json": "a.b"}}, "allowed_headers": true, "service": {"cluster": "c", "on_error": "deny"}}"#;

fuzz_target!(|bytes: &[u8]| {
    reads_only_json(bytes);
    any_bytes_may_be_the_configuration(bytes);
    any_bytes_may_be_the_key_and_the_response(bytes);
});

/// An accepted configuration is JSON for another parser too, and within its bounds; a refusal
/// has a message.
fn reads_only_json(bytes: &[u8]) {
    match Config::parse(bytes) {
        Ok(config) => {
            assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok());
            assert!((400..=599).contains(&config.status));
            assert!(KEYS.contains(&u64::from(config.max_keys)));
            assert!((1..=8).contains(&config.descriptors.as_slice().len()));
            for descriptor in config.descriptors.as_slice() {
                assert!(descriptor.limits.is_some() || config.service.is_some());
                if let Some(limits) = &descriptor.limits {
                    let buckets = limits.as_slice().len();
                    // A limit that is `unlimited` or `none` has no bucket.
                    assert!(buckets <= 4 && (buckets > 0 || limits.fixed().is_some()));
                }
            }
            if let Some(service) = &config.service {
                assert!((1..=60_000).contains(&service.timeout_ms));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn any_bytes_may_be_the_configuration(bytes: &[u8]) {
    let host = FuzzHost::new(bytes, b"key", b"\x08\x01");
    let mut filter = filter();
    let configured = filter.configure(&host, ROOT);
    assert_eq!(configured, host.logged.get() == 0, "a refusal is logged, and nothing else");
    let action = request(&mut filter, &host);
    assert!(configured || (action == Action::Pause && host.replied.get() == 1));
}

/// A request is answered or resumed, once.
fn any_bytes_may_be_the_key_and_the_response(bytes: &[u8]) {
    for configuration in [SERVICE, SOURCES, SETTLES] {
        let host = FuzzHost::new(configuration, bytes, bytes);
        let mut filter = filter();
        assert!(filter.configure(&host, ROOT));
        let action = request(&mut filter, &host);
        assert_eq!(action, Action::Pause);
        assert_eq!(host.replied.get() + host.resumed.get(), 1, "{bytes:?}");
    }
}

fn request(filter: &mut Filter<64>, host: &FuzzHost<'_>) -> Action {
    filter.context_created(STREAM, ROOT);
    let action = filter.request_headers(host, STREAM, false);
    if host.called.get() {
        filter.call_answered(host, CALL);
    }
    filter.response_headers(host, STREAM, false);
    filter.response_body(host, STREAM, host.response.len(), true);
    filter.context_done(host, STREAM);
    action
}

/// A new filter. It is made on a larger stack than the main thread has: a build with little optimization makes it there
/// before it moves it.
fn filter() -> Box<Filter<64>> {
    let large = std::thread::Builder::new().stack_size(64 << 20);
    let made = large.spawn(|| Box::new(Filter::new())).map(std::thread::JoinHandle::join);
    let Ok(Ok(filter)) = made else { panic!("no thread") };
    filter
}

struct FuzzHost<'a> {
    configuration: &'a [u8],
    key: &'a [u8],
    response: &'a [u8],
    called: Cell<bool>,
    logged: Cell<u32>,
    replied: Cell<u32>,
    resumed: Cell<u32>,
}

impl<'a> FuzzHost<'a> {
    fn new(configuration: &'a [u8], key: &'a [u8], response: &'a [u8]) -> Self {
        let (called, logged, replied, resumed) = Default::default();
        Self { configuration, key, response, called, logged, replied, resumed }
    }
}

impl Host for FuzzHost<'_> {
    fn configuration(&self) -> Result<&[u8], Status> {
        Ok(self.configuration)
    }

    fn property(&self, _path: &[u8]) -> Result<&[u8], Status> {
        Ok(self.key)
    }

    fn keep(&self, _stream: u32, _name: &str, _bytes: &[u8]) -> Result<(), Status> {
        Ok(())
    }

    fn response_body(&self, _size: usize, read: &mut dyn FnMut(&[u8])) -> Result<(), Status> {
        read(self.response);
        Ok(())
    }

    fn set_response_header(&self, _header: Pair<'_>, _replaces: bool) -> Result<(), Status> {
        Ok(())
    }

    fn first_header(&self, _name: &[u8]) -> Result<&[u8], Status> {
        Ok(self.key)
    }

    fn monotonic_now(&self) -> Result<u64, Status> {
        Ok(1_000)
    }

    fn wall_now(&self) -> Result<u64, Status> {
        Ok(1_764_000_000_000_000_000)
    }

    fn random(&self) -> Result<(u64, u64), Status> {
        Ok((3, 4))
    }

    fn define_counter(&self, _name: &str) -> Result<u32, Status> {
        Ok(0)
    }

    fn increment(&self, _counter: u32) -> Result<(), Status> {
        Ok(())
    }

    fn log_error(&self, message: &str) {
        assert!(!message.is_empty());
        self.logged.set(self.logged.get() + 1);
    }

    fn call(&self, _root: u32, _stream: u32, _call: &GrpcCall<'_>) -> Result<u32, Status> {
        self.called.set(true);
        Ok(CALL)
    }

    fn grpc_message(&self, max_size: usize) -> Result<&[u8], Status> {
        Ok(self.response.get(..max_size).unwrap_or(self.response))
    }

    fn reply(&self, _stream: u32, reply: &LocalReply<'_>) -> Result<(), Status> {
        assert!(core::str::from_utf8(reply.details.as_bytes()).is_ok() && reply.status >= 400);
        self.replied.set(self.replied.get() + 1);
        Ok(())
    }

    fn resume(&self, _stream: u32) -> Result<(), Status> {
        self.resumed.set(self.resumed.get() + 1);
        Ok(())
    }
}
