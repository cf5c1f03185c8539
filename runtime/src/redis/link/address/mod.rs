//! Store URLs of the Redis family: where the servers are, and with which credentials.

use core::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use ::redis::{ProtocolVersion, RedisConnectionInfo};
use percent_encoding::percent_decode_str;

use super::options::Options;
use super::tls::Tls;
use crate::Error;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A parsed store URL.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) servers: Servers,
    /// The credentials for the servers that hold buckets.
    pub(super) access: Access,
    /// Whether each script call has a single key.
    per_key_calls: bool,
}

#[derive(Clone)]
pub(super) enum Servers {
    One(Place),
    /// Some nodes of the cluster; they name the others.
    Cluster(Vec<Place>),
    /// The sentinels that watch over the master of this name.
    Sentinels {
        sentinels: Vec<Place>,
        master: String,
        access: Access,
    },
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

/// The user, the protocol version, and whether the connection uses TLS.
#[derive(Clone, Default)]
pub(super) struct Access {
    settings: RedisConnectionInfo,
    /// Where the password stands, which is read for each connection, because it may have been changed.
    password_file: Option<PathBuf>,
    tls: Option<Tls>,
}

/// Where a server is, and how to introduce oneself to it.
pub(super) struct Login {
    access: Access,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Socket,
    Cluster,
    Sentinel,
}

/// The kind of store that a URL's scheme names, and whether its connections use TLS.
fn scheme_of(name: &str) -> Option<(Kind, bool)> {
    Some(match name {
        "redis" | "valkey" => (Kind::Tcp, false),
        "rediss" | "valkeys" => (Kind::Tcp, true),
        "redis+unix" | "valkey+unix" | "unix" => (Kind::Socket, false),
        "redis+cluster" | "valkey+cluster" => (Kind::Cluster, false),
        "rediss+cluster" | "valkeys+cluster" => (Kind::Cluster, true),
        "redis+sentinel" | "valkey+sentinel" => (Kind::Sentinel, false),
        "rediss+sentinel" | "valkeys+sentinel" => (Kind::Sentinel, true),
        _ => return None,
    })
}

impl Address {
    /// Whether [`parse`](Self::parse) knows the scheme of this URL.
    pub(crate) fn has_scheme(name: &str) -> bool {
        scheme_of(name).is_some()
    }

    /// Parses a URL. Errors name what is wrong. They never repeat a user, a password, or text that may
    /// be part of one because it was not percent-encoded.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unusable("it has no scheme"))?;
        let (kind, tls) = scheme_of(scheme).ok_or_else(|| unusable("its scheme is not known"))?;
        if rest.contains('#') {
            return Err(unusable("a # must be written %23"));
        }
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            return Err(unusable(
                "an @ after the ? must be written %40; in a user or password, so must : / ? and @",
            ));
        }
        let mut options = Options::read(query)?;
        let per_key_calls = per_key_calls(&mut options)?;
        let address = match kind {
            Kind::Socket => Self::at_socket(location, &mut options)?,
            Kind::Tcp | Kind::Cluster | Kind::Sentinel => {
                Self::over_tcp(kind, tls, location, &mut options)?
            }
        };
        options.refuse_others()?;
        let address = Self { per_key_calls, ..address };
        // Fails now, and not at the first call, if the file cannot be read.
        address.access.settings().map_err(|error| unusable(&error.to_string()))?;
        Ok(address)
    }

    fn at_socket(path: &str, options: &mut Options) -> Result<Self, Error> {
        if !path.starts_with('/') {
            return Err(unusable("the path of the socket must begin with /"));
        }
        let path = PathBuf::from(decoded(path, "the path of the socket")?);
        let user = options.take("user").unwrap_or_default();
        let password = options.take("pass");
        let password_file = password_file(options, password.is_some())?;
        let mut settings = identified(&user, password.as_deref());
        settings = settings.set_db(database(options.take("db").as_deref())?);
        settings = settings.set_protocol(protocol(options)?);
        let access = Access { settings, password_file, tls: None };
        Ok(Self { servers: Servers::One(Place::Socket(path)), access, per_key_calls: false })
    }

    fn over_tcp(
        kind: Kind,
        tls: bool,
        location: &str,
        options: &mut Options,
    ) -> Result<Self, Error> {
        let (authority, path) = location.split_once('/').unwrap_or((location, ""));
        let (identity, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match identity.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "the password")?)),
            None => (identity, None),
        };
        let user = decoded(user, "the user")?;
        let default_port = if kind == Kind::Sentinel { SENTINEL_PORT } else { REDIS_PORT };
        let mut places = places(hosts, default_port)?;

        let tls = tls_options(tls, kind, options)?;
        let protocol = protocol(options)?;
        let settings = identified(&user, password.as_deref()).set_protocol(protocol);
        let password_file = password_file(options, password.is_some())?;
        let mut access = Access { settings, password_file, tls };
        let path = path.trim_matches('/');
        let servers = match kind {
            Kind::Cluster => {
                if database(either(path, options.take("db"))?.as_deref())? != 0 {
                    return Err(unusable("a cluster has no other database than 0"));
                }
                Servers::Cluster(places)
            }
            Kind::Sentinel => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                let master = decoded(master, "the master's name")?;
                if master.is_empty() {
                    return Err(unusable("after the sentinels comes / and the master's name"));
                }
                access.settings =
                    access.settings.set_db(database(either(path, options.take("db"))?.as_deref())?);
                let user = options.take("sentinel_username").unwrap_or_default();
                let password = options.take("sentinel_password");
                let settings = identified(&user, password.as_deref()).set_protocol(protocol);
                let access = Access { settings, password_file: None, tls: access.tls.clone() };
                Servers::Sentinels { sentinels: places, master, access }
            }
            Kind::Tcp | Kind::Socket => {
                access.settings =
                    access.settings.set_db(database(either(path, options.take("db"))?.as_deref())?);
                let one = places.pop().filter(|_| places.is_empty());
                Servers::One(one.ok_or_else(|| {
                    unusable("several hosts need redis+cluster:// or redis+sentinel://")
                })?)
            }
        };
        Ok(Self { servers, access, per_key_calls: false })
    }

    /// Whether each script call has a single key, for a proxy that sends a call where its first key lives.
    pub(crate) fn has_per_key_calls(&self) -> bool {
        self.per_key_calls
    }

    /// Whether connections are encrypted, but nobody checks to whom they lead.
    pub(crate) fn accepts_anybody(&self) -> bool {
        self.access.tls.as_ref().is_some_and(Tls::accepts_anybody)
    }
}

/// Scheme, hosts, ports and database, for logs.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.access.tls.is_some() { "rediss" } else { "redis" };
        let database = self.access.settings.db();
        match &self.servers {
            Servers::One(Place::Socket(path)) => {
                write!(f, "{scheme}+unix://{}/{database}", path.display())
            }
            Servers::One(place) => write!(f, "{scheme}://{place}/{database}"),
            Servers::Cluster(places) => write!(f, "{scheme}+cluster://{}", joined(places)),
            Servers::Sentinels { sentinels, master, .. } => {
                write!(f, "{scheme}+sentinel://{}/{master}/{database}", joined(sentinels))
            }
        }?;
        // An operator who reads the log must see this one.
        f.write_str(if self.accepts_anybody() { "?verify=none" } else { "" })
    }
}

fn joined(places: &[Place]) -> String {
    places.iter().map(Place::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Place {
    /// The place of another port on the same host, or of another host.
    pub(super) fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp { host: host.to_owned(), port }
    }
}

impl Access {
    /// The login to the server at `place`.
    pub(super) fn login(&self, place: &Place) -> Login {
        Login { access: self.clone(), place: place.clone() }
    }

    /// What to introduce oneself with, with the password as it stands now.
    fn settings(&self) -> io::Result<RedisConnectionInfo> {
        let settings = self.settings.clone().set_lib_name("tidegate", env!("CARGO_PKG_VERSION"));
        Ok(match &self.password_file {
            Some(file) => settings.set_password(read_password(file)?),
            None => settings,
        })
    }
}

impl Login {
    pub(super) fn settings(&self) -> io::Result<RedisConnectionInfo> {
        self.access.settings()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.access.tls.as_ref()
    }
}

fn per_key_calls(options: &mut Options) -> Result<bool, Error> {
    match options.take("per_key_calls").as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(unusable("per_key_calls must be true or false")),
    }
}

/// The file with the password, if the URL names one.
fn password_file(options: &mut Options, has_password: bool) -> Result<Option<PathBuf>, Error> {
    let file = options.take("password_file").map(PathBuf::from);
    if file.is_some() && has_password {
        return Err(unusable("it has a password and a password_file; give one of them"));
    }
    Ok(file)
}

/// The first line of the file.
fn read_password(file: &Path) -> io::Result<String> {
    let read = fs::read_to_string(file).map_err(|error| {
        let message = format!("the password_file {} cannot be read: {error}", file.display());
        io::Error::new(error.kind(), message)
    })?;
    Ok(read.lines().next().unwrap_or_default().to_owned())
}

fn unusable(why: &str) -> Error {
    Error::argument("store", format!("not a usable Redis URL: {why}"))
}

fn decoded(text: &str, what: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| unusable(&format!("{what} is not UTF-8")))
}

fn identified(user: &str, password: Option<&str>) -> RedisConnectionInfo {
    let settings = RedisConnectionInfo::default();
    let settings = if user.is_empty() { settings } else { settings.set_username(user) };
    match password {
        Some(password) => settings.set_password(password),
        None => settings,
    }
}

fn places(hosts: &str, default_port: u16) -> Result<Vec<Place>, Error> {
    hosts.split(',').map(|host| place(host, default_port)).collect()
}

/// Parses `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
fn place(text: &str, default_port: u16) -> Result<Place, Error> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) =
                rest.split_once(']').ok_or_else(|| unusable("a [ without its ]"))?;
            if host.parse::<core::net::Ipv6Addr>().is_err() {
                return Err(unusable("what stands in [] is not an IPv6 address"));
            }
            (host, after.strip_prefix(':').or_else(|| after.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port {
        Some("") => Some(default_port),
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => None,
    };
    let port = port.ok_or_else(|| unusable("a port is a number from 1 to 65535"))?;
    if host.is_empty() {
        return Err(unusable("a host is missing"));
    }
    if matches!(host, "0.0.0.0" | "::") {
        return Err(unusable("0.0.0.0 and :: are no addresses to connect to"));
    }
    if host.contains(|letter: char| {
        letter.is_whitespace() || letter.is_control() || "%\\<>^|\"`".contains(letter)
    }) {
        return Err(unusable("a host has letters that no name may have"));
    }
    Ok(Place::tcp(host, port))
}

/// The database number, from the path or from the options.
fn either(path: &str, option: Option<String>) -> Result<Option<String>, Error> {
    match (path, option) {
        ("", option) => Ok(option),
        (path, None) => Ok(Some(path.to_owned())),
        _ => Err(unusable("the database stands both in the path and in db=")),
    }
}

fn database(text: Option<&str>) -> Result<i64, Error> {
    let number = text.map_or(Some(0), |text| text.parse().ok().filter(|number| *number >= 0));
    number.ok_or_else(|| unusable("the database must be a number from 0"))
}

fn protocol(options: &mut Options) -> Result<ProtocolVersion, Error> {
    match options.take("protocol").as_deref() {
        None | Some("resp2" | "2") => Ok(ProtocolVersion::RESP2),
        Some("resp3" | "3") => Ok(ProtocolVersion::RESP3),
        Some(_) => Err(unusable("protocol must be resp2 or resp3")),
    }
}

fn tls_options(mut tls: bool, kind: Kind, options: &mut Options) -> Result<Option<Tls>, Error> {
    if matches!(kind, Kind::Cluster | Kind::Sentinel) {
        match options.take("tls").as_deref() {
            None => {}
            Some("true") => tls = true,
            Some("false") if !tls => {}
            Some("false") => return Err(unusable("tls=false contradicts its scheme")),
            Some(_) => return Err(unusable("tls must be true or false")),
        }
    }
    Tls::take(tls, options)
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test may stop")]
mod tests;
