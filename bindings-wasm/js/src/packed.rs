use std::borrow::Cow;

use tidegate_protocol::Part;

/// Commands on their way to the host.
#[derive(Default)]
pub(crate) struct Packed {
    words: Vec<u8>,
    lengths: Vec<u32>,
}

impl Packed {
    /// Puts commands in the place of those before; how many they are.
    pub(crate) fn pack<'w>(
        &mut self,
        commands: impl IntoIterator<Item = Vec<Cow<'w, [u8]>>>,
    ) -> usize {
        self.words.clear();
        self.lengths.clear();
        let mut count = 0;
        for command in commands {
            count += 1;
            self.lengths.push(command.len() as u32);
            for word in command {
                self.lengths.push(word.len() as u32);
                self.words.extend_from_slice(&word);
            }
        }
        count
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

/// The parts of a script's answer: their bytes, one after the other, and the length of each; -1
/// where there is no value.
pub(crate) fn parts(bytes: &[u8], lengths: &[i32]) -> Vec<Part> {
    let mut rest = bytes;
    let mut part = |&length: &i32| {
        let Ok(length) = usize::try_from(length) else { return Part::Nil };
        let (bytes, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = others;
        Part::Bytes(bytes.to_vec())
    };
    lengths.iter().map(&mut part).collect()
}
