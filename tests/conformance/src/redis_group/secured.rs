//! Certificates and users for groups of servers that require both.

use std::fs;
use std::process::Command;

use super::Folder;

/// The password of the servers' default user: the test's, and the servers' among each other.
pub(super) const ADMIN: &str = "admin";

/// The rights of the user of buckets, as in docs/redis.md and docs/leases.md.
const BUCKET_RIGHTS: &str = "~tidegate:* +evalsha +eval +get +mget +set +time +ping \
                          +cluster|slots +asking +role +hgetall +hset +hdel +pexpire";
const SENTINEL_RIGHTS: &str = "+sentinel";

/// A certificate authority, certificates that it issued for servers and a client, and two users.
pub struct Secured(Folder);

impl Secured {
    /// A user whose name has characters that must be escaped in a URL.
    pub const USER: &str = "gate:user";
    /// The password of [`USER`](Self::USER).
    pub const PASSWORD: &str = "p@ss/w?rd";
    /// The user that may ask sentinels.
    pub const WATCHER: &str = "watcher";
    /// The password of [`WATCHER`](Self::WATCHER).
    pub const WATCHERS_PASSWORD: &str = "w@tch";

    /// Makes the certificates.
    ///
    /// # Panics
    /// When openssl is not installed.
    #[expect(clippy::new_without_default, reason = "it starts programs")]
    pub fn new() -> Self {
        let secured = Self(Folder::new("certificates"));
        secured.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                         -subj /CN=authority -keyout ca.key -out ca.pem",
        );
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        fs::write(secured.0.0.join("names"), names).expect("a file");
        for who in ["server", "client"] {
            secured.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={who} \
                 -keyout {who}.key -out {who}.csr"
            ));
            secured.openssl(&format!(
                "x509 -req -in {who}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile names -out {who}.pem"
            ));
        }
        secured
    }

    fn openssl(&self, words: &str) {
        let made = Command::new("openssl").args(words.split(' ')).current_dir(&self.0.0).output();
        let made = made.expect("openssl runs; install it with: apt-get install openssl");
        assert!(made.status.success(), "{words}: {}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, file: &str) -> String {
        self.0.0.join(file).to_string_lossy().into_owned()
    }

    /// The options of a URL that name the authority, and the client's certificate and key.
    pub fn options(&self) -> String {
        let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|file| self.path(file));
        format!("ca={ca}&cert={cert}&key={key}")
    }

    /// The arguments of a server or a sentinel that listens with TLS on `port`.
    pub(super) fn arguments(&self, port: u16, is_sentinel: bool) -> Vec<String> {
        let mut arguments: Vec<String> = ["--tls-port", &port.to_string()].map(Into::into).into();
        for (option, file) in [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-cert-file", "ca.pem"),
        ] {
            arguments.extend([option.to_owned(), self.path(file)]);
        }
        let more = format!(
            "--tls-auth-clients yes --tls-cluster yes --tls-replication yes \
             --requirepass {ADMIN} --masterauth {ADMIN}"
        );
        arguments.extend(more.split(' ').map(Into::into));
        let (user, password, rules) = match is_sentinel {
            true => (Self::WATCHER, Self::WATCHERS_PASSWORD, SENTINEL_RIGHTS),
            false => (Self::USER, Self::PASSWORD, BUCKET_RIGHTS),
        };
        let user = format!("--user {user} on >{password} {rules}");
        arguments.extend(user.split_whitespace().map(Into::into));
        arguments
    }

    pub(super) fn cli_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--tls".to_owned()];
        for (option, file) in
            [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")]
        {
            arguments.extend([option.to_owned(), self.path(file)]);
        }
        arguments.extend(["-a", ADMIN, "--no-auth-warning"].map(Into::into));
        arguments
    }

    /// The sentinels' passwords for the servers that they watch and for each other.
    pub(super) fn sentinel_passwords(master: &str) -> String {
        format!("sentinel auth-pass {master} {ADMIN}\nsentinel sentinel-pass {ADMIN}\n")
    }
}
