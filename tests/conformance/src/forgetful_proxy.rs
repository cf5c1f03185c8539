//! A proxy between a client and its server that can drop what their connections carry, as a network
//! does that has forgotten them, and lead later connections to another server, as a forwarder does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread;

/// A proxy before a server on this host. Its threads end with the connections.
pub struct ForgetfulProxy {
    port: u16,
    forgotten: Arc<AtomicU32>,
    accepted: Arc<AtomicU32>,
    server: Arc<AtomicU16>,
}

impl ForgetfulProxy {
    /// A proxy before the server at `port`.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let proxy = Self {
            port: listener.local_addr().expect("the port").port(),
            forgotten: Arc::default(),
            accepted: Arc::default(),
            server: Arc::new(port.into()),
        };
        let (forgotten, accepted) = (Arc::clone(&proxy.forgotten), Arc::clone(&proxy.accepted));
        let server = Arc::clone(&proxy.server);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let port = server.load(Ordering::Acquire);
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let number = accepted.fetch_add(1, Ordering::AcqRel);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    let forgotten = Arc::clone(&forgotten);
                    thread::spawn(move || pass(from, to, number, &forgotten));
                }
            }
        });
        proxy
    }

    /// The URL of the server behind the proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::Acquire)
    }

    /// Leads later connections to the server at another port.
    pub fn lead_to(&self, port: u16) {
        self.server.store(port, Ordering::Release);
    }

    /// From now on drops everything on the connections there are, without closing them. Later
    /// connections work.
    pub fn forget_all(&self) {
        self.forgotten.store(self.accepted(), Ordering::Release);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, number: u32, forgotten: &AtomicU32) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let lost = number < forgotten.load(Ordering::Acquire);
        if !lost && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The connection may be closed already.
    let _ = to.shutdown(Shutdown::Both);
}
