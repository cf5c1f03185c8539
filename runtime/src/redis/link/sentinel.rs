//! The master of a Sentinel group, wherever it is.

use core::time::Duration;
use std::sync::Arc;

use ::redis::{
    Cmd, ErrorKind, FromRedisValue as _, RedisError, RedisResult, ServerErrorKind, Value,
};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::address::{Access, Place};
use super::pending::Pending;
use super::rounds::Rounds;
use super::server::{Server, timed_out};

/// How long the sentinels, and the master that they name, may take to answer.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Sentinel(Arc<Inner>);

struct Inner {
    sentinels: Vec<Server>,
    /// What the sentinels call the master.
    name: String,
    access: Access,
    timeout: Duration,
    master: Mutex<Option<Master>>,
    searches: Rounds<RedisResult<Server>>,
}

#[derive(Clone)]
struct Master {
    place: Place,
    server: Server,
    /// It may be the master no longer: the sentinels are to be asked.
    doubted: bool,
}

impl Sentinel {
    pub(super) fn new(
        sentinels: &[Place],
        access_to_sentinels: &Access,
        name: String,
        access: Access,
        timeout: Duration,
    ) -> RedisResult<Self> {
        let server = |place| Ok(Server::new(access_to_sentinels.client(place)?, SEARCH_TIMEOUT));
        Ok(Self(Arc::new(Inner {
            sentinels: sentinels.iter().map(server).collect::<RedisResult<_>>()?,
            name,
            access,
            timeout,
            master: Mutex::new(None),
            searches: Rounds::new(),
        })))
    }

    /// Sends to the master. What was surely not carried out, because the connection could not
    /// be made or the server is a replica by now, is sent again to whoever is the master then.
    pub(super) async fn send(
        &self,
        commands: Vec<Cmd>,
        deadline: Instant,
    ) -> Vec<RedisResult<Value>> {
        let mut pending = Pending::new(commands);
        while !pending.is_empty() && Instant::now() < deadline {
            let master = match self.master(deadline).await {
                Ok(master) => master,
                Err(error) => {
                    pending.fail(&error);
                    break;
                }
            };
            let sent = master.send(pending.commands(), false, deadline).await;
            let mut errors = sent.answers.iter().filter_map(|answer| answer.as_ref().err());
            if sent.lost || errors.any(is_no_master) {
                self.doubt(&master);
            }
            pending.settle(sent.answers, |error| sent.unsent || is_no_master(error));
        }
        pending.into_answers()
    }

    async fn master(&self, deadline: Instant) -> RedisResult<Server> {
        let known = self.0.master.lock().clone();
        if let Some(master) = known.filter(|master| !master.doubted) {
            return Ok(master.server);
        }
        let sentinel = self.clone();
        let search = self.0.searches.join(move || async move { sentinel.search().await });
        search.by(deadline).await.unwrap_or_else(|| Err(timed_out()))
    }

    fn doubt(&self, server: &Server) {
        if let Some(master) = self.0.master.lock().as_mut()
            && master.server.is(server)
        {
            master.doubted = true;
        }
    }

    /// Asks all sentinels at once, so that dead ones delay nobody, and believes the first
    /// whose master says of itself that it is one.
    async fn search(&self) -> RedisResult<Server> {
        let deadline = Instant::now() + SEARCH_TIMEOUT;
        let mut asked: FuturesUnordered<_> =
            self.0.sentinels.iter().map(|sentinel| self.ask(sentinel, deadline)).collect();
        let mut tried: Vec<Place> = Vec::new();
        let mut why = RedisError::from((ErrorKind::Io, "no sentinel answers"));
        while let Some(told) = asked.next().await {
            match told {
                Ok(place) if tried.contains(&place) => {}
                Ok(place) => match self.try_master(&place, deadline).await {
                    Ok(server) => return Ok(server),
                    Err(error) => {
                        why = error;
                        tried.push(place);
                    }
                },
                Err(error) if tried.is_empty() => why = error,
                Err(_) => {}
            }
        }
        // Without sentinels the last master may still be it.
        let last = self.0.master.lock().clone();
        match last.filter(|_| tried.is_empty()) {
            Some(last) => self.try_master(&last.place, deadline).await.map_err(|_| why),
            None => Err(why),
        }
    }

    async fn ask(&self, sentinel: &Server, deadline: Instant) -> RedisResult<Place> {
        let mut question = ::redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.0.name);
        let told = sentinel.ask_once(&question, deadline).await?;
        match <Option<(String, u16)>>::from_redis_value(told)? {
            Some((host, port)) => Ok(Place::tcp(&host, port)),
            None => Err((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the sentinels know no master of the name in the URL",
            )
                .into()),
        }
    }

    async fn try_master(&self, place: &Place, deadline: Instant) -> RedisResult<Server> {
        let known = self.0.master.lock().clone().filter(|master| master.place == *place);
        let server = match known {
            Some(master) => master.server,
            None => Server::new(self.0.access.client(place)?, self.0.timeout),
        };
        match server.ask_once(&::redis::cmd("ROLE"), deadline).await {
            Ok(role) if says_master(&role) => {}
            Ok(_) => return Err((ErrorKind::Io, "the sentinels' master is none yet").into()),
            // It may not be asked; then the sentinels' word must do.
            Err(error) if error.kind() == ServerErrorKind::NoPerm.into() => {}
            Err(error) => return Err(error),
        }
        let place = place.clone();
        *self.0.master.lock() = Some(Master { place, server: server.clone(), doubted: false });
        Ok(server)
    }
}

fn says_master(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    parts.first().is_some_and(|name| {
        matches!(name, Value::BulkString(name) if name == b"master")
            || matches!(name, Value::SimpleString(name) if name == "master")
    })
}

/// The server did not carry the command out, and another one may.
fn is_no_master(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
        )
    ) || is_readonly_in_script(error)
}

/// Before Redis 7 a script's error is wrapped in another one.
fn is_readonly_in_script(error: &RedisError) -> bool {
    error.kind() == ServerErrorKind::ResponseError.into()
        && error.detail().is_some_and(|detail| detail.contains("-READONLY "))
}
