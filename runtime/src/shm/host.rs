//! Tells one boot of a host, and one time namespace, from another.

use super::clock::ShmClock;

/// What must be equal for two processes to read the same monotonic clock. Zero means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) boot: [u64; 2],
    pub(super) time_namespace: u64,
}

/// How far the wall clock and the monotonic clock may part before a file of an unknown boot counts as
/// one of an earlier boot.
const SAME_BOOT_NANOS: u64 = 60_000_000_000;

impl Host {
    pub(super) fn current() -> Self {
        Self {
            boot: boot_id().unwrap_or_default(),
            time_namespace: time_namespace().unwrap_or_default(),
        }
    }

    /// How a file that was made on this host, with this offset of its clock, counts time for a process
    /// on `now`. If the boot is unknown, the offset decides: it is the time at which the monotonic
    /// clock was zero.
    pub(super) fn counting(&self, offset: u64, now: &Self) -> Counting {
        let namespaces = [self.time_namespace, now.time_namespace];
        let are_apart = !namespaces.contains(&0) && namespaces[0] != namespaces[1];
        let are_known = self.boot != [0; 2] && now.boot != [0; 2];
        if are_apart || are_known && self.boot != now.boot {
            Counting::Otherwise
        } else if are_known || offset.abs_diff(ShmClock::offset_now()) < SAME_BOOT_NANOS {
            Counting::Alike
        } else {
            Counting::Unclear
        }
    }
}

/// Whether two processes read the same monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    Alike,
    Otherwise,
    /// The machine was started again, or the wall clock was set.
    Unclear,
}

fn boot_id() -> Option<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|&digit| digit != '-').collect();
    let id = u128::from_str_radix(&digits, 16).ok()?;
    Some([(id >> 64) as u64, id as u64])
}

/// The number in a link such as `time:[4026531834]`.
fn time_namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/time").ok()?;
    link.to_str()?.strip_prefix("time:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boot_or_time_namespace_counts_otherwise() {
        let offset = ShmClock::offset_now();
        let host = Host { boot: [1, 2], time_namespace: 3 };
        assert_eq!(host.counting(0, &host), Counting::Alike);
        for other in [Host { boot: [1, 3], ..host }, Host { time_namespace: 4, ..host }] {
            assert_eq!(host.counting(offset, &other), Counting::Otherwise);
        }
        let without_proc = Host::default();
        assert_eq!(host.counting(offset, &without_proc), Counting::Alike);
    }

    #[test]
    fn the_clocks_offset_tells_boots_apart_where_nothing_else_does() {
        let (offset, host) = (ShmClock::offset_now(), Host::default());
        assert_eq!(host.counting(offset - 1_000_000_000, &host), Counting::Alike);
        assert_eq!(host.counting(offset - 3_600_000_000_000, &host), Counting::Unclear);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_names_its_boot() {
        assert_ne!(Host::current().boot, [0; 2]);
    }
}
