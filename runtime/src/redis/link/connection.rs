//! A connection to a server: how it is made, and how much a server may send over it.

use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll};
#[cfg(target_os = "linux")]
use core::time::Duration;
use std::io;

use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
#[cfg(target_os = "linux")]
use ::redis::io::tcp::socket2::SockRef;
use ::redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisConnectionInfo, RedisResult, Value};
use futures_util::future::select_ok;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::address::{Login, Place};
use super::tls::Tls;

/// If sent bytes stay unacknowledged for this long, the connection counts as dead. So a peer that
/// vanished silently is noticed.
#[cfg(target_os = "linux")]
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How many commands the channel to the connection's task holds; further ones wait.
const QUEUE: usize = 1024;

/// The most bytes that a server may send between two answers. The longest answer of a script of ours
/// has 10,000 buckets of 200 bytes. A server that sends more is not one, or a key holds something else;
/// without a bound it would take the process's memory, and the time of all its limiters.
const MAX_ANSWER: usize = 16 << 20;

/// A connection that stands. Clones share it; when the last one is dropped, it closes.
#[derive(Clone)]
pub(super) struct Connection {
    commands: MultiplexedConnection,
    unanswered: Arc<AtomicUsize>,
    _driver: Arc<Driver>,
}

/// The task that reads and writes.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects to the server, which has these addresses unless it is a socket, and introduces itself.
    /// `is_encrypting` holds while the server has not answered the beginning of TLS.
    pub(super) async fn open(
        login: &Login,
        addresses: &[SocketAddr],
        is_encrypting: &AtomicBool,
    ) -> RedisResult<Self> {
        let settings = login.settings()?;
        match login.place() {
            #[cfg(unix)]
            Place::Socket(path) => Self::over(UnixStream::connect(path).await?, &settings).await,
            #[cfg(not(unix))]
            Place::Socket(_) => {
                let message = "sockets of the file system are for Unix";
                Err(io::Error::new(io::ErrorKind::Unsupported, message).into())
            }
            Place::Tcp { host, .. } => {
                let stream = connect(addresses).await?;
                match login.tls() {
                    Some(tls) => {
                        is_encrypting.store(true, Ordering::Relaxed);
                        let stream = encrypt(stream, host, tls).await;
                        is_encrypting.store(false, Ordering::Relaxed);
                        Self::over(stream?, &settings).await
                    }
                    None => Self::over(stream, &settings).await,
                }
            }
        }
    }

    async fn over<S>(stream: S, settings: &RedisConnectionInfo) -> RedisResult<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let unanswered = Arc::<AtomicUsize>::default();
        let stream = Bounded { stream, unanswered: Arc::clone(&unanswered) };
        let (commands, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        let driver = Driver(tokio::spawn(driver).abort_handle());
        Ok(Self { commands, unanswered, _driver: Arc::new(driver) })
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = self.commands.send_packed_command(command).await;
        self.unanswered.store(0, Ordering::Relaxed);
        answer
    }

    /// Sends commands in one message and waits for the answers, which are `count` in number.
    pub(super) async fn ask_all(
        &mut self,
        message: &Pipeline,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let answers = self.commands.send_packed_commands(message, 0, count).await;
        self.unanswered.store(0, Ordering::Relaxed);
        answers
    }
}

/// The first of the addresses that lets itself be connected to.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    let attempts = addresses.iter().map(|address| Box::pin(TcpStream::connect(*address)));
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    SockRef::from(&stream).set_tcp_user_timeout(Some(DEAD_PEER_TIMEOUT))?;
    Ok(stream)
}

async fn encrypt(
    stream: TcpStream,
    host: &str,
    tls: &Tls,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no name of a certificate"))?;
    TlsConnector::from(tls.config()?).connect(name, stream).await
}

/// A stream that fails when too much has come without an answer.
struct Bounded<S> {
    stream: S,
    unanswered: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(task, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            let total = self.unanswered.fetch_add(read, Ordering::Relaxed) + read;
            if total > MAX_ANSWER {
                let message = "an answer is longer than 16 MiB";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
