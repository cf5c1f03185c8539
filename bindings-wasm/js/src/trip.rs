use core::time::Duration;

use tidegate_protocol::{Errand, Error, Host as _, Reply};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::client::in_millis;
use crate::host::JavaScript;
use crate::packed::{Packed, parts};

/// Requests that travel together over a client of the host's.
///
/// The host sends [`commands`](Self::commands) in one go and hands over each reply, until
/// there are no more. The answers that follow are at the [`Client`](crate::Client). Then it can
/// [depart](crate::Client::depart) again: for JavaScript an object that is its own costs more
/// than the trip.
#[wasm_bindgen]
pub struct Trip {
    trip: tidegate_protocol::Trip,
    packed: Packed,
}

#[wasm_bindgen]
impl Trip {
    /// Of nobody.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript knows no defaults")]
    pub fn new() -> Self {
        Self { trip: tidegate_protocol::Trip::new(Vec::new(), 0), packed: Packed::default() }
    }

    /// How many commands are to be sent now; 0 when every request has its answer. Their words
    /// are at [`words_pointer`](Self::words_pointer).
    pub fn commands(&mut self) -> usize {
        self.packed.pack(self.trip.commands())
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
        self.trip.take_one(command, Reply::Parts(parts(bytes, lengths)));
    }

    /// Takes the server's error, its code first.
    pub fn refuse(&mut self, command: usize, text: String) {
        self.trip.take_one(command, Reply::Refusal(text));
    }

    /// Takes what went wrong on the way.
    pub fn fail(&mut self, command: usize, message: String, timed_out: bool) {
        self.trip.take_one(command, Reply::Failure(store_error(message, timed_out)));
    }

    /// Answers those who have waited long enough; milliseconds until the next one will have, or
    /// nothing when nobody waits any more.
    pub fn expire(&mut self) -> Option<f64> {
        self.trip.expire(JavaScript::now()).map(in_millis)
    }

    /// Ends the trip: none of those who still wait gets an answer.
    pub fn end(&mut self, message: String) {
        self.trip.fail(&Error::Store(message));
    }
}

impl Trip {
    pub(crate) fn begin(&mut self, errands: Vec<Errand>) {
        self.trip = tidegate_protocol::Trip::new(errands, JavaScript::now());
    }
}

pub(crate) fn store_error(message: String, timed_out: bool) -> Error {
    match timed_out {
        // Each caller's own timeout is filled in.
        true => Error::StoreTimeout { after: Duration::ZERO },
        false => Error::Store(message),
    }
}
