//! The options of `tidegate serve`.

use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use tidegate::Limit;
use tracing_subscriber::filter::Targets;

use crate::rule_counters::NearLimit;
use crate::sockets::Address;

const EXAMPLES: &str = "\
Examples:
  One process by itself, which needs nothing else:
    tidegate serve --limit 100/s

  One limit for any domain and any descriptor:
    tidegate serve --store redis://127.0.0.1:6379 --limit \"50/s burst 50\"

  Two limits that both must allow:
    tidegate serve --store redis://127.0.0.1:6379 --limit \"50/s\" --limit \"100000/d\"

  Rules from a file, the store's password from the environment:
    TIDEGATE_STORE=redis://:secret@redis.internal:6379 tidegate serve --rules rules.toml

  On free ports, for a test:
    tidegate serve --store memory:// --limit 10/s --grpc-listen 127.0.0.1:0 \\
      --http-listen 127.0.0.1:0 --ports-file ports.json

Exit codes: 0 stopped by SIGTERM or SIGINT; 1 the system refused something, such as
an address to listen on; 2 the command line, the rules or a certificate is wrong.";

// The bounds of options that the library checks are in its errors only; `store_options` adds
// the option's name. The bounds of the service's own options are below.

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("what").required(true).args(["rules", "limit"]))]
pub(crate) struct ServeOptions {
    /// The store of the buckets: redis://, rediss:// (TLS), redis+unix://, redis+cluster://,
    /// redis+sentinel://, shm://NAME (the processes of this host) or memory:// (this process only);
    /// memory:// unless given
    #[arg(long, value_name = "URL", env = "TIDEGATE_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    /// The rules file (TOML): the limits of each kind of descriptor
    #[arg(long, value_name = "FILE", env = "TIDEGATE_RULES")]
    pub(crate) rules: Option<PathBuf>,

    /// The interval at which the rules file is read, to see whether it has changed: 0s (only on SIGHUP)
    /// to 10min
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_RULES_POLL",
        default_value = "1s",
        value_parser = rules_poll
    )]
    pub(crate) rules_poll: Duration,

    /// Instead of a rules file: a limit for any descriptor; up to 4, repeated or separated by ";"
    #[arg(long, value_name = "LIMIT", env = "TIDEGATE_LIMIT", value_delimiter = ';')]
    pub(crate) limit: Vec<String>,

    /// With --limit: the prefix of keys in the store
    #[arg(
        long,
        value_name = "TEXT",
        env = "TIDEGATE_PREFIX",
        default_value = "tidegate",
        conflicts_with = "rules"
    )]
    pub(crate) prefix: String,

    /// With --limit: charges hits also when they do not fit, for clients that report what has been
    /// used (Envoy's apply_on_stream_done) and check with 0 hits before
    #[arg(long, env = "TIDEGATE_REPORTS", conflicts_with = "rules")]
    pub(crate) reports: bool,

    /// The largest limit that a descriptor may bring itself; larger ones are cut to it
    #[arg(
        long,
        value_name = "LIMIT",
        env = "TIDEGATE_MAX_OVERRIDE",
        default_value = "1000000/s",
        value_parser = limit
    )]
    pub(crate) max_override: Limit,

    /// Refuses no request: all rules only count
    #[arg(long, env = "TIDEGATE_SHADOW")]
    pub(crate) shadow: bool,

    /// The part of a limit from which /metrics counts a descriptor as near it: 0 to 1
    #[arg(
        long,
        value_name = "PART",
        env = "TIDEGATE_NEAR_LIMIT_RATIO",
        default_value = "0.8",
        value_parser = NearLimit::parse
    )]
    pub(crate) near_limit_ratio: NearLimit,

    /// The address to listen on for gRPC, or unix:/PATH for a socket of the file system; port 0 takes a
    /// free port
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TIDEGATE_GRPC_LISTEN",
        default_value = "127.0.0.1:8081",
        value_parser = Address::parse
    )]
    pub(crate) grpc_listen: Address,

    /// The address to listen on for HTTP (/v1/check, /json, /healthz,
    /// /readyz, /metrics); port 0 takes a free port
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TIDEGATE_HTTP_LISTEN",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) http_listen: SocketAddr,

    /// A file that gets {"grpc": PORT, "http": PORT}, atomically, when the service is ready
    #[arg(long, value_name = "FILE", env = "TIDEGATE_PORTS_FILE")]
    pub(crate) ports_file: Option<PathBuf>,

    /// The longest wait for the store, connecting included: 1ms to 60s
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_STORE_TIMEOUT",
        default_value = "50ms",
        value_parser = duration
    )]
    pub(crate) store_timeout: Duration,

    /// The answer while Redis fails: raise (a gRPC error), allow (every request), deny (none), or
    /// local (by this process's share of each limit; needs --peers)
    #[arg(long, value_name = "POLICY", env = "TIDEGATE_ON_STORE_ERROR", default_value = "raise")]
    pub(crate) on_store_error: String,

    /// With --on-store-error local: the number of processes that use the buckets, each of which
    /// then has an equal share of the limits: 1 to 1000000
    #[arg(long, value_name = "COUNT", env = "TIDEGATE_PEERS")]
    pub(crate) peers: Option<u64>,

    /// The longest time for which a key that Redis has refused is refused again without asking:
    /// 0s (always ask) to 60s; 100ms unless given
    #[arg(long, value_name = "TIME", env = "TIDEGATE_DENY_CACHE", value_parser = duration)]
    pub(crate) deny_cache: Option<Duration>,

    /// Leases tokens of busy keys for this time, and spends them without asking Redis: 100ms to
    /// 60s, in whole milliseconds
    #[arg(long, value_name = "TIME", env = "TIDEGATE_LEASE_TTL", value_parser = duration)]
    pub(crate) lease_ttl: Option<Duration>,

    /// With --lease-ttl: the largest part of the rate that this process leases: 0.001 to 1; 1
    /// unless given
    #[arg(long, value_name = "PART", env = "TIDEGATE_LEASE_MAX_SHARE", requires = "lease_ttl")]
    pub(crate) lease_max_share: Option<f64>,

    /// Also serves Envoy's rate limit quota service (RLQS, v3): divides each limit over the Envoys that
    /// ask for it, which then decide by themselves
    #[arg(long, env = "TIDEGATE_RLQS")]
    pub(crate) rlqs: bool,

    /// With --rlqs: how long a share of a limit belongs to an Envoy that is not heard any more: 2s to
    /// 60s, in whole seconds
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_RLQS_TTL",
        default_value = "3s",
        value_parser = rlqs_ttl
    )]
    pub(crate) rlqs_ttl: Duration,

    /// The longest time that a request may take: 1ms to 60s
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_REQUEST_TIMEOUT",
        default_value = "1s",
        value_parser = request_timeout
    )]
    pub(crate) request_timeout: Duration,

    /// The longest time for pending requests to finish after SIGTERM or SIGINT: 0s to 10min
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_DRAIN",
        default_value = "10s",
        value_parser = drain
    )]
    pub(crate) drain: Duration,

    /// The time between SIGTERM or SIGINT and the moment from which no connection is accepted: 0s to
    /// 10min. Health probes fail meanwhile, so that load balancers stop sending requests
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_DRAIN_DELAY",
        default_value = "0s",
        value_parser = drain
    )]
    pub(crate) drain_delay: Duration,

    /// The interval of pings on an idle gRPC connection, which is closed if it does not answer:
    /// 1s to 1h
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_KEEPALIVE",
        default_value = "30s",
        value_parser = keepalive
    )]
    pub(crate) keepalive: Duration,

    /// The longest life of a gRPC connection, after which the client is told to open another one: 1s to
    /// 24h; without it, any. So new replicas get their part of the requests
    #[arg(
        long,
        value_name = "TIME",
        env = "TIDEGATE_MAX_CONNECTION_AGE",
        value_parser = connection_age
    )]
    pub(crate) max_connection_age: Option<Duration>,

    /// The most gRPC connections; more are closed at once: 1 to 1000000
    #[arg(
        long,
        value_name = "COUNT",
        env = "TIDEGATE_MAX_CONNECTIONS",
        default_value_t = 512,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) max_connections: u32,

    /// The most HTTP connections; more are closed at once: 1 to 1000000. They have a bound of their own, so
    /// that health probes are answered while all gRPC connections are taken
    #[arg(
        long,
        value_name = "COUNT",
        env = "TIDEGATE_MAX_HTTP_CONNECTIONS",
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) max_http_connections: u32,

    /// The most pending requests on all connections, with those whose answer the client has not read;
    /// more are answered RESOURCE_EXHAUSTED: 1 to 1000000
    #[arg(
        long,
        value_name = "COUNT",
        env = "TIDEGATE_MAX_PENDING",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) max_pending: u32,

    /// The most pending requests on one gRPC connection: 1 to 1000000
    #[arg(
        long,
        value_name = "COUNT",
        env = "TIDEGATE_MAX_STREAMS",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) max_streams: u32,

    /// The largest gRPC request, in bytes: 1024 to 4194304
    #[arg(
        long,
        value_name = "BYTES",
        env = "TIDEGATE_MAX_MESSAGE_SIZE",
        default_value_t = 1_048_576,
        value_parser = clap::value_parser!(u32).range(1024..=4_194_304)
    )]
    pub(crate) max_message_size: u32,

    /// Serves gRPC over TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Takes gRPC connections only of clients with a certificate of one of these authorities (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CLIENT_CA", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,

    /// The events to log: a level, or levels by target such as "warn,tidegate=debug"
    #[arg(long, value_name = "FILTER", env = "TIDEGATE_LOG", default_value = "info")]
    pub(crate) log: Targets,

    /// The format of the log on standard error
    #[arg(long, value_enum, value_name = "FORMAT", env = "TIDEGATE_LOG_FORMAT", default_value_t)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text per event
    #[default]
    Text,
    /// One JSON object per event and line
    Json,
}

fn request_timeout(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::from_millis(1), Duration::from_secs(60))
}

fn rules_poll(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::ZERO, Duration::from_secs(600))
}

fn rlqs_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration_within(text, Duration::from_secs(2), Duration::from_secs(60))?;
    match ttl.subsec_nanos() {
        0 => Ok(ttl),
        _ => Err("it must be in whole seconds".to_owned()),
    }
}

fn drain(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::ZERO, Duration::from_secs(600))
}

fn limit(text: &str) -> Result<Limit, String> {
    Limit::parse(text).map_err(|error| error.to_string())
}

fn keepalive(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::from_secs(1), Duration::from_secs(3600))
}

fn connection_age(text: &str) -> Result<Duration, String> {
    duration_within(text, Duration::from_secs(1), Duration::from_secs(86_400))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, such as 50ms or 2s"))
}

fn duration_within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = duration(text)?;
    if !(least..=most).contains(&duration) {
        return Err(format!(
            "it must be {} to {}",
            humantime::format_duration(least),
            humantime::format_duration(most)
        ));
    }
    Ok(duration)
}
