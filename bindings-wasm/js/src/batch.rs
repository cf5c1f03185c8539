//! Batches of requests, which JavaScript sends over its client.

use core::time::Duration;

use tidegate_protocol::{Error, Host as _, Reply};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::host::{JavaScript, in_millis};
use crate::packed_commands::{PackedCommands, reply_parts};

/// Requests that are sent together over the host's client.
///
/// The host sends the [`commands`](Self::commands) in one pipeline and hands over each reply, until
/// there are no more commands. The answers that follow are at the [`Client`](crate::Client). The
/// object can then be used for the [next batch](crate::Client::next_batch), because a new object
/// costs JavaScript more than the batch does.
#[wasm_bindgen]
pub struct Batch {
    batch: tidegate_protocol::Batch,
    packed: PackedCommands,
}

#[wasm_bindgen]
impl Batch {
    /// A batch without requests.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript knows no defaults")]
    pub fn new() -> Self {
        Self { batch: tidegate_protocol::Batch::empty(), packed: PackedCommands::default() }
    }

    /// The number of commands to send now; 0 when every request has its answer. Their words are at
    /// [`words_pointer`](Self::words_pointer).
    pub fn commands(&mut self) -> usize {
        self.packed.clear();
        self.batch.commands(|words| self.packed.push(words)).len()
    }

    /// The address of the words of all commands, one after the other. It is valid until the next
    /// call.
    pub fn words_pointer(&self) -> *const u8 {
        self.packed.words().as_ptr()
    }

    /// The length of the words in bytes.
    pub fn words_length(&self) -> usize {
        self.packed.words().len()
    }

    /// The address of the lengths: for each command the number of its words, then the length of
    /// each word.
    pub fn lengths_pointer(&self) -> *const u32 {
        self.packed.lengths().as_ptr()
    }

    /// The number of the lengths.
    pub fn lengths_length(&self) -> usize {
        self.packed.lengths().len()
    }

    /// Takes a script's reply to the command: the bytes of its parts, one after the other, and the
    /// length of each; -1 stands for nil.
    pub fn take(&mut self, command: usize, bytes: &[u8], lengths: &[i32]) {
        self.batch.take_one(command, Reply::Parts(reply_parts(bytes, lengths)));
    }

    /// Takes a server's error in place of a reply; its text begins with the error's code.
    pub fn refuse(&mut self, command: usize, text: String) {
        self.batch.take_one(command, Reply::Refusal(text.into()));
    }

    /// Takes a failure of the client in place of a reply.
    pub fn fail(&mut self, command: usize, message: String, timed_out: bool) {
        self.batch.take_one(command, Reply::Failure(store_error(message, timed_out)));
    }

    /// Answers the callers whose deadline has passed. Returns the milliseconds until the next
    /// deadline, or nothing when no caller waits any more.
    pub fn expire(&mut self) -> Option<f64> {
        self.batch.expire(JavaScript::now()).map(in_millis)
    }

    /// Ends the batch: every caller that still waits gets a store error with this message.
    pub fn end(&mut self, message: String) {
        self.batch.fail(&Error::Store(message.into()));
    }
}

impl Batch {
    pub(crate) fn replace(&mut self, batch: tidegate_protocol::Batch) {
        self.batch = batch;
    }
}

fn store_error(message: String, timed_out: bool) -> Error {
    match timed_out {
        // The batch replaces the zero with each caller's own timeout.
        true => Error::timeout(Duration::ZERO),
        false => Error::Store(message.into()),
    }
}
