//! Memory for the values that the filter makes of a request's parts, for one callback.

/// What is left of the memory.
pub(crate) struct Scratch<'s>(&'s mut [u8]);

impl<'s> Scratch<'s> {
    pub(crate) fn new(memory: &'s mut [u8]) -> Self {
        Self(memory)
    }

    /// Keeps bytes until the callback ends; `None` when they do not fit.
    pub(crate) fn keep(&mut self, bytes: impl Iterator<Item = u8>) -> Option<&'s [u8]> {
        let memory = core::mem::take(&mut self.0);
        let mut len = 0;
        for byte in bytes {
            let Some(place) = memory.get_mut(len) else {
                self.0 = memory;
                return None;
            };
            *place = byte;
            len += 1;
        }
        let (kept, rest) = memory.split_at_mut_checked(len)?;
        self.0 = rest;
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn bytes_are_kept_side_by_side_and_what_does_not_fit_takes_nothing() {
        let mut memory = [0; 8];
        let mut scratch = Scratch::new(&mut memory);
        let a = scratch.keep(b"abc".iter().copied());
        assert_eq!(scratch.keep(b"123456".iter().copied()), None);
        let b = scratch.keep(b"defgh".iter().copied());
        assert_eq!((a, b), (Some(&b"abc"[..]), Some(&b"defgh"[..])));
        assert_eq!(scratch.keep(b"i".iter().copied()), None);
        assert_eq!(scratch.keep([].into_iter()), Some(&b""[..]));
    }
}
