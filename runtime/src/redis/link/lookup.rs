//! Looks the names of servers up: one question for all who want to connect to a name, and none
//! that keeps another name waiting.
//!
//! The system's look-up blocks a thread and cannot be cancelled; while a name server is silent it
//! takes ten seconds and more. So each has a thread of its own, and all connections and attempts
//! of the process share what is under way for a name. It sends its question again only after five
//! seconds, by which a name would be found that much later than its server is back. A look-up
//! that is silent therefore gets a successor soon, up to a bound for each name.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::thread;

use tidegate_protocol::PerProcess;
use tidegate_protocol::lock::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::generation;

/// A look-up that has taken so long gets a successor, which is then the one to wait for.
const SUCCESSOR_AFTER: Duration = Duration::from_millis(500);

/// How many look-ups of one name are under way at most: with [`SUCCESSOR_AFTER`] they cover the
/// five seconds after which the system asks again.
const MOST_OF_A_NAME: usize = 10;

/// How many look-ups of all names are under way at most. A further name cannot be connected to
/// until one of them ends.
const MOST: usize = 256;

/// A name has successors only while fewer than this are under way in all, so that the rest is
/// there for names that are not being looked up yet: up to 128 names can be silent before a
/// healthy one notices.
const MOST_WITH_SUCCESSORS: usize = MOST / 2;

/// The addresses of a name, with any port, or why there are none.
type Found = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// What looks a name up, blocking the thread that it is called on.
type System = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// A forked child looks up for itself.
static LOOKUPS: PerProcess<Lookups> = PerProcess::new(generation);

/// The look-ups that are under way in this process.
struct Lookups {
    system: System,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<Box<str>, Name>,
    under_way: usize,
}

/// A name that is being looked up.
struct Name {
    under_way: usize,
    /// When the newest of them began.
    began: Instant,
    /// Tells all who wait for the name.
    found: watch::Sender<Option<Found>>,
}

/// The addresses of a server, as soon as they are known.
pub(super) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = match literal(host) {
        Some(found) => found,
        None => LOOKUPS.get_or_init(|| Lookups::new(ask_the_system)).find(host).await?,
    };
    let mut addresses = found.to_vec();
    addresses.iter_mut().for_each(|address| address.set_port(port));
    Ok(addresses)
}

/// The addresses of a name that needs no looking up: an address itself, and the name that always
/// means this host (RFC 6761).
fn literal(host: &str) -> Option<Arc<[SocketAddr]>> {
    let address = |ip| SocketAddr::new(ip, 0);
    if host.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Some(both.map(address).into());
    }
    host.parse().ok().map(|ip| [address(ip)].into())
}

fn ask_the_system(name: &str) -> io::Result<Vec<SocketAddr>> {
    (name, 0).to_socket_addrs().map(Iterator::collect)
}

impl Lookups {
    fn new(system: System) -> Self {
        Self { system, names: Mutex::default() }
    }

    /// Waits until the name has been found. Looking it up goes on if the caller gives up.
    async fn find(&'static self, name: &str) -> io::Result<Arc<[SocketAddr]>> {
        loop {
            let mut found = self.join(name)?;
            match timeout(SUCCESSOR_AFTER, found.wait_for(Option::is_some)).await {
                Ok(Ok(found)) => {
                    let found = found.clone().unwrap_or_else(|| Err(Arc::new(no_answer())));
                    return found.map_err(|error| io::Error::new(error.kind(), error));
                }
                Ok(Err(_)) => return Err(no_answer()),
                // Silent: the next round sees to a successor.
                Err(_) => {}
            }
        }
    }

    /// What tells of the name, once a look-up of it is under way that is not silent, or as many
    /// as may be.
    fn join(&'static self, name: &str) -> io::Result<watch::Receiver<Option<Found>>> {
        let mut names = self.names.lock();
        let all = names.under_way;
        let Some(known) = names.by_name.get_mut(name) else {
            if all >= MOST {
                let message = format!("{MOST} names are being looked up already");
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
            self.start(name)?;
            let (found, waiting) = watch::channel(None);
            let new = Name { under_way: 1, began: Instant::now(), found };
            names.by_name.insert(name.into(), new);
            names.under_way += 1;
            return Ok(waiting);
        };
        let was_found = known.found.borrow().is_some();
        if was_found {
            // The callers that waited have their answer. Lookups still under way began before it.
            known.found = watch::channel(None).0;
        }
        let waiting = known.found.subscribe();
        if (was_found || known.began.elapsed() >= SUCCESSOR_AFTER)
            && known.under_way < MOST_OF_A_NAME
            && all < MOST_WITH_SUCCESSORS
            && self.start(name).is_ok()
        {
            (known.under_way, known.began) = (known.under_way + 1, Instant::now());
            names.under_way += 1;
        }
        Ok(waiting)
    }

    fn start(&'static self, name: &str) -> io::Result<()> {
        let name = Box::<str>::from(name);
        let look_up = move || {
            let found = (self.system)(&name).and_then(|addresses| match addresses.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                false => Ok(addresses.into()),
            });
            self.ended(&name, found.map_err(Arc::new));
        };
        thread::Builder::new().name("tidegate-dns".into()).spawn(look_up).map(drop)
    }

    /// Tells those who wait for the name. An error counts if it is the last to come: the name may
    /// be found by what began later.
    fn ended(&self, name: &str, found: Found) {
        let mut names = self.names.lock();
        names.under_way -= 1;
        let Some(known) = names.by_name.get_mut(name) else { return };
        known.under_way -= 1;
        let is_last = known.under_way == 0;
        if found.is_ok() || is_last {
            known.found.send_replace(Some(found));
        }
        if is_last {
            names.by_name.remove(name);
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::other("the look-up of the name has ended without an answer")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, PoisonError};

    use super::*;

    const HOME: [u8; 4] = [127, 0, 0, 7];

    fn home() -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(HOME, 0).into()])
    }

    fn lookups(system: System) -> &'static Lookups {
        Box::leak(Box::new(Lookups::new(system)))
    }

    /// A runtime whose clock runs ahead whenever nobody but a thread of a look-up is at work.
    fn in_paused_time<T>(test: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(test)
    }

    #[test]
    fn addresses_and_this_host_need_no_looking_up() {
        let ips =
            |host| literal(host).map(|all| all.iter().map(|it| it.ip().to_string()).collect());
        assert_eq!(ips("127.0.0.7"), Some(vec!["127.0.0.7".to_owned()]));
        assert_eq!(ips("fe80::7"), Some(vec!["fe80::7".to_owned()]));
        assert_eq!(ips("LocalHost"), Some(vec!["127.0.0.1".to_owned(), "::1".to_owned()]));
        assert_eq!(ips("localhost.example"), None::<Vec<_>>);
    }

    #[test]
    fn a_name_that_is_not_known_is_said_and_asked_for_again() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let lookups = lookups(|name| match name {
            "unknown" => {
                ASKED.fetch_add(1, Ordering::Relaxed);
                Err(io::Error::other("no such name"))
            }
            _ => home(),
        });
        in_paused_time(async {
            for asked in 1..3 {
                assert_eq!(lookups.find("unknown").await.unwrap_err().to_string(), "no such name");
                assert!(ASKED.load(Ordering::Relaxed) >= asked);
            }
            assert_eq!(lookups.find("known").await.unwrap().to_vec(), home().unwrap());
        });
    }

    #[test]
    fn a_silent_name_has_a_few_lookups_and_keeps_no_other_waiting() {
        static SILENT: (std::sync::Mutex<bool>, Condvar) =
            (std::sync::Mutex::new(true), Condvar::new());
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let lookups = lookups(|name| {
            if name == "silent" {
                ASKED.fetch_add(1, Ordering::Relaxed);
                let silent = SILENT.0.lock().unwrap_or_else(PoisonError::into_inner);
                drop(SILENT.1.wait_while(silent, |silent| *silent));
            }
            home()
        });
        in_paused_time(async {
            let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(lookups.find("silent"))).collect();
            assert!(timeout(Duration::from_secs(60), lookups.find("silent")).await.is_err());
            assert_eq!(lookups.names.lock().under_way, MOST_OF_A_NAME);
            // Once they return, the clock may run ahead again, and further look-ups be sent.
            assert!(ASKED.load(Ordering::Relaxed) <= MOST_OF_A_NAME);
            assert_eq!(lookups.find("good").await.unwrap().to_vec(), home().unwrap());

            *SILENT.0.lock().unwrap() = false;
            SILENT.1.notify_all();
            for found in waiting {
                assert_eq!(found.await.unwrap().unwrap().to_vec(), home().unwrap());
            }
        });
    }
}
