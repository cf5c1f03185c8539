//! Serializes header maps for proxy-wasm: the number of pairs, the lengths of every name and
//! value, then each name and value with a NUL after it.

use crate::text::append;

/// A header's name and value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Serializes `pairs` into `room` and returns the used part; `None` when they do not fit.
pub fn serialize<'r>(pairs: &[Pair<'_>], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let mut at = 0;
    let mut write = |bytes: &[u8]| append(room, &mut at, bytes);
    write(&length(pairs.len())?)?;
    for (name, value) in pairs {
        write(&length(name.len())?)?;
        write(&length(value.len())?)?;
    }
    for (name, value) in pairs {
        for part in [name, &b"\0"[..], value, b"\0"] {
            write(part)?;
        }
    }
    room.get(..at)
}

fn length(count: usize) -> Option<[u8; 4]> {
    u32::try_from(count).ok().map(u32::to_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::serialize;

    #[test]
    fn lengths_precede_names_and_values() {
        let mut room = [0xAA; 64];
        let pairs: [(&[u8], &[u8]); 2] = [(b"a", b"1"), (b"bc", b"")];
        assert_eq!(
            serialize(&pairs, &mut room),
            Some(&b"\x02\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0a\x001\0bc\0\0"[..])
        );
        assert_eq!(serialize(&[], &mut room), Some(&[0_u8; 4][..]));
        assert_eq!(serialize(&pairs, &mut [0; 20]), None);
    }
}
