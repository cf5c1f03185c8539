//! The Protocol Buffers wire format, without an allocator: reads any message without
//! groups, and writes numbers and bytes.

use crate::text::append;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed32,
    Fixed64(u64),
}

/// The message does not follow the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A reader of the fields of a message, in the order in which they were sent.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The number and the value of the next field; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
                Value::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let size = self.varint()?;
                Value::Bytes(self.take(usize::try_from(size).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return Err(Malformed),
        };
        Ok(Some((tag >> 3, value)))
    }

    /// What is there of the bytes of `field`, if that is the next field and the message has been cut
    /// inside it.
    pub(crate) fn cut_bytes(mut self, field: u64) -> Option<&'a [u8]> {
        let is_next = self.varint().ok()? == field << 3 | 2;
        self.varint().ok().filter(|_| is_next).map(|_| self.0)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(*self.take(1)?.first().ok_or(Malformed)?);
            // A tenth byte holds only the last bit of 64.
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            number |= (byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The size of a length-delimited field with a number below 16, of a value of `size` bytes.
pub(crate) const fn field_size(size: usize) -> usize {
    1 + varint_size(size as u64) + size
}

/// The size of a number as it is written.
pub(crate) const fn varint_size(number: u64) -> usize {
    // One byte for each seven bits.
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// A message that is being written into memory that is lent to it.
pub(crate) struct Message<'b> {
    len: usize,
    bytes: &'b mut [u8],
}

impl<'b> Message<'b> {
    pub(crate) fn new(bytes: &'b mut [u8]) -> Self {
        Self { len: 0, bytes }
    }

    /// Begins a length-delimited field of `size` bytes, which must be appended next; returns `None`
    /// when its beginning does not fit.
    pub(crate) fn begin(&mut self, field: u64, size: usize) -> Option<()> {
        self.varint(field << 3 | 2)?;
        self.varint(size as u64)
    }

    /// Appends a length-delimited field; returns `None` when it does not fit.
    pub(crate) fn bytes(&mut self, field: u64, bytes: &[u8]) -> Option<()> {
        self.begin(field, bytes.len())?;
        self.append(bytes)
    }

    /// Appends a number; returns `None` when it does not fit.
    pub(crate) fn number(&mut self, field: u64, number: u64) -> Option<()> {
        self.varint(field << 3)?;
        self.varint(number)
    }

    /// What has been written.
    pub(crate) fn finish(self) -> &'b [u8] {
        let Self { bytes, len } = self;
        bytes.get(..len).unwrap_or_default()
    }

    fn varint(&mut self, mut number: u64) -> Option<()> {
        while number >= 0x80 {
            self.append(&[number as u8 | 0x80])?;
            number >>= 7;
        }
        self.append(&[number as u8])
    }

    /// Appends bytes as they are; returns `None` when they do not fit.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Option<()> {
        append(self.bytes, &mut self.len, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Malformed, Message, Value, field_size, varint_size};

    #[test]
    fn written_fields_read_back() {
        let mut room = [0; 64];
        let mut message = Message::new(&mut room);
        assert!(message.number(1, 0).is_some());
        assert!(message.bytes(2, b"abc").is_some());
        assert!(message.number(300, u64::MAX).is_some());
        let mut fields = Fields::new(message.finish());
        assert_eq!(fields.next(), Ok(Some((1, Value::Varint(0)))));
        assert_eq!(fields.next(), Ok(Some((2, Value::Bytes(b"abc")))));
        assert_eq!(fields.next(), Ok(Some((300, Value::Varint(u64::MAX)))));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn a_field_that_was_cut_has_the_bytes_that_are_there() {
        let fields = Fields::new(b"\x2A\x05abc");
        assert_eq!(Fields(fields.0).next(), Err(Malformed));
        assert_eq!(fields.cut_bytes(5), Some(&b"abc"[..]));
        assert_eq!(fields.cut_bytes(4), None);
        assert_eq!(Fields::new(b"\x2A").cut_bytes(5), None);
    }

    #[test]
    fn fixed_width_fields() {
        let mut fields = Fields::new(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x08, 5]);
        assert_eq!(fields.next(), Ok(Some((1, Value::Fixed64(0x0807_0605_0403_0201)))));
        assert_eq!(fields.next(), Ok(Some((2, Value::Fixed32))));
        assert_eq!(fields.next(), Ok(Some((1, Value::Varint(5)))));
    }

    #[test]
    fn malformed_messages_are_errors() {
        for message in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x0A, 5, 1],
            &[0x0B],
            &[0x09, 1],
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            &[0x0A, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        ] {
            assert_eq!(Fields::new(message).next(), Err(Malformed), "{message:?}");
        }
    }

    #[test]
    fn the_size_of_a_field_is_known_before_it_is_written() {
        for size in [0, 1, 127, 128, 16_383, 16_384] {
            let mut room = vec![0; 20_000];
            let mut message = Message::new(&mut room);
            assert!(message.bytes(2, &vec![b'x'; size]).is_some());
            assert_eq!(message.finish().len(), field_size(size));
        }
        assert_eq!((varint_size(0), varint_size(1 << 63), varint_size(1 << 62)), (1, 10, 9));
    }

    #[test]
    fn a_full_message_takes_no_more() {
        let mut room = [0; 4];
        let mut message = Message::new(&mut room);
        assert!(message.bytes(1, b"abc").is_none());
    }
}
