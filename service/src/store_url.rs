//! Store URLs without secrets, for the log.

/// The part of a store URL that may be logged: scheme, host and port. Whatever
/// could be or hide a password is left out, rather too much than too little.
pub(crate) fn loggable(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return String::from("(not a URL)");
    };
    // A password may hold any of these unescaped; then it is unclear where the host begins.
    if scheme.contains("unix") || rest.contains(['?', '#']) {
        return format!("{scheme}://");
    }
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::loggable;

    #[test]
    fn never_shows_a_password() {
        for (url, shown) in [
            ("memory://", "memory://"),
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379"),
            ("redis://:secret@db:6379", "redis://db:6379"),
            ("rediss://user:s3/cr@et@[::1]:6380/0", "rediss://[::1]:6380"),
            ("redis://:se?cret@db", "redis://"),
            ("redis://db?password=secret", "redis://"),
            ("redis+unix:///run/redis.sock?pass=secret", "redis+unix://"),
            ("secret", "(not a URL)"),
        ] {
            assert_eq!(loggable(url), shown);
            assert!(!loggable(url).contains("secret"));
        }
    }
}
