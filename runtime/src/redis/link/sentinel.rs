//! The master of a Sentinel group, wherever it is.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use ::redis::{Cmd, ErrorKind, FromRedisValue as _, RedisError, ServerErrorKind, Value};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate_protocol::lock::Mutex;
use tokio::time::{Instant, timeout_at};

use super::address::{Access, Place};
use super::failure::{Answer, Failure};
use super::pending::Pending;
use super::server::{Server, is_readonly_in_script, timed_out};
use super::single_flight::{Joined, SingleFlight};

/// How long the sentinels may take until one of them answers. A server that they name then has as long
/// to say whether it is a master.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Once one sentinel has answered, the others have this long to know better: a short time if a caller
/// waits for the master, a longer one while the known master serves. A sentinel that takes longer,
/// such as one that hangs, is not waited for, so that it cannot hide a failover that others report.
const PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE_WHILE_SERVED: Duration = Duration::from_millis(250);

/// How often the sentinels are asked again while the master is used. A master may not know yet that it
/// has been replaced, and what is charged there is lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Sentinel(Arc<Inner>);

struct Inner {
    sentinels: Vec<Server>,
    /// The name that the sentinels have for the master.
    name: String,
    access: Access,
    timeout: Duration,
    master: Mutex<Option<Master>>,
    searches: SingleFlight<Answer<Server>>,
}

#[derive(Clone)]
struct Master {
    told: Told,
    server: Server,
    /// Whether it may no longer be the master, so that the sentinels must be asked before it is used.
    doubted: bool,
    found: Instant,
}

impl Master {
    /// Whether it is time to ask whether it still is the master.
    fn is_due(&self) -> bool {
        self.doubted || self.found.elapsed() > LOOK_AGAIN
    }
}

/// The place where a sentinel says that the master is.
#[derive(Clone)]
struct Told {
    place: Place,
    /// The epoch of the failover that made it master; the latest counts.
    epoch: u64,
}

impl Sentinel {
    pub(super) fn new(
        sentinels: &[Place],
        access_to_sentinels: &Access,
        name: String,
        access: Access,
        timeout: Duration,
    ) -> Self {
        let server = |place| Server::new(access_to_sentinels.login(place), ANSWER_TIMEOUT);
        Self(Arc::new(Inner {
            sentinels: sentinels.iter().map(server).collect(),
            name,
            access,
            timeout,
            master: Mutex::new(None),
            searches: SingleFlight::new(),
        }))
    }

    /// Sends commands to the master. If they were surely not carried out, because the connection could
    /// not be made or the server is a replica by now, they are sent again to the new master.
    pub(super) async fn send(&self, commands: Vec<Cmd>, deadline: Instant) -> Vec<Answer> {
        let mut pending = Pending::new(commands);
        while !pending.is_empty() && Instant::now() < deadline {
            let master = match self.master(deadline).await {
                Ok(master) => master,
                Err(error) => {
                    pending.fail(&error);
                    break;
                }
            };
            if master.is_silent() {
                // The master is asked all the same: a server that only hangs answers when it can.
                self.doubt(&master);
            }
            let sent = master.send(pending.commands(), false, deadline).await;
            let mut errors = sent.answers.iter().filter_map(|answer| answer.as_ref().err());
            if sent.lost || errors.any(|failure| is_no_master(failure)) {
                self.doubt(&master);
            }
            pending.settle(sent.answers, |error| sent.unsent || is_no_master(error));
        }
        pending.into_answers()
    }

    /// Asks the sentinels for the master, unless that was done just now. If no sentinel answers, the
    /// known master stays the master.
    pub(super) async fn look_first(&self, deadline: Instant) {
        let known = self.0.master.lock().clone();
        if known.is_none_or(|master| master.is_due()) {
            let _ = self.look().by(deadline).await;
        }
    }

    async fn master(&self, deadline: Instant) -> Answer<Server> {
        let known = self.0.master.lock().clone();
        if let Some(master) = known.filter(|master| !master.doubted) {
            if master.is_due() {
                self.look();
            }
            return Ok(master.server);
        }
        self.look().by(deadline).await.unwrap_or_else(|| Err(timed_out().into()))
    }

    /// Lets go of the connections to the sentinels and to the master.
    pub(super) fn disconnect(&self) {
        let master = self.0.master.lock().as_ref().map(|master| master.server.clone());
        self.0.sentinels.iter().chain(&master).for_each(Server::disconnect);
    }

    fn look(&self) -> Joined<Answer<Server>> {
        let sentinel = self.clone();
        self.0.searches.join(move || async move { sentinel.search().await })
    }

    fn doubt(&self, server: &Server) {
        if let Some(master) = self.0.master.lock().as_mut()
            && master.server.is(server)
        {
            master.doubted = true;
        }
    }

    /// Asks all sentinels at once, so that dead ones delay nobody. The sentinel that knows of the latest
    /// failover is right, if its master says of itself that it is a master.
    async fn search(&self) -> Answer<Server> {
        let last = self.0.master.lock().clone();
        let (mut told, mut why) = self.ask_all(last.as_ref()).await;
        let heard = !told.is_empty();
        // A sentinel that did not answer may be the only one that knows of the last master.
        if told.len() < self.0.sentinels.len() {
            told.extend(last.map(|last| last.told));
        }
        told.sort_by_key(|told| core::cmp::Reverse(told.epoch));
        told.dedup_by(|one, other| one.place == other.place);
        for told in told {
            match self.try_master(told).await {
                Ok(server) => return Ok(server),
                Err(error) if heard => why = error,
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// What the sentinels say, and the error of one that does not answer.
    async fn ask_all(&self, last: Option<&Master>) -> (Vec<Told>, Failure) {
        let mut until = Instant::now() + ANSWER_TIMEOUT;
        let serves = last.is_some_and(|last| !last.doubted);
        let patience = if serves { PATIENCE_WHILE_SERVED } else { PATIENCE };
        let latest = last.map_or(0, |last| last.told.epoch);
        let mut asked: FuturesUnordered<_> =
            self.0.sentinels.iter().map(|sentinel| self.ask(sentinel, until)).collect();
        let mut told = Vec::new();
        let mut why = Failure::from(RedisError::from((ErrorKind::Io, "no sentinel answers")));
        while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
            match answer {
                Ok(answer) => {
                    // A sentinel that has missed a failover is no reason to hurry.
                    if answer.epoch >= latest {
                        until = until.min(Instant::now() + patience);
                    }
                    told.push(answer);
                }
                Err(error) => why = error,
            }
        }
        (told, why)
    }

    async fn ask(&self, sentinel: &Server, deadline: Instant) -> Answer<Told> {
        // MASTER tells the epoch. GET-MASTER-ADDR-BY-NAME already names the new master while its
        // replicas are still being reconfigured.
        let about = |what| {
            let mut question = ::redis::cmd("SENTINEL");
            question.arg(what).arg(&self.0.name);
            question
        };
        let questions = [about("MASTER"), about("GET-MASTER-ADDR-BY-NAME")];
        let mut answers = sentinel.send(&questions, false, deadline).await.answers.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(timed_out().into()));
        let state =
            HashMap::<String, String>::from_redis_value(next()?).map_err(RedisError::from)?;
        let address =
            <Option<(String, u16)>>::from_redis_value(next()?).map_err(RedisError::from)?;
        let epoch = state.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        match (address, epoch) {
            (Some((host, port)), Some(epoch)) => Ok(Told { place: Place::tcp(&host, port), epoch }),
            _ => {
                Err(RedisError::from((ErrorKind::Io, "a sentinel's answer has another form"))
                    .into())
            }
        }
    }

    async fn try_master(&self, told: Told) -> Answer<Server> {
        let known = self.0.master.lock().clone().filter(|master| master.told.place == told.place);
        let server = match known {
            Some(master) => master.server,
            None => Server::new(self.0.access.login(&told.place), self.0.timeout),
        };
        match server.ask_once(&::redis::cmd("ROLE"), Instant::now() + ANSWER_TIMEOUT).await {
            Ok(role) if says_master(&role) => {}
            Ok(_) => {
                let none = (ErrorKind::Io, "the sentinels' master is none yet");
                return Err(RedisError::from(none).into());
            }
            // The user may lack the permission to ask; then the sentinels' answer must do.
            Err(error) if error.kind() == ServerErrorKind::NoPerm.into() => {}
            Err(error) => return Err(error),
        }
        *self.0.master.lock() =
            Some(Master { told, server: server.clone(), doubted: false, found: Instant::now() });
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

/// Whether the server did not carry the command out and another one may.
fn is_no_master(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
        )
    ) || is_readonly_in_script(error)
}
