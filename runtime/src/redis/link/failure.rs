//! Why a command has no answer, and from which server.

use core::fmt;
use core::ops::Deref;
use core::time::Duration;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, Value};
use tidegate_protocol::{Cause, StoreFailure};

use crate::Error;

/// The answer to a command, or why there is none.
pub(crate) type Answer<T = Value> = Result<T, Failure>;

/// An error of a server, or of the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    error: RedisError,
    /// The server, as `host:port` or as the path of its socket; `None` if it is no single one.
    server: Option<Arc<str>>,
    is_unsent: bool,
    /// Whether the connection uses TLS; not known of connections that stand.
    is_encrypted: Option<bool>,
    /// What it waited for until its time was over, where that is known.
    awaited: Option<Box<str>>,
}

impl Failure {
    /// An error of this server.
    pub(super) fn of(server: &Arc<str>, error: RedisError) -> Self {
        let server = Some(Arc::clone(server));
        Self { error, server, is_unsent: false, is_encrypted: None, awaited: None }
    }

    /// An error of this server's connection, over which nothing was sent. The connection was to be one
    /// with TLS if it `is_encrypted`.
    pub(super) fn before_sending(server: &Arc<str>, error: RedisError, is_encrypted: bool) -> Self {
        let is_encrypted = Some(is_encrypted);
        Self { is_unsent: true, is_encrypted, ..Self::of(server, error) }
    }

    /// The same failure, if it is a timeout because of what was awaited.
    pub(super) fn awaiting(self, awaited: Option<String>) -> Self {
        let awaited = awaited.filter(|_| self.is_timeout()).map(String::into_boxed_str);
        Self { awaited, ..self }
    }

    /// Whether the command was surely not sent.
    pub(crate) const fn is_unsent(&self) -> bool {
        self.is_unsent
    }

    /// The store's error. A timeout has no duration yet: the caller's own is filled in.
    pub(crate) fn into_store_error(self) -> Error {
        if self.is_timeout() {
            let cause = match self.awaited {
                Some(awaited) => Cause::awaited_in_vain(awaited.into()),
                None => Cause::new(self.error),
            };
            return Error::StoreTimeout { after: Duration::ZERO, cause };
        }
        Error::Store(self.into_store_failure())
    }

    /// The message, with the error as its cause.
    pub(crate) fn into_store_failure(self) -> StoreFailure {
        StoreFailure::new(self.to_string(), self.error)
    }

    /// The likely cause, where the error alone does not say what to do.
    fn hint(&self) -> Option<&'static str> {
        match (self.code(), self.kind()) {
            (Some("MOVED" | "CROSSSLOT"), _) => {
                Some("it is a node of a cluster, whose URL is redis+cluster://")
            }
            (Some("NOAUTH" | "WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => {
                Some("check the user and the password of the URL")
            }
            (_, ErrorKind::Parse) => {
                Some("it does not speak the protocol of Redis; a port for TLS needs rediss://")
            }
            _ if self.is_connection_refusal() => Some("no server listens there"),
            _ if self.is_connection_dropped() && self.is_encrypted == Some(false) => {
                Some("it closes connections at once; a port for TLS needs rediss://")
            }
            _ if self.error.to_string().contains("InvalidContentType") => {
                Some("it does not speak TLS; a port without TLS needs redis://")
            }
            _ => None,
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self { error, server: None, is_unsent: false, is_encrypted: None, awaited: None }
    }
}

impl Deref for Failure {
    type Target = RedisError;

    fn deref(&self) -> &RedisError {
        &self.error
    }
}

/// One line: the server, the error, and its likely cause.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(f, "{server}: ")?;
        }
        let text = self.error.to_string();
        for (place, line) in text.lines().map(str::trim).enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            f.write_str(line)?;
        }
        self.hint().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}
