//! Accepts connections, and bounds their number and how long one may do nothing.
//!
//! Whoever can reach a port can open connections to it. The bounds keep some of them from taking the memory
//! or the file descriptors that all others need.

use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

use crate::sockets::{Address, Socket, Stream};

/// The longest time for a peer to say something after it has connected, and to take what is written.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time for a request over HTTP/1 to arrive whole, and between two of them.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// The first bytes of every HTTP/2 connection.
const PREFACE: usize = 24;

/// The interval of log lines about connections that are not taken.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The waits after an error of the system's accept, which would otherwise be repeated at once: the
/// first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// The protocol of a port, by which a connection shows that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/2, which has pings once it has begun.
    Grpc,
    /// HTTP/1: a connection is alive as long as responses are written to it.
    Http,
}

/// A listening socket with bounds.
pub(crate) struct Listener {
    socket: Socket,
    protocol: Protocol,
    free: Arc<Semaphore>,
    back_off: Duration,
    /// The connections that were not taken, or the errors, since the last log line, and its time.
    unlogged: u64,
    last_logged: Option<Instant>,
}

impl Listener {
    /// A listener that has at most `most` connections open.
    pub(crate) fn new(socket: Socket, protocol: Protocol, most: u32) -> Self {
        let free = Arc::new(Semaphore::new(most as usize));
        Self { socket, protocol, free, back_off: BACK_OFF.0, unlogged: 0, last_logged: None }
    }

    /// The next connection. One above the bound is closed at once, so that its peer can go elsewhere.
    pub(crate) async fn next(&mut self) -> (Connection, Option<SocketAddr>) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    self.back_off = BACK_OFF.0;
                    if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                        return (Connection::new(stream, self.protocol, permit), peer);
                    }
                    self.log(&"there are as many connections as are allowed");
                }
                // The peer has gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log(&error);
                    tokio::time::sleep(self.back_off).await;
                    self.back_off = (self.back_off * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the log is in real time")]
    fn log(&mut self, why: &dyn core::fmt::Display) {
        self.unlogged += 1;
        let now = Instant::now();
        if self.last_logged.is_none_or(|last| now.duration_since(last) >= LOG_EVERY) {
            let count = core::mem::take(&mut self.unlogged);
            self.last_logged = Some(now);
            warn!(port = ?self.protocol, count, error = %why, "connections are not accepted");
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Connection, Option<SocketAddr>) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        Ok(match self.socket.address()? {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        })
    }
}

/// An accepted connection, which ends with an error when its peer keeps it waiting for too long.
pub(crate) struct Connection {
    stream: Stream,
    protocol: Protocol,
    /// The bytes that have been read.
    read: usize,
    /// When the peer has to have said something.
    silence: Pin<Box<Sleep>>,
    /// When the peer has to have taken what is being written.
    stalled: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Stream, protocol: Protocol, permit: OwnedSemaphorePermit) -> Self {
        let patience = match protocol {
            Protocol::Grpc => PATIENCE,
            Protocol::Http => REQUEST_TIME,
        };
        let silence = Box::pin(tokio::time::sleep(patience));
        Self { stream, protocol, read: 0, silence, stalled: None, _permit: permit }
    }

    /// Bounds the wait of a write.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, room);
        self.read = self.read.saturating_add(room.filled().len() - before);
        let is_patient = self.protocol == Protocol::Grpc && self.read >= PREFACE;
        if result.is_ready() || is_patient {
            return result;
        }
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        if result.is_ready() && self.protocol == Protocol::Http {
            let next = tokio::time::Instant::now() + REQUEST_TIME;
            self.silence.as_mut().reset(next);
        }
        self.written(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.stream {
            Stream::Tcp(stream) => stream.connect_info(),
            Stream::Unix(_) => TcpConnectInfo { local_addr: None, remote_addr: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair(protocol: Protocol, most: u32) -> io::Result<(Listener, SocketAddr)> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        Ok((Listener::new(Socket::Tcp(socket), protocol, most), address))
    }

    #[tokio::test]
    async fn connections_above_the_bound_are_closed_and_the_next_has_the_room_of_a_closed_one()
    -> io::Result<()> {
        let (mut listener, address) = pair(Protocol::Grpc, 1).await?;
        let _one = TcpStream::connect(address).await?;
        let (first, _) = listener.next().await;
        let mut two = TcpStream::connect(address).await?;
        let accepting = tokio::spawn(async move { (listener.next().await, listener) });
        assert_eq!(two.read(&mut [0; 1]).await?, 0, "closed");
        drop(first);
        let mut three = TcpStream::connect(address).await?;
        let ((mut second, _), _) = accepting.await?;
        three.write_all(b"x").await?;
        assert_eq!(second.read(&mut [0; 8]).await?, 1);
        Ok(())
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_or_takes_nothing_is_given_up() -> io::Result<()> {
        for protocol in [Protocol::Grpc, Protocol::Http] {
            let (mut listener, address) = pair(protocol, 1).await?;
            let mut peer = TcpStream::connect(address).await?;
            let (mut connection, _) = listener.next().await;
            peer.write_all(b"GET / HTTP/1.1\r\n").await?;
            connection.read_exact(&mut [0; 16]).await?;
            tokio::time::pause();
            let silent = connection.read(&mut [0; 1]).await;
            assert_eq!(silent.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
            let stalled = connection.write_all(&vec![0; 64 << 20]).await;
            assert_eq!(stalled.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
            tokio::time::resume();
        }
        Ok(())
    }
}
