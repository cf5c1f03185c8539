//! Commands and replies in the form in which they pass between the module and JavaScript.

use std::borrow::Cow;

use tidegate_protocol::ReplyPart;

/// The words of commands in the module's memory, one after the other, with their lengths.
#[derive(Default)]
pub(crate) struct PackedCommands {
    words: Vec<u8>,
    lengths: Vec<u32>,
}

impl PackedCommands {
    /// Removes all commands.
    pub(crate) fn clear(&mut self) {
        self.words.clear();
        self.lengths.clear();
    }

    /// Adds the command that these words form.
    pub(crate) fn push(&mut self, words: &mut dyn Iterator<Item = Cow<'_, [u8]>>) {
        let head = self.lengths.len();
        self.lengths.push(0);
        for word in words {
            self.lengths.push(word.len() as u32);
            self.words.extend_from_slice(&word);
        }
        self.lengths[head] = (self.lengths.len() - head - 1) as u32;
    }

    /// The words of all commands, one after the other.
    pub(crate) fn words(&self) -> &[u8] {
        &self.words
    }

    /// For each command the number of its words, then the length of each.
    pub(crate) fn lengths(&self) -> &[u32] {
        &self.lengths
    }
}

/// Reads the parts of a script's reply from their bytes, which stand one after the other, and the
/// length of each; a length of -1 stands for nil.
pub(crate) fn reply_parts(bytes: &[u8], lengths: &[i32]) -> Vec<ReplyPart> {
    let mut rest = bytes;
    let mut part = |&length: &i32| {
        let Ok(length) = usize::try_from(length) else { return ReplyPart::Nil };
        let (bytes, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = others;
        ReplyPart::Bytes(bytes.to_vec())
    };
    lengths.iter().map(&mut part).collect()
}
