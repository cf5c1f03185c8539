//! Tells JavaScript that a store fails, or has recovered.

use std::sync::{Mutex, PoisonError};

use napi::Status;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

/// Gets the line for the log. It is weak, which means that it does not keep the event loop alive.
type Listener = ThreadsafeFunction<String, (), String, Status, false, true>;

/// The listeners of the threads that have loaded the addon.
static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(Vec::new());

/// Calls `listener` on its event loop with a line for the log, once for each change of a store.
#[napi]
pub fn on_store_change(listener: Function<'_, String, ()>) -> napi::Result<()> {
    let build = listener.build_threadsafe_function::<String>();
    let listener = build.callee_handled::<false>().weak::<true>().build()?;
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    listeners.push(listener);
    if listeners.len() == 1 {
        tidegate::Store::on_change(|change| tell(&change.to_string()));
    }
    Ok(())
}

fn tell(line: &str) {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    // A listener whose event loop is gone is dropped.
    listeners.retain(|listener| {
        let told = listener.call(line.to_owned(), ThreadsafeFunctionCallMode::NonBlocking);
        told != Status::Closing
    });
}
