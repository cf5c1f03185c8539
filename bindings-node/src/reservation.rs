//! A reservation, as JavaScript holds it.

use napi_derive::napi;
use tidegate::bindings::lock::Mutex;
use tidegate::{Error, Reservation};

use crate::answer::Reply;
use crate::completions::Completions;

/// A reservation of the crate `tidegate`, until it is cancelled. Collected before that, its
/// tokens count as spent.
#[napi]
pub struct NativeReservation(Mutex<Option<Reservation>>);

impl NativeReservation {
    pub(crate) fn new(reservation: Reservation) -> Self {
        Self(Mutex::new(Some(reservation)))
    }
}

#[napi]
impl NativeReservation {
    /// Corrects its charge to the `actual` tokens, and answers with a decision. Once, and not
    /// after it has been cancelled.
    #[napi]
    pub fn settle(&self, actual: f64, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        match self.0.lock().take() {
            None => ticket.settle(Err(Error::Store("the reservation is over".into()))),
            Some(made) => {
                let done = |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decision));
                made.settle_then(actual as u64, done);
            }
        }
    }

    /// Gives it back; whether all of it came back is answered to `completions` under the
    /// number `id`. Once it has been cancelled, nothing comes back.
    #[napi]
    pub fn cancel(&self, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        match self.0.lock().take() {
            None => ticket.settle(Ok(Reply::Cancelled(false))),
            Some(made) => made.cancel_then(|answer| ticket.settle(answer.map(Reply::Cancelled))),
        }
    }
}
