//! A vendor with a hidden limit, which it counts in one of three ways.

use std::collections::VecDeque;

use super::{MILLI, SECOND};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// At most the limit in each second of the vendor's clock.
    Fixed,
    /// At most the limit in any second.
    Sliding,
    /// A token bucket with a burst of half a second.
    Bucket,
}

pub(crate) struct Vendor {
    window: Window,
    pub(crate) limit: u64,
    /// The beginning of a window.
    from: u64,
    count: u64,
    recent: VecDeque<u64>,
    /// Tokens, in millionths.
    tokens: u64,
    filled: u64,
}

impl Vendor {
    pub(crate) fn new(window: Window, limit: u64, from: u64) -> Self {
        let tokens = limit * SECOND / 2;
        Self { window, limit, from, count: 0, recent: VecDeque::new(), tokens, filled: from }
    }

    pub(crate) fn accepts(&mut self, now: u64) -> bool {
        match self.window {
            Window::Fixed => {
                let window = now.saturating_sub(self.from) / SECOND;
                if window > 0 {
                    self.from += window * SECOND;
                    self.count = 0;
                }
                let accepted = self.count < self.limit;
                self.count += u64::from(accepted);
                accepted
            }
            Window::Sliding => {
                while self.recent.front().is_some_and(|at| *at + SECOND <= now) {
                    self.recent.pop_front();
                }
                let accepted = (self.recent.len() as u64) < self.limit;
                if accepted {
                    self.recent.push_back(now);
                }
                accepted
            }
            Window::Bucket => {
                let most = self.limit * SECOND / 2;
                self.tokens = most.min(self.tokens + now.saturating_sub(self.filled) * self.limit);
                self.filled = self.filled.max(now);
                let accepted = self.tokens >= SECOND;
                self.tokens -= if accepted { SECOND } else { 0 };
                accepted
            }
        }
    }

    /// What the vendor says in `Retry-After`, if it does.
    pub(crate) fn wait(&self, now: u64) -> u64 {
        match self.window {
            Window::Fixed => (self.from + SECOND).saturating_sub(now).max(MILLI),
            Window::Sliding | Window::Bucket => 100 * MILLI,
        }
    }
}
