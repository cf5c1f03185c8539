//! A server and the one connection to it.

use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use ::redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tidegate_protocol::lock::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::address::{Login, Place};
use super::connection::Connection;
use super::failure::{Answer, Failure};
use super::lookup;
use super::single_flight::between;

/// How long it may take to connect, unless the store timeout is longer. Callers wait for at most the
/// store timeout; an attempt that takes longer goes on for later callers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// If an attempt takes longer than this, its packets may be lost. A second attempt then begins beside
/// it, and the first connection that stands is used.
const ANOTHER_ATTEMPT: Duration = Duration::from_millis(250);

/// A connection on which nothing was answered for this long is replaced as soon as another one can be
/// made. A middlebox may have forgotten it, which the system would notice only much later.
const SILENCE: Duration = Duration::from_millis(750);

/// After this long without a command, a silent connection is not replaced, as nobody needs it.
const ABANDONED: Duration = Duration::from_secs(2);

/// A connection that was not used for this long is looked at before it is used: a server with a
/// `timeout`, or a load balancer, closes idle connections, mostly after seconds.
const IDLE: Duration = Duration::from_millis(100);

/// How long a server may load its data, or wait for its master, before another connection is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause before yet another connection is tried, at first and at most. Behind an address that leads
/// to a new master, such as a forwarder's, connections to the old one stay open.
const REDIAL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// A server and its connection, which is made when it is first needed and again when it is gone.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    login: Login,
    /// The server's name in messages.
    name: Arc<str>,
    connect_timeout: Duration,
    line: Mutex<Option<Arc<Line>>>,
    replacing: AtomicBool,
    /// Whether TLS has been begun over a connection, and not been answered yet.
    is_encrypting: AtomicBool,
    /// Whether the server's last answers said that it is not the one to ask.
    is_stale: AtomicBool,
    redial: Mutex<Redial>,
    /// Whether a timer is running that nobody waits for; see `leave_timer`.
    timing: Arc<AtomicBool>,
    epoch: Instant,
}

/// The back-off of connections to a server that says it is not the one to ask.
#[derive(Default)]
struct Redial {
    /// Since when it says so; `None` while it serves.
    since: Option<Instant>,
    /// When another connection may be tried.
    next: Option<Instant>,
    /// The next pause.
    pause: Duration,
}

/// What a server says that did nothing, and over another connection may be another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It is a replica, or has forgotten who speaks.
    Replaced,
    /// It loads its data, or waits for its master, which may be over soon.
    Loading,
}

/// A connection, or the attempt to make it.
struct Line {
    connected: watch::Receiver<Option<RedisResult<Connection>>>,
    /// Since when answers are due and none has come, in milliseconds of the server's epoch; 0 if no
    /// answer is due.
    asking_since: AtomicU64,
    /// When the last command was sent.
    asked: AtomicU64,
    /// Tells callers that wait for an answer that another connection has taken its place.
    left: Notify,
}

/// Why there is no connection.
struct Unconnected {
    error: RedisError,
    /// Whether the attempt is over; if not, it goes on beyond the deadline.
    failed: bool,
}

/// The result of the commands of one call.
pub(super) struct Sent {
    /// The answer to each command, in order.
    pub(super) answers: Vec<Answer>,
    /// There was no connection, so that nothing was carried out.
    pub(super) unsent: bool,
    /// The connection broke, or has been silent for too long.
    pub(super) lost: bool,
    /// The connection was given up, because the server says that it is not the one to ask. Commands
    /// with such an answer were not carried out.
    pub(super) redialled: bool,
}

impl Server {
    pub(super) fn new(login: Login, timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            name: login.place().to_string().into(),
            login,
            connect_timeout: timeout.max(CONNECT_TIMEOUT),
            line: Mutex::new(None),
            replacing: AtomicBool::new(false),
            is_encrypting: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            redial: Mutex::default(),
            timing: Arc::default(),
            epoch: Instant::now(),
        }))
    }

    /// Sends the commands at once and in order. A command without an answer at the deadline gets a
    /// timeout. With `asking`, each is marked as redirected here by a node that gives the slot away.
    pub(super) async fn send(&self, commands: &[Cmd], asking: bool, deadline: Instant) -> Sent {
        let (line, connection) = match self.open_connection(deadline).await {
            Ok(connected) => connected,
            Err(Unconnected { error, failed }) => {
                let is_encrypted = self.0.login.tls().is_some();
                let failure = Failure::before_sending(&self.0.name, error, is_encrypted)
                    .awaiting(self.unanswered());
                let answers = commands.iter().map(|_| Err(failure.clone())).collect();
                return Sent { answers, unsent: true, lost: failed, redialled: false };
            }
        };
        // The callers may have given up before the result of the attempt was known.
        self.replace_if_silent(&line);
        let answers = self.ask(&line, connection, commands, asking, deadline).await;
        let lost = self.judge(&line, &answers);
        let redialled = !lost && self.redial_if_stale(&line, &answers);
        let named = |answer: RedisResult<Value>| answer.map_err(|it| Failure::of(&self.0.name, it));
        let answers = answers.into_iter().map(named).collect();
        Sent { answers, unsent: false, lost, redialled }
    }

    /// Sends one command.
    pub(super) async fn ask_once(&self, command: &Cmd, deadline: Instant) -> Answer {
        let sent = self.send(core::slice::from_ref(command), false, deadline).await;
        sent.answers.into_iter().next().unwrap_or_else(|| Err(timed_out().into()))
    }

    /// Lets go of the connection, which closes when the answers that are due have come. The next
    /// command connects again.
    pub(super) fn disconnect(&self) {
        let connection = self.0.line.lock().take();
        drop(connection);
    }

    /// Whether its connection stands, as far as is known.
    pub(super) fn is_connected(&self) -> bool {
        let line = self.0.line.lock();
        line.as_ref().is_some_and(|line| matches!(*line.connected.borrow(), Some(Ok(_))))
    }

    /// Whether answers are due and none has come for long.
    pub(super) fn is_silent(&self) -> bool {
        let line = self.0.line.lock().clone();
        line.is_some_and(|line| self.0.is_silent(&line))
    }

    /// What a call waits for that may never come: the answer to the beginning of TLS.
    pub(super) fn unanswered(&self) -> Option<String> {
        // An attempt that is given up leaves its mark.
        let is_awaited = self.0.is_encrypting.load(Ordering::Relaxed) && !self.is_connected();
        is_awaited.then(|| {
            let name = &self.0.name;
            format!(
                "{name} does not answer the beginning of TLS; a port without TLS needs redis://"
            )
        })
    }

    /// Whether this is the same server, and not only another one at the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Puts all commands in one message, so that no other command comes between them.
    async fn ask(
        &self,
        line: &Line,
        mut connection: Connection,
        commands: &[Cmd],
        asking: bool,
        deadline: Instant,
    ) -> Vec<RedisResult<Value>> {
        self.0.begins(line);
        self.leave_timer(deadline);
        let answering = async {
            if let ([command], false) = (commands, asking) {
                // Most batches are one command, which needs no copy.
                return match connection.ask(command).await {
                    Ok(value) => Ok(vec![answer(value)]),
                    Err(error) if is_of_server(&error) => Ok(vec![Err(error)]),
                    Err(error) => Err(error),
                };
            }
            let answer_each = if asking { 2 } else { 1 };
            let mut message = Pipeline::with_capacity(commands.len() * answer_each);
            for command in commands {
                if asking {
                    message.cmd("ASKING");
                }
                message.add_command(command.clone());
            }
            let count = commands.len() * answer_each;
            let answers = connection.ask_all(&message, count).await?;
            let own = answers.into_iter().skip(answer_each - 1).step_by(answer_each);
            Ok(own.map(answer).collect::<Vec<_>>())
        };
        let left = line.left.notified();
        let error = match timeout_at(deadline, select(pin!(answering), pin!(left))).await {
            Ok(Either::Left((Ok(answers), _))) if answers.len() == commands.len() => {
                line.asking_since.store(0, Ordering::Relaxed);
                return answers;
            }
            Ok(Either::Left((Err(error), _))) => error,
            Ok(_) => gone(),
            Err(_) => timed_out(),
        };
        commands.iter().map(|_| Err(error.clone())).collect()
    }

    /// Keeps one timer running. The runtime wakes itself whenever a timer is set that is nearer than all
    /// others. The timers of each batch would be, because the last batch has left none.
    fn leave_timer(&self, deadline: Instant) {
        if self.0.timing.swap(true, Ordering::Relaxed) {
            return;
        }
        let timing = Arc::clone(&self.0.timing);
        tokio::spawn(async move {
            sleep_until(deadline).await;
            timing.store(false, Ordering::Relaxed);
        });
    }

    /// Gives the connection up if it is broken, and tries to replace it if it is silent.
    fn judge(&self, line: &Arc<Line>, answers: &[RedisResult<Value>]) -> bool {
        if answers.iter().any(|answer| answer.as_ref().is_err_and(is_broken)) {
            self.0.forget(line);
            return true;
        }
        self.replace_if_silent(line)
    }

    /// Gives the connection up if the server says that it is not the one to ask: commands that follow
    /// go over a new one. Answers that are due still come over this one.
    fn redial_if_stale(&self, line: &Arc<Line>, answers: &[RedisResult<Value>]) -> bool {
        let stale = answers.iter().find_map(|answer| is_stale(answer.as_ref().err()?));
        let Some(stale) = stale else {
            if self.0.is_stale.load(Ordering::Relaxed) && answers.iter().any(Result::is_ok) {
                self.0.is_stale.store(false, Ordering::Relaxed);
                *self.0.redial.lock() = Redial::default();
            }
            return false;
        };
        self.0.is_stale.store(true, Ordering::Relaxed);
        self.0.redial.lock().is_due(stale, Instant::now()) && self.0.retire(line)
    }

    /// A connection that was not closed while it was idle, as far as is known.
    async fn open_connection(
        &self,
        deadline: Instant,
    ) -> Result<(Arc<Line>, Connection), Unconnected> {
        let (line, mut connection) = self.connection(deadline).await?;
        if self.0.is_idle(&line) && is_closed(&mut connection).await {
            self.0.forget(&line);
            return self.connection(deadline).await;
        }
        Ok((line, connection))
    }

    async fn connection(&self, deadline: Instant) -> Result<(Arc<Line>, Connection), Unconnected> {
        let line = self.line();
        // The usual case is checked first, because it needs no timer.
        let made = line.connected.borrow().clone();
        let made = match made {
            Some(made) => made,
            None => match timeout_at(deadline, line.made()).await {
                Ok(made) => made,
                Err(_) => return Err(Unconnected { error: timed_out(), failed: false }),
            },
        };
        match made {
            Ok(connection) => Ok((line, connection)),
            Err(error) => Err(Unconnected { error, failed: true }),
        }
    }

    fn line(&self) -> Arc<Line> {
        let mut current = self.0.line.lock();
        if let Some(line) = &*current {
            return Arc::clone(line);
        }
        let line = self.connect();
        *current = Some(Arc::clone(&line));
        line
    }

    /// Begins to connect. The attempt goes on even if all callers that wait for it give up.
    fn connect(&self) -> Arc<Line> {
        let (making, connected) = watch::channel(None);
        let (asking_since, asked) = (AtomicU64::new(0), AtomicU64::new(self.0.now()));
        let line = Arc::new(Line { connected, asking_since, asked, left: Notify::new() });
        let (server, made_for) = (self.clone(), Arc::clone(&line));
        tokio::spawn(async move {
            let made = timeout(server.0.connect_timeout, server.0.make()).await;
            let made = made.unwrap_or_else(|_| Err(timed_out()));
            if made.is_err() {
                // Callers that wait get the error; later ones try again.
                server.0.forget(&made_for);
            }
            let _ = making.send(Some(made));
        });
        line
    }

    /// Tests whether the silent connection answers at all, and replaces it if another one can be made
    /// before it does.
    fn replace_if_silent(&self, line: &Arc<Line>) -> bool {
        let silent = self.0.is_silent(line);
        if silent && !self.0.replacing.swap(true, Ordering::AcqRel) {
            let (server, silent) = (self.clone(), Arc::clone(line));
            tokio::spawn(async move {
                while !server.replace(&silent).await && server.0.is_missed(&silent) {}
                server.0.replacing.store(false, Ordering::Release);
            });
        }
        silent
    }

    /// Pings over the silent connection, and connects anew beside it. The first that works is used.
    /// Returns false if the new connection fails before the ping is answered.
    async fn replace(&self, silent: &Arc<Line>) -> bool {
        let other = self.connect();
        let answered = async {
            let mut connection = silent.made().await?;
            connection.ask(&::redis::cmd("PING")).await
        };
        match select(pin!(answered), pin!(other.made())).await {
            Either::Left((Ok(_), _)) => silent.asking_since.store(0, Ordering::Relaxed),
            Either::Left((Err(_), _)) => self.0.forget(silent),
            Either::Right((Ok(_), _)) => self.0.put(silent, Arc::clone(&other)),
            Either::Right((Err(_), _)) => return false,
        }
        true
    }
}

impl Line {
    async fn made(&self) -> RedisResult<Connection> {
        let mut connected = self.connected.clone();
        let made = connected.wait_for(Option::is_some).await;
        made.ok().and_then(|made| made.clone()).unwrap_or_else(|| Err(gone()))
    }
}

impl Inner {
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn begins(&self, line: &Line) {
        line.asked.store(self.now(), Ordering::Relaxed);
        if line.asking_since.load(Ordering::Relaxed) == 0 {
            line.asking_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn is_silent(&self, line: &Line) -> bool {
        let since = line.asking_since.load(Ordering::Relaxed);
        since != 0 && u128::from(self.now().saturating_sub(since)) >= SILENCE.as_millis()
    }

    fn is_idle(&self, line: &Line) -> bool {
        let unasked = self.now().saturating_sub(line.asked.load(Ordering::Relaxed));
        u128::from(unasked) >= IDLE.as_millis()
    }

    /// Whether it is silent although commands are still being sent.
    fn is_missed(&self, line: &Line) -> bool {
        let unasked = self.now().saturating_sub(line.asked.load(Ordering::Relaxed));
        self.is_silent(line) && u128::from(unasked) < ABANDONED.as_millis()
    }

    async fn make(&self) -> RedisResult<Connection> {
        let addresses = match self.login.place() {
            Place::Tcp { host, port } => lookup::addresses(host, *port).await?,
            Place::Socket(_) => Vec::new(),
        };
        let mut attempts = FuturesUnordered::new();
        loop {
            attempts.push(Connection::open(&self.login, &addresses, &self.is_encrypting));
            // If it is refused, no packet was lost.
            if let Ok(made) = timeout(ANOTHER_ATTEMPT, attempts.next()).await {
                return made.unwrap_or_else(|| Err(gone()));
            }
        }
    }

    /// Makes the next call connect again.
    fn forget(&self, line: &Arc<Line>) {
        self.change(line, None);
    }

    /// Makes the next call connect again, while callers still wait for answers over this connection.
    fn retire(&self, line: &Arc<Line>) -> bool {
        let mut current = self.line.lock();
        let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, line));
        if is_current {
            *current = None;
        }
        is_current
    }

    fn put(&self, instead_of: &Arc<Line>, other: Arc<Line>) {
        self.change(instead_of, Some(other));
    }

    fn change(&self, from: &Arc<Line>, to: Option<Arc<Line>>) {
        let mut current = self.line.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, from)) {
            *current = to;
            from.left.notify_waiters();
        }
    }
}

impl Redial {
    /// Whether another connection is to be tried now, after such an answer.
    fn is_due(&mut self, stale: Stale, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_patient = stale == Stale::Loading && now < since + PATIENCE;
        if is_patient || self.next.is_some_and(|next| now < next) {
            return false;
        }
        let [first, longest] = REDIAL;
        self.pause = (2 * self.pause).clamp(first, longest);
        self.next = Some(now + between([self.pause / 2, self.pause]));
        true
    }
}

/// Whether the connection's task has ended, so that nothing can be sent. A command is handed to it and
/// taken back at once: the task leaves out a command that nobody waits for.
async fn is_closed(connection: &mut Connection) -> bool {
    // The end may be among the events that woke the I/O thread, and the task has yet to see it.
    yield_now().await;
    let ping = ::redis::cmd("PING");
    let mut asking = pin!(connection.ask(&ping));
    poll_fn(|task| Poll::Ready(matches!(asking.as_mut().poll(task), Poll::Ready(Err(_))))).await
}

fn answer(value: Value) -> RedisResult<Value> {
    match value {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// Whether the error is the server's answer to a command.
fn is_of_server(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Whether the server did nothing, because it is not, or not yet, the one to ask.
pub(super) fn is_stale(error: &RedisError) -> Option<Stale> {
    match error.code()? {
        "READONLY" | "NOAUTH" => Some(Stale::Replaced),
        "MASTERDOWN" | "LOADING" => Some(Stale::Loading),
        _ => is_readonly_in_script(error).then_some(Stale::Replaced),
    }
}

/// Whether a script failed because the server is read-only. Before Redis 7, that error is wrapped in
/// another one.
pub(super) fn is_readonly_in_script(error: &RedisError) -> bool {
    error.kind() == ServerErrorKind::ResponseError.into()
        && error.detail().is_some_and(|detail| detail.contains("-READONLY "))
}

/// Whether the error makes the connection useless: it is gone, or what comes is not the protocol.
fn is_broken(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) && !error.is_timeout()
}

pub(super) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn gone() -> RedisError {
    io::Error::from(io::ErrorKind::ConnectionAborted).into()
}
