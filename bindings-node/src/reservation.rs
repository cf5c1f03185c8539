//! Reservations, which JavaScript holds until it settles or cancels them.

use std::sync::Arc;

use napi_derive::napi;
use tidegate::bindings::lock::Mutex;
use tidegate::{Error, Reservation};

use crate::answer::record_of;
use crate::completions::{Completions, Reply};
use crate::millis::in_millis;
use crate::tokens::{TokensInput, tokens};

/// The answer to a reserve.
#[napi(object, object_from_js = false)]
pub struct Reserved {
    /// The record of the buckets after the charge, or of the refusal if there was no charge.
    pub decision: Vec<f64>,
    /// Whole milliseconds until the slot, rounded up. Without meaning for a refusal.
    pub delay_ms: f64,
    /// The handle that settles or cancels it.
    pub native: NativeReservation,
}

impl From<Reservation> for Reserved {
    fn from(reservation: Reservation) -> Self {
        let delay = u64::try_from(reservation.delay().as_nanos()).unwrap_or(u64::MAX);
        Self {
            decision: record_of(reservation.tiers()),
            delay_ms: in_millis(delay),
            native: NativeReservation(Arc::new(Mutex::new(Some(reservation)))),
        }
    }
}

/// A reservation that is neither settled nor cancelled; `None` once it is, or while it is being settled
/// or cancelled. When the store fails meanwhile, it is there again. When JavaScript drops
/// it, its tokens count as spent.
#[napi]
pub struct NativeReservation(Arc<Mutex<Option<Reservation>>>);

#[napi]
impl NativeReservation {
    /// Corrects the charge to the `actual` tokens, and answers with a decision. Fails if the
    /// reservation is settled or cancelled already.
    #[napi]
    pub fn settle(&self, actual: TokensInput, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        // The lock is released first, because the answer may come at once and on this thread.
        let made = self.0.lock().take();
        match made {
            None => ticket.settle(Err(Error::Store("the reservation is over".into()))),
            Some(made) => {
                let held = Arc::clone(&self.0);
                made.settle_then(tokens(&actual), move |answer, again| {
                    *held.lock() = again;
                    ticket.settle(answer.map(Reply::Decision));
                });
            }
        }
    }

    /// Gives the tokens back, and answers whether all of them came back. Gives nothing back if the
    /// reservation is settled or cancelled already.
    #[napi]
    pub fn cancel(&self, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        // The lock is released first, because the answer may come at once and on this thread.
        let made = self.0.lock().take();
        match made {
            None => ticket.settle(Ok(Reply::Cancelled(false))),
            Some(made) => {
                let held = Arc::clone(&self.0);
                made.cancel_then(move |answer, again| {
                    *held.lock() = again;
                    ticket.settle(answer.map(Reply::Cancelled));
                });
            }
        }
    }
}
