//! `EgressResponse`: what became of a message's call.

use crate::signal::{Signal, SignalKind};

/// What became of a message's call. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EgressResponse {
    /// It succeeded, or a record says that it had before.
    Done,
    /// The vendor asks for no calls for the hold: nobody calls until then, and the message goes back.
    /// 0 stands for the blind hold of the terms.
    Held {
        /// For how long.
        hold: u64,
    },
    /// The vendor has too many calls of ours at a time, or a lock is taken. The message goes back,
    /// and the gate stays open.
    Busy,
    /// It failed, and may succeed when it is made again.
    Failed {
        /// The wait before it is made again in hand, if the budget of retries allows that.
        retry: Option<u64>,
    },
    /// It fails as often as it is made.
    Refused,
}

impl EgressResponse {
    /// What a vendor's response means for the message. `retry` is for a failure.
    ///
    /// ```
    /// use tidegate_core::{EgressResponse, Profile, Signal};
    /// let read = |status, headers: &[(&'static str, &'static str)]| {
    ///     let signal = Signal::parse(status, headers.iter().copied(), &Profile::GENERIC, 0);
    ///     EgressResponse::from_signal(&signal, None)
    /// };
    /// assert_eq!(read(204, &[]), EgressResponse::Done);
    /// assert_eq!(read(429, &[("Retry-After", "5")]), EgressResponse::Held { hold: 5_000_000_000 });
    /// assert_eq!(read(502, &[]), EgressResponse::Failed { retry: None });
    /// assert_eq!(read(422, &[]), EgressResponse::Refused);
    /// ```
    pub const fn from_signal(signal: &Signal<'_>, retry: Option<u64>) -> Self {
        Self::from_parts(signal.kind, signal.hold, signal.should_retry, retry)
    }

    /// As [`from_signal`](Self::from_signal), from the fields of a signal that count.
    pub const fn from_parts(
        kind: SignalKind,
        hold: u64,
        should_retry: bool,
        retry: Option<u64>,
    ) -> Self {
        match kind {
            SignalKind::Ok => Self::Done,
            _ if !should_retry => Self::Refused,
            SignalKind::Concurrency if hold == 0 => Self::Busy,
            SignalKind::Rate | SignalKind::Quota | SignalKind::Abuse | SignalKind::Concurrency => {
                Self::Held { hold }
            }
            SignalKind::Overload | SignalKind::Fault | SignalKind::Auth | SignalKind::Refused
                if hold > 0 =>
            {
                Self::Held { hold }
            }
            SignalKind::Overload | SignalKind::Fault | SignalKind::Auth | SignalKind::Refused => {
                Self::Failed { retry }
            }
        }
    }
}
