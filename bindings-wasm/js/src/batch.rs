//! A batch of requests, as JavaScript sends it.

use core::time::Duration;

use tidegate_protocol::{Error, Host as _, Reply};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::host::{JavaScript, in_millis};
use crate::packed::{Packed, parts};

/// Requests that are sent together over a client of the host's.
///
/// The host sends [`commands`](Self::commands) in one pipeline and hands over each reply, until
/// there are no more. The answers that follow are at the [`Client`](crate::Client). The object can
/// then take the [next batch](crate::Client::next_batch): for JavaScript a new object costs more
/// than the batch.
#[wasm_bindgen]
pub struct Batch {
    batch: tidegate_protocol::Batch,
    packed: Packed,
}

#[wasm_bindgen]
impl Batch {
    /// A batch without requests.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript knows no defaults")]
    pub fn new() -> Self {
        Self { batch: tidegate_protocol::Batch::empty(), packed: Packed::default() }
    }

    /// How many commands are to be sent now; 0 when every request has its answer. Their words
    /// are at [`words_pointer`](Self::words_pointer).
    pub fn commands(&mut self) -> usize {
        self.packed.clear();
        self.batch.commands(|words| self.packed.push(words)).len()
    }

    /// Where the words of all commands are, one after the other, until the next call.
    pub fn words_pointer(&self) -> *const u8 {
        self.packed.words().as_ptr()
    }

    /// How many bytes they are.
    pub fn words_length(&self) -> usize {
        self.packed.words().len()
    }

    /// Where it says, for each command, the number of its words, then the length of each.
    pub fn lengths_pointer(&self) -> *const u32 {
        self.packed.lengths().as_ptr()
    }

    /// How many numbers these are.
    pub fn lengths_length(&self) -> usize {
        self.packed.lengths().len()
    }

    /// Takes a script's answer: its parts, one after the other, and the length of each; -1
    /// where there is no value.
    pub fn take(&mut self, command: usize, bytes: &[u8], lengths: &[i32]) {
        self.batch.take_one(command, Reply::Parts(parts(bytes, lengths)));
    }

    /// Takes the server's error, its code first.
    pub fn refuse(&mut self, command: usize, text: String) {
        self.batch.take_one(command, Reply::Refusal(text.into()));
    }

    /// Takes a failure of the client, in the place of a reply.
    pub fn fail(&mut self, command: usize, message: String, timed_out: bool) {
        self.batch.take_one(command, Reply::Failure(store_error(message, timed_out)));
    }

    /// Tells the callers whose deadline has passed. Answers the milliseconds until the next
    /// deadline, or nothing when nobody waits any more.
    pub fn expire(&mut self) -> Option<f64> {
        self.batch.expire(JavaScript::now()).map(in_millis)
    }

    /// Ends the batch: every caller who still waits gets the error.
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
        // Each caller's own timeout is filled in.
        true => Error::timeout(Duration::ZERO),
        false => Error::Store(message.into()),
    }
}
