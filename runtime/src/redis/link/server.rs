//! One server, and the one connection to it.

use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value,
};
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long one attempt to connect may take, or the store timeout where that is longer.
/// Callers wait for at most the store timeout; an attempt that is nearly there goes on for
/// the next ones.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that has left everything unanswered for this long is replaced as soon as
/// another one can be made. It may have been forgotten by what lies in between, which would
/// otherwise only be found out when the system gives up.
const SILENCE: Duration = Duration::from_millis(750);

/// As many commands can be on their way to the connection's task; more wait in line.
const QUEUE: usize = 1024;

/// A server and its connection, which is made when it is first needed, and again when it
/// is gone.
#[derive(Clone)]
pub(super) struct Server(Arc<Inner>);

struct Inner {
    client: Client,
    connect_timeout: Duration,
    line: Mutex<Option<Arc<Line>>>,
    replacing: AtomicBool,
    epoch: Instant,
}

/// A connection, or the attempt to make it.
struct Line {
    connected: watch::Receiver<Option<RedisResult<MultiplexedConnection>>>,
    /// Since when nothing has been answered, in milliseconds of the server's epoch; 0 if
    /// nothing waits for an answer.
    asking_since: AtomicU64,
}

/// Why there is no connection.
struct Unconnected {
    error: RedisError,
    /// The attempt is over; otherwise it goes on, beyond the deadline.
    failed: bool,
}

/// What became of the commands of one call.
pub(super) struct Sent {
    /// One for each command, in order.
    pub(super) answers: Vec<RedisResult<Value>>,
    /// There was no connection, so that nothing was carried out.
    pub(super) unsent: bool,
    /// The connection broke, or has been silent for too long.
    pub(super) lost: bool,
}

impl Server {
    pub(super) fn new(client: Client, timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            client,
            connect_timeout: timeout.max(CONNECT_TIMEOUT),
            line: Mutex::new(None),
            replacing: AtomicBool::new(false),
            epoch: Instant::now(),
        }))
    }

    /// Sends the commands at once and in order; what is not answered by the deadline is
    /// answered with a timeout. With `asking` each is marked as redirected here by a node
    /// that is giving the slot away.
    pub(super) async fn send(&self, commands: &[Cmd], asking: bool, deadline: Instant) -> Sent {
        let (line, connection) = match self.connection(deadline).await {
            Ok(connected) => connected,
            Err(Unconnected { error, failed }) => {
                let answers = commands.iter().map(|_| Err(error.clone())).collect();
                return Sent { answers, unsent: true, lost: failed };
            }
        };
        let answers = self.ask(&line, connection, commands, asking, deadline).await;
        let lost = self.judge(&line, &answers);
        Sent { answers, unsent: false, lost }
    }

    /// One command alone.
    pub(super) async fn ask_once(&self, command: &Cmd, deadline: Instant) -> RedisResult<Value> {
        let sent = self.send(core::slice::from_ref(command), false, deadline).await;
        sent.answers.into_iter().next().unwrap_or_else(|| Err(timed_out()))
    }

    /// Whether its connection stands, as far as is known.
    pub(super) fn is_connected(&self) -> bool {
        let line = self.0.line.lock();
        line.as_ref().is_some_and(|line| matches!(*line.connected.borrow(), Some(Ok(_))))
    }

    /// Whether this is the same server, not only one at the same place.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Puts all in one message, so that nothing comes in between.
    async fn ask(
        &self,
        line: &Line,
        mut connection: MultiplexedConnection,
        commands: &[Cmd],
        asking: bool,
        deadline: Instant,
    ) -> Vec<RedisResult<Value>> {
        self.0.begins(line);
        let mut message = Pipeline::with_capacity(commands.len());
        for command in commands {
            if asking {
                message.cmd("ASKING");
            }
            message.add_command(command.clone());
        }
        let answer_each = if asking { 2 } else { 1 };
        let count = commands.len() * answer_each;
        let answered = timeout_at(deadline, connection.send_packed_commands(&message, 0, count));
        let error = match answered.await {
            Ok(Ok(answers)) if answers.len() == count => {
                line.asking_since.store(0, Ordering::Relaxed);
                let own = answers.into_iter().skip(answer_each - 1).step_by(answer_each);
                return own.map(answer).collect();
            }
            Ok(Ok(_)) => gone(),
            Ok(Err(error)) => error,
            Err(_) => timed_out(),
        };
        commands.iter().map(|_| Err(error.clone())).collect()
    }

    /// Gives the connection up if it is broken, and looks for another if it is silent.
    fn judge(&self, line: &Arc<Line>, answers: &[RedisResult<Value>]) -> bool {
        let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
        if errors().any(is_broken) {
            self.0.forget(line);
            return true;
        }
        let silent = errors().any(RedisError::is_timeout) && self.0.is_silent(line);
        if silent {
            self.replace(line);
        }
        silent
    }

    async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<(Arc<Line>, MultiplexedConnection), Unconnected> {
        let line = self.line();
        // Looked at first: the usual case needs no timer.
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
            Err(error) => {
                self.0.forget(&line);
                Err(Unconnected { error, failed: true })
            }
        }
    }

    fn line(&self) -> Arc<Line> {
        let mut current = self.0.line.lock();
        if let Some(line) = &*current {
            return Arc::clone(line);
        }
        let line = Arc::new(self.connect());
        *current = Some(Arc::clone(&line));
        line
    }

    /// Begins to connect. The attempt goes on even if all who wait for it give up.
    fn connect(&self) -> Line {
        let (making, connected) = watch::channel(None);
        let (client, within) = (self.0.client.clone(), self.0.connect_timeout);
        tokio::spawn(async move {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(within))
                .set_response_timeout(None)
                .set_pipeline_buffer_size(QUEUE);
            let made = client.get_multiplexed_async_connection_with_config(&config).await;
            // Nobody may wait any more.
            let _ = making.send(Some(made));
        });
        Line { connected, asking_since: AtomicU64::new(0) }
    }

    /// Asks whether the silent connection answers at all, late as it may be, and leaves it
    /// for another one if that can be made sooner.
    fn replace(&self, silent: &Arc<Line>) {
        if self.0.replacing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (server, silent, other) = (self.clone(), Arc::clone(silent), Arc::new(self.connect()));
        tokio::spawn(async move {
            let answered = async {
                let mut connection = silent.made().await.ok()?;
                connection.send_packed_command(&::redis::cmd("PING")).await.ok()
            };
            match select(pin!(answered), pin!(other.made())).await {
                Either::Left((Some(_), _)) => silent.asking_since.store(0, Ordering::Relaxed),
                Either::Left((None, _)) => server.0.forget(&silent),
                Either::Right((Ok(_), _)) => server.0.put(&silent, Arc::clone(&other)),
                // The next call that finds it silent tries again.
                Either::Right((Err(_), _)) => {}
            }
            server.0.replacing.store(false, Ordering::Release);
        });
    }
}

impl Line {
    async fn made(&self) -> RedisResult<MultiplexedConnection> {
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
        if line.asking_since.load(Ordering::Relaxed) == 0 {
            line.asking_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn is_silent(&self, line: &Line) -> bool {
        let since = line.asking_since.load(Ordering::Relaxed);
        since != 0 && u128::from(self.now().saturating_sub(since)) >= SILENCE.as_millis()
    }

    /// Makes the next call connect again.
    fn forget(&self, line: &Arc<Line>) {
        self.change(line, None);
    }

    fn put(&self, instead_of: &Arc<Line>, other: Arc<Line>) {
        self.change(instead_of, Some(other));
    }

    fn change(&self, from: &Arc<Line>, to: Option<Arc<Line>>) {
        let mut current = self.line.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, from)) {
            *current = to;
        }
    }
}

fn answer(value: Value) -> RedisResult<Value> {
    match value {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// Whether the connection is of no use any more: it is gone, or what comes is no protocol.
fn is_broken(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) && !error.is_timeout()
}

pub(super) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

fn gone() -> RedisError {
    io::Error::from(io::ErrorKind::ConnectionAborted).into()
}
