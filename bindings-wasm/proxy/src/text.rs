//! Text of bounded length, stored in place.

use core::fmt;

/// At most `N` bytes of UTF-8, without an allocator.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// The empty text.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// A copy of `text`; `None` when it does not fit.
    pub fn new(text: &str) -> Option<Self> {
        let mut copy = Self::EMPTY;
        copy.push_str(text).then_some(copy)
    }

    /// A copy of `text`, cut to what fits.
    pub fn literal(text: &'static str) -> Self {
        Self::format(format_args!("{text}"))
    }

    /// A formatted message, cut to what fits.
    pub fn format(message: fmt::Arguments<'_>) -> Self {
        let mut text = Self::EMPTY;
        text.append(message);
        text
    }

    /// Appends a formatted message, cut to what fits.
    pub fn append(&mut self, message: fmt::Arguments<'_>) {
        let mut writer = Writer { bytes: &mut self.bytes, len: &mut self.len };
        // The writer itself never fails. A value that fails to format ends the message early.
        let _ = fmt::Write::write_fmt(&mut writer, message);
    }

    /// Appends `text`; returns `false`, and appends nothing, when it does not fit.
    #[must_use]
    pub fn push_str(&mut self, text: &str) -> bool {
        append(&mut self.bytes, &mut self.len, text.as_bytes()).is_some()
    }

    /// Appends one character; returns `false` when it does not fit.
    #[must_use]
    pub fn push(&mut self, character: char) -> bool {
        append_char(&mut self.bytes, &mut self.len, character).is_some()
    }

    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only whole characters are ever appended, so this is always UTF-8.
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// Appends `bytes` after the first `len` bytes of `room`; returns `None`, and appends nothing, when
/// they do not fit. It is not inlined and not generic, so that the module contains it once.
#[inline(never)]
pub(crate) fn append(room: &mut [u8], len: &mut usize, bytes: &[u8]) -> Option<()> {
    let (place, _) = room.get_mut(*len..)?.split_at_mut_checked(bytes.len())?;
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = *from;
    }
    *len += bytes.len();
    Some(())
}

#[inline(never)]
fn append_char(room: &mut [u8], len: &mut usize, character: char) -> Option<()> {
    append(room, len, character.encode_utf8(&mut [0; 4]).as_bytes())
}

/// Writes formatted text and cuts what does not fit. It is the same type for every length, so
/// that the module contains the code once.
struct Writer<'a> {
    bytes: &'a mut [u8],
    len: &'a mut usize,
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - *self.len;
        let fits = text.floor_char_boundary(room);
        let _ = append(self.bytes, self.len, text.as_bytes().get(..fits).unwrap_or_default());
        Ok(())
    }

    fn write_char(&mut self, character: char) -> fmt::Result {
        let _ = append_char(self.bytes, self.len, character);
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn text_that_does_not_fit_is_refused_whole() {
        let mut text = Text::<5>::EMPTY;
        assert!(text.push_str("abc"));
        assert!(!text.push_str("def"));
        assert!(text.push('é'));
        assert!(!text.push('x'));
        assert_eq!(text.as_str(), "abcé");
    }

    #[test]
    fn formatting_cuts_at_a_character_boundary() {
        assert_eq!(Text::<4>::literal("abcé").as_str(), "abc");
        let mut text = Text::<6>::format(format_args!("{}é", 12));
        text.append(format_args!("{}", 3456));
        assert_eq!(text.as_str(), "12é34");
    }
}
