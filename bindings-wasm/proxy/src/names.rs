//! The texts of a configuration, in one bounded piece of memory.
//!
//! A text for each field that may have one would take 255 bytes for each of more than a hundred
//! fields, in each of 256 filters.

/// The bytes that the texts of one configuration may take together.
pub const NAMES: usize = 2048;

/// The place of a text in the [`Names`] of its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Name {
    start: u16,
    len: u16,
}

impl Name {
    /// The name of the empty text.
    pub(crate) const EMPTY: Self = Self { start: 0, len: 0 };

    pub(crate) const fn bits(self) -> u32 {
        (self.start as u32) << 16 | self.len as u32
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self { start: (bits >> 16) as u16, len: bits as u16 }
    }
}

/// The texts of one configuration.
#[derive(Clone, Debug)]
pub struct Names {
    used: usize,
    bytes: [u8; NAMES],
}

impl Names {
    pub(crate) const EMPTY: Self = Self { used: 0, bytes: [0; NAMES] };

    /// Keeps a text; `None` when there is no room. The same text is kept once, so that equal texts
    /// have equal names.
    pub(crate) fn add(&mut self, text: &[u8]) -> Option<Name> {
        let len = u16::try_from(text.len()).ok()?;
        let used = self.bytes.get(..self.used)?;
        let known = match text.len() {
            0 => Some(0),
            len => used.windows(len).position(|window| window == text),
        };
        let start = known.unwrap_or(self.used);
        if known.is_none() {
            crate::text::append(&mut self.bytes, &mut self.used, text)?;
        }
        Some(Name { start: u16::try_from(start).ok()?, len })
    }

    /// The text of a name.
    pub fn get(&self, name: Name) -> &[u8] {
        let start = usize::from(name.start);
        self.bytes.get(start..start + usize::from(name.len)).unwrap_or_default()
    }

    /// The text of a name, if it is UTF-8.
    pub(crate) fn text(&self, name: Name) -> &str {
        core::str::from_utf8(self.get(name)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Name, Names};

    #[test]
    fn equal_texts_have_equal_names_and_a_full_memory_takes_no_more() {
        let mut names = Names::EMPTY;
        let add = |names: &mut Names, text: &str| names.add(text.as_bytes());
        let (a, b) = (add(&mut names, "x-api-key"), add(&mut names, "path"));
        assert_eq!((add(&mut names, "x-api-key"), add(&mut names, "path")), (a, b));
        assert_ne!(a, b);
        assert_eq!(a.map(|name| names.text(name)), Some("x-api-key"));
        assert_eq!(add(&mut names, ""), Some(Name::default()));
        assert_eq!(names.get(Name::default()), b"");
        assert!(names.add(&[b'z'; NAMES]).is_none());
        assert!(names.add(&[b'z'; NAMES - 13]).is_some());
        assert!(names.add(b"!").is_none());
        assert_eq!(b.map(|name| names.text(name)), Some("path"));
    }
}
