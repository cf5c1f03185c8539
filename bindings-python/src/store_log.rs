//! Writes the changes of stores to Python's log.
//!
//! A change is noticed on the I/O thread, or under a lock of the program's own client, where waiting
//! for the interpreter could wait for ever, and where a log handler that checks a limiter would wait
//! for itself. So a thread of its own logs: it starts with a change and ends when all are logged.

use std::collections::VecDeque;
use std::thread;

use pyo3::prelude::*;
use tidegate::StoreChange;
use tidegate::bindings::{PerProcess, generation, lock::Mutex};

/// How many changes wait for a log handler that hangs; later ones are left out.
const MAX_WAITING: usize = 100;

/// A forked child has none of the threads of its parent.
static LOG: PerProcess<Mutex<Log>> = PerProcess::new(generation);

#[derive(Default)]
struct Log {
    waiting: VecDeque<StoreChange>,
    is_running: bool,
}

/// Makes the logger `tidegate` hear of all changes.
pub(crate) fn start() {
    tidegate::Store::on_change(|change| {
        let log = LOG.get_or_default();
        let mut state = log.lock();
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push_back(change.clone());
        }
        if !state.is_running {
            let thread = thread::Builder::new().name("tidegate-log".to_owned());
            state.is_running = thread.spawn(move || drain(log)).is_ok();
        }
    });
}

fn drain(log: &Mutex<Log>) {
    while let Some(change) = next(log) {
        // This is `None` when the interpreter is at its end.
        let logged = Python::try_attach(|py| write(py, &change));
        if let Some(Err(error)) = logged {
            _ = Python::try_attach(|py| error.write_unraisable(py, None));
        }
    }
}

fn next(log: &Mutex<Log>) -> Option<StoreChange> {
    let mut state = log.lock();
    let change = state.waiting.pop_front();
    state.is_running = change.is_some();
    change
}

fn write(py: Python<'_>, change: &StoreChange) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("tidegate",))?;
    let level = if change.is_warning() { "warning" } else { "info" };
    logger.call_method1(level, ("%s", change.to_string())).map(drop)
}
