//! Addresses of clients: without their port, and as the network that they belong to.

use core::fmt;

/// The longest network in text: eight groups of an IPv6 address, and `/128`.
pub(crate) const MAX_NETWORK: usize = 43;

/// Removes the port, which differs from connection to connection, from `192.0.2.1:5000` and
/// `[2001:db8::1]:5000`. A port may be empty. The path of a Unix socket is returned unchanged.
pub(crate) fn without_port(address: &[u8]) -> &[u8] {
    if let Some(rest) = address.strip_prefix(b"[") {
        return rest.split(|&byte| byte == b']').next().unwrap_or(rest);
    }
    let Some(colon) = address.iter().rposition(|&byte| byte == b':') else {
        return address;
    };
    let (host, port) = address.split_at(colon);
    let is_port = port.iter().skip(1).all(u8::is_ascii_digit);
    if is_port && !host.contains(&b':') && !host.contains(&b'/') { host } else { address }
}

/// A network, written as Envoy writes it: `192.0.2.0/24`.
///
/// The standard library's types of addresses would add 6 KB to the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// The address in groups of 16 bits.
    groups: [u16; 8],
    bits: u8,
    is_v4: bool,
}

impl Network {
    /// The network of an address; `None` for what is no IP address. An IPv4 address that is written
    /// as an IPv6 one (`::ffff:192.0.2.1`) is an IPv4 address, so that it has one bucket.
    pub(crate) fn of(address: &[u8], v4_bits: u8, v6_bits: u8) -> Option<Self> {
        let mut groups = [0; 8];
        match v4(address) {
            Some(low) => set_v4(&mut groups, low)?,
            None => groups = v6(address)?,
        }
        let is_v4 = matches!(groups, [0, 0, 0, 0, 0, 0xFFFF, _, _]);
        let bits = if is_v4 { v4_bits } else { v6_bits };
        let mut kept = u32::from(bits) + if is_v4 { 96 } else { 0 };
        for group in &mut groups {
            let here = kept.min(16);
            kept -= here;
            *group &= (0xFFFF_0000_u32 >> here) as u16;
        }
        Some(Self { groups, bits, is_v4 })
    }
}

/// Makes groups those of an IPv4 address as an IPv6 one.
fn set_v4(groups: &mut [u16; 8], address: [u16; 2]) -> Option<()> {
    groups.get_mut(5..)?.copy_from_slice(&[0xFFFF, address[0], address[1]]);
    Some(())
}

/// An IPv4 address in two groups.
fn v4(text: &[u8]) -> Option<[u16; 2]> {
    let mut bytes = [0_u16; 4];
    let mut parts = text.split(|&byte| byte == b'.');
    for byte in &mut bytes {
        // A number with a leading zero is octal to some parsers.
        let is_plain =
            |part: &&[u8]| part.len() == 1 || (part.len() <= 3 && part.first() != Some(&b'0'));
        let part = parts.next().filter(is_plain)?;
        *byte = number(part, 10).filter(|number| *number < 256)?;
    }
    let [a, b, c, d] = bytes;
    parts.next().is_none().then_some([a << 8 | b, c << 8 | d])
}

/// An IPv6 address.
fn v6(text: &[u8]) -> Option<[u16; 8]> {
    let mut groups = [0; 8];
    let gap = text.windows(2).position(|pair| pair == b"::");
    let (head, tail) = match gap {
        Some(at) => (text.get(..at)?, text.get(at + 2..)?),
        None => (text, &b""[..]),
    };
    let mut read = [0; 8];
    let head = v6_groups(head, &mut read)?;
    groups.get_mut(..head)?.copy_from_slice(read.get(..head)?);
    let tail = v6_groups(tail, &mut read)?;
    // `::` stands for at least one group.
    let fits = if gap.is_some() { head + tail < 8 } else { head == 8 };
    groups.get_mut(8_usize.checked_sub(tail)?..)?.copy_from_slice(read.get(..tail)?);
    fits.then_some(groups)
}

/// Reads groups that are separated by colons, and answers how many there are.
fn v6_groups(text: &[u8], groups: &mut [u16; 8]) -> Option<usize> {
    let mut count = 0;
    if text.is_empty() {
        return Some(count);
    }
    for part in text.split(|&byte| byte == b':') {
        if let Some(low) = v4(part) {
            groups.get_mut(count..count + 2)?.copy_from_slice(&low);
            count += 2;
            continue;
        }
        *groups.get_mut(count)? = number(part, 16).filter(|_| part.len() <= 4)?;
        count += 1;
    }
    Some(count)
}

fn number(digits: &[u8], base: u16) -> Option<u16> {
    let number = digits.iter().try_fold(0_u16, |number, &digit| {
        let digit = char::from(digit).to_digit(u32::from(base))? as u16;
        // Longer numbers are refused by the count of their digits.
        Some(number.wrapping_mul(base).wrapping_add(digit))
    });
    number.filter(|_| !digits.is_empty())
}

impl fmt::Display for Network {
    /// Writes the network as RFC 5952 says: `::` for the first of the longest runs of two or more
    /// groups of zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4 {
            let [.., high, low] = self.groups;
            let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
            return write!(f, "{a}.{b}.{c}.{d}/{}", self.bits);
        }
        let (mut start, mut length) = (8, 1);
        for at in 0..8 {
            let run = self.groups.iter().skip(at).take_while(|group| **group == 0).count();
            if run > length {
                (start, length) = (at, run);
            }
        }
        let mut separator = "";
        for (at, group) in self.groups.iter().enumerate() {
            if at == start {
                f.write_str("::")?;
                separator = "";
            } else if !(start..start + length).contains(&at) {
                write!(f, "{separator}{group:x}")?;
                separator = ":";
            }
        }
        write!(f, "/{}", self.bits)
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{MAX_NETWORK, Network, without_port};

    #[test]
    fn addresses_lose_their_port_only() {
        for (address, host) in [
            ("127.0.0.1:53358", "127.0.0.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[::1]", "::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("/run/app.sock", "/run/app.sock"),
            ("/run/a:1", "/run/a:1"),
            ("/run/a:", "/run/a:"),
            ("a.com:", "a.com"),
            ("::", "::"),
            ("", ""),
        ] {
            assert_eq!(without_port(address.as_bytes()), host.as_bytes(), "{address}");
        }
    }

    #[test]
    fn an_address_is_masked_to_its_network() {
        for (address, v4, v6, network) in [
            ("192.0.2.77", 24, 64, "192.0.2.0/24"),
            ("192.0.2.77", 32, 64, "192.0.2.77/32"),
            ("192.0.2.77", 0, 64, "0.0.0.0/0"),
            ("::ffff:192.0.2.77", 24, 64, "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3:4:5:6", 24, 128, "2001:db8:1:2:3:4:5:6/128"),
            ("2001:db8:1:2:3:4:5:6", 24, 0, "::/0"),
        ] {
            let found = Network::of(address.as_bytes(), v4, v6).map(|network| network.to_string());
            assert_eq!(found.as_deref(), Some(network));
            assert!(network.len() <= MAX_NETWORK);
        }
        for other in ["", "/run/app.sock", "192.0.2", "fe80::1%eth0"] {
            assert_eq!(Network::of(other.as_bytes(), 24, 64), None, "{other}");
        }
    }
    /// The standard library's answer.
    fn model(text: &str, v4: u8, v6: u8) -> Option<String> {
        Some(match text.parse::<IpAddr>().ok()?.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0);
                format!("{}/{v4}", Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0);
                format!("{}/{v6}", Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        })
    }

    #[test]
    fn networks_are_those_of_the_standard_library() {
        let mut random: u64 = 1;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut found = 0;
        for _ in 0..20_000 {
            let mut groups = [0_u16; 8];
            for group in &mut groups {
                *group = if draw(2) == 0 { 0 } else { draw(0x1_0000) as u16 };
            }
            let text = match draw(4) {
                0 => Ipv4Addr::from_bits(draw(1 << 31) as u32).to_string(),
                1 => Ipv4Addr::from_bits(draw(1 << 31) as u32).to_ipv6_mapped().to_string(),
                _ => Ipv6Addr::from(groups).to_string(),
            };
            let (v4, v6) = (draw(33) as u8, draw(129) as u8);
            // Some texts lose or gain a character.
            let text = match draw(6) {
                0 => text.get(1..).unwrap_or_default().to_owned(),
                1 => format!("{text}{}", char::from(b"0:.fg"[draw(5) as usize])),
                _ => text,
            };
            let network = Network::of(text.as_bytes(), v4, v6).map(|network| network.to_string());
            let expect = model(&text, v4, v6);
            assert_eq!(network, expect, "{text}");
            found += usize::from(network.is_some());
        }
        assert!(found > 10_000, "{found}");
    }
}
