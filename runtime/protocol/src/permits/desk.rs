//! The desk at which the callers of one process ask for the permits of one key: a pure machine.
//!
//! It is told who comes and goes, and what the store has answered. It says what the store is to be asked,
//! who has got a permit and who has lost one, and when it wants to be called again. It renews all permits
//! of the process in one call, and asks for all who wait in one call: nobody polls for itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_core::{PermitAnswer, PermitAsk};

use super::PermitReply;
use crate::error::Error;

const MILLI: u64 = 1_000_000;

/// The shortest time between two calls that only ask whether a permit has come free: a process asks the
/// store at most 20 times a second for each key, and only while somebody waits.
const SHORTEST_POLL: u64 = 50 * MILLI;

/// The time to which the time between polls grows for the first of the line, while nothing moves.
const LONGEST_FIRST_POLL: u64 = 250 * MILLI;

/// The longest time between two polls of callers far back in the line.
const LONGEST_POLL: u64 = 1_000 * MILLI;

/// How many callers a poll asks for. Those behind them come later anyway.
const POLLED: usize = 32;

/// The most steps of a call, so that the store does not work on one for long.
const MAX_STEPS: usize = 256;

/// How a desk asks its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeskOptions {
    /// How long a permit lasts unless it is renewed, in nanoseconds.
    pub ttl: u64,
    /// How long a caller keeps its place in the line without being heard of, in nanoseconds.
    pub wait: u64,
    /// The number of permits.
    pub limit: u64,
    /// Whether others use the store too, so that permits come free unseen, and expire unless they are
    /// renewed.
    pub is_shared: bool,
}

/// What the driver of a desk is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum PermitAction {
    /// Take these steps on the permits of the key in one call, in the order of calls, and report the
    /// answer with [`PermitDesk::answered`].
    Call {
        /// Names the call.
        call: u64,
        /// The steps, each with its caller.
        steps: Vec<(PermitAsk, u64)>,
    },
    /// Tell a caller that it has a permit (true), or that there is none for it.
    Answer {
        /// The caller.
        id: u64,
        /// The answer.
        answer: Result<bool, Error>,
    },
    /// A caller's permit lasts until this time by the process's clock.
    Lasts {
        /// The caller.
        id: u64,
        /// The time, in nanoseconds.
        until: u64,
    },
    /// The store has been told that a caller left, or could not be told.
    Left {
        /// The caller.
        id: u64,
    },
    /// A caller's permit has expired before it could be renewed.
    Lost {
        /// The caller.
        id: u64,
    },
}

/// The callers of one process that hold permits of one key or wait for one.
#[derive(Debug)]
pub struct PermitDesk {
    options: DeskOptions,
    last_id: u64,
    last_call: u64,
    waiting: BTreeMap<u64, Waiter>,
    deadlines: BTreeSet<(u64, u64)>,
    /// Each caller that holds a permit, and when that expires unless it is renewed.
    held: BTreeMap<u64, u64>,
    calls: BTreeMap<u64, SentCall>,
    poll: Poll,
    /// When the permits are to be renewed; `None` while there are none.
    renew_at: Option<u64>,
    /// When the store is to hear of all who wait; `None` while nobody does.
    wait_at: Option<u64>,
    /// The earliest expiry of a permit, while permits could not be renewed.
    expire_at: Option<u64>,
    actions: VecDeque<PermitAction>,
}

#[derive(Debug)]
struct Waiter {
    deadline: u64,
    /// Whether the store has given it a place.
    is_in_line: bool,
    /// Whether the last call for it has failed.
    has_failed: bool,
}

#[derive(Debug)]
struct SentCall {
    at: u64,
    steps: Vec<(PermitAsk, u64)>,
    is_poll: bool,
}

/// When the store is asked again whether a permit has come free.
#[derive(Debug, Default)]
struct Poll {
    at: Option<u64>,
    is_sent: bool,
    interval: u64,
    /// The place of the first caller when the store was last asked.
    ahead: Option<u64>,
}

impl PermitDesk {
    /// A desk at which nobody is.
    pub fn new(options: DeskOptions) -> Self {
        Self {
            options,
            last_id: 0,
            last_call: 0,
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            held: BTreeMap::new(),
            calls: BTreeMap::new(),
            poll: Poll::default(),
            renew_at: None,
            wait_at: None,
            expire_at: None,
            actions: VecDeque::new(),
        }
    }

    /// The same, whose callers have numbers above this one.
    #[must_use]
    pub fn numbered_after(self, last_id: u64) -> Self {
        Self { last_id, ..self }
    }

    /// A caller wants a permit, and waits for it at most `max_wait` nanoseconds. The answer names it.
    pub fn enter(&mut self, now: u64, max_wait: u64) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let deadline = now.saturating_add(max_wait);
        let ask = match max_wait {
            0 => PermitAsk::TryEnter,
            _ => {
                self.deadlines.insert((deadline, id));
                PermitAsk::Enter
            }
        };
        self.waiting.insert(id, Waiter { deadline, is_in_line: false, has_failed: false });
        self.call(now, vec![(ask, id)], false);
        id
    }

    /// A caller gives its permit back, or stops waiting. Answers whether it was here; the store is not
    /// told of anybody else.
    pub fn leave(&mut self, now: u64, id: u64) -> bool {
        let was_here = self.held.remove(&id).is_some() || self.stop_waiting(id);
        if was_here {
            let mut steps = vec![(PermitAsk::Leave, id)];
            steps.extend(self.first_in_line());
            self.call(now, steps, false);
        }
        self.settle(now);
        was_here
    }

    /// The number of permits has changed.
    pub fn set_limit(&mut self, now: u64, limit: u64) {
        self.options.limit = limit;
        self.ask_for_the_first(now);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: u64) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.actions.push_back(PermitAction::Answer { id, answer: Ok(false) });
            self.leave(now, id);
        }
        if self.expire_at.is_some_and(|at| at <= now) {
            self.expire(now);
        }
        if self.renew_at.is_some_and(|at| at <= now) {
            self.renew_at = Some(now + self.options.ttl / 3);
            self.ask_for(now, PermitAsk::Renew, self.held.keys().copied().collect());
        }
        if self.wait_at.is_some_and(|at| at <= now) {
            self.wait_at = Some(now + self.options.wait / 3);
            let in_line = self.waiting.iter().filter(|(_, waiter)| waiter.is_in_line);
            self.ask_for(now, PermitAsk::Enter, in_line.map(|(id, _)| *id).collect());
        }
        if self.poll.at.is_some_and(|at| at <= now) && !self.poll.is_sent {
            self.ask_for_the_first(now);
        }
    }

    /// The store has answered a call, or the call has failed.
    pub fn answered(&mut self, now: u64, call: u64, reply: Result<PermitReply, Error>) {
        let Some(sent) = self.calls.remove(&call) else { return };
        if sent.is_poll {
            self.poll.is_sent = false;
        }
        match reply {
            Ok(reply) => self.take_reply(now, sent, reply),
            Err(error) => self.take_failure(now, sent, &error),
        }
        self.settle(now);
    }

    /// Answers all who wait with an error, and lets nobody hold anything any more.
    pub fn close(&mut self, now: u64, error: &Error) {
        let mut ids: Vec<u64> = self.held.keys().copied().collect();
        for id in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.actions.push_back(PermitAction::Answer { id, answer: Err(error.clone()) });
            self.stop_waiting(id);
            ids.push(id);
        }
        self.held.clear();
        self.ask_for(now, PermitAsk::Leave, ids);
        self.settle(now);
    }

    /// The next thing to do, if there is any.
    pub fn next_action(&mut self) -> Option<PermitAction> {
        self.actions.pop_front()
    }

    /// When to call [`tick`](Self::tick).
    pub fn due(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let poll = self.poll.at.filter(|_| !self.poll.is_sent);
        [deadline.filter(|at| *at < u64::MAX), poll, self.renew_at, self.wait_at, self.expire_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The number of callers that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest call was sent that is not answered.
    pub fn asking_since(&self) -> Option<u64> {
        self.calls.values().map(|call| call.at).min()
    }

    /// Whether nobody is here and no answer is due.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty() && self.calls.is_empty()
    }

    /// The number of the last caller.
    pub const fn last_id(&self) -> u64 {
        self.last_id
    }

    fn take_reply(&mut self, now: u64, sent: SentCall, reply: PermitReply) {
        let until = sent.at.saturating_add(self.options.ttl);
        let (mut entered, mut first_ahead, mut is_renewal) = (0, None, false);
        for ((ask, id), answer) in sent.steps.into_iter().zip(reply.answers) {
            is_renewal |= ask == PermitAsk::Renew;
            match answer {
                PermitAnswer::Entered if self.stop_waiting(id) => {
                    entered += 1;
                    self.held.insert(id, until);
                    self.actions.push_back(PermitAction::Lasts { id, until });
                    self.actions.push_back(PermitAction::Answer { id, answer: Ok(true) });
                }
                PermitAnswer::Entered => match self.held.get_mut(&id) {
                    Some(last) => {
                        *last = until.max(*last);
                        self.actions.push_back(PermitAction::Lasts { id, until: *last });
                    }
                    // It has left meanwhile; or an older call was carried out after it left.
                    None => self.call(now, vec![(PermitAsk::Leave, id)], false),
                },
                PermitAnswer::Waiting { ahead } => match self.waiting.get_mut(&id) {
                    Some(waiter) => {
                        (waiter.is_in_line, waiter.has_failed) = (true, false);
                        first_ahead = first_ahead.or(Some(ahead));
                    }
                    None => self.call(now, vec![(PermitAsk::Leave, id)], false),
                },
                PermitAnswer::Full => {
                    if self.stop_waiting(id) {
                        self.actions.push_back(PermitAction::Answer { id, answer: Ok(false) });
                    }
                }
                PermitAnswer::Lost if ask == PermitAsk::Renew => {
                    if self.held.remove(&id).is_some() {
                        self.actions.push_back(PermitAction::Lost { id });
                    }
                }
                PermitAnswer::Lost => {}
                PermitAnswer::Left { .. } => self.actions.push_back(PermitAction::Left { id }),
            }
        }
        if is_renewal {
            self.expire_at = None;
        }
        if sent.is_poll && self.options.is_shared {
            self.schedule(now, entered, first_ahead);
        } else if entered >= POLLED {
            self.ask_for_the_first(now);
        }
    }

    fn take_failure(&mut self, now: u64, sent: SentCall, error: &Error) {
        let mut is_renewal = false;
        for (ask, id) in sent.steps {
            match ask {
                PermitAsk::Enter | PermitAsk::TryEnter => {
                    // A place in the line outlasts one failure.
                    if let Some(waiter) = self.waiting.get_mut(&id)
                        && waiter.is_in_line
                        && !core::mem::replace(&mut waiter.has_failed, true)
                    {
                        continue;
                    }
                    if self.stop_waiting(id) {
                        let answer = Err(error.clone());
                        self.actions.push_back(PermitAction::Answer { id, answer });
                        // The store may have carried it out.
                        if matches!(error, Error::StoreTimeout { .. }) {
                            self.call(now, vec![(PermitAsk::Leave, id)], false);
                        }
                    }
                }
                PermitAsk::Renew => is_renewal = true,
                // The permit comes free when it expires.
                PermitAsk::Leave => self.actions.push_back(PermitAction::Left { id }),
            }
        }
        if is_renewal {
            self.renew_at = Some(now + self.options.ttl / 9);
            self.expire_at = self.held.values().min().copied();
        }
    }

    /// Decides when the line is asked for next, after the answer to a poll. `first_ahead` is the place of
    /// the first caller that still waits.
    fn schedule(&mut self, now: u64, entered: usize, first_ahead: Option<u64>) {
        let Some(ahead) = first_ahead else {
            if entered > 0 {
                self.ask_for_the_first(now);
            }
            return;
        };
        let is_still = self.poll.ahead.replace(ahead) == Some(ahead) && entered == 0;
        self.poll.interval = match is_still {
            true => (self.poll.interval * 5 / 4).min(LONGEST_FIRST_POLL),
            false => SHORTEST_POLL,
        };
        // Whoever is behind as many callers as there are permits waits for another round of work.
        let rounds = ahead / self.options.limit.max(1);
        let interval = self.poll.interval.saturating_mul(rounds + 1).min(LONGEST_POLL);
        self.poll.at = Some(now + interval.max(SHORTEST_POLL));
    }

    /// Asks for the first of the line now.
    fn ask_for_the_first(&mut self, now: u64) {
        self.poll.at = None;
        let steps: Vec<_> = self.first_in_line().collect();
        if !steps.is_empty() && !self.poll.is_sent {
            self.poll.is_sent = true;
            self.call(now, steps, true);
        }
    }

    fn first_in_line(&self) -> impl Iterator<Item = (PermitAsk, u64)> + use<'_> {
        let in_line = self.waiting.iter().filter(|(_, waiter)| waiter.is_in_line);
        in_line.take(POLLED).map(|(id, _)| (PermitAsk::Enter, *id))
    }

    fn expire(&mut self, now: u64) {
        let gone: Vec<u64> =
            self.held.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect();
        for id in &gone {
            self.held.remove(id);
            self.actions.push_back(PermitAction::Lost { id: *id });
        }
        self.expire_at = self.held.values().min().copied();
        self.ask_for(now, PermitAsk::Leave, gone);
        self.settle(now);
    }

    fn ask_for(&mut self, now: u64, ask: PermitAsk, ids: Vec<u64>) {
        for some in ids.chunks(MAX_STEPS) {
            self.call(now, some.iter().map(|id| (ask, *id)).collect(), false);
        }
    }

    fn call(&mut self, now: u64, steps: Vec<(PermitAsk, u64)>, is_poll: bool) {
        self.last_call += 1;
        let call = self.last_call;
        self.calls.insert(call, SentCall { at: now, steps: steps.clone(), is_poll });
        self.actions.push_back(PermitAction::Call { call, steps });
    }

    /// Takes a caller out of those who wait, and says whether it was among them.
    fn stop_waiting(&mut self, id: u64) -> bool {
        let Some(waiter) = self.waiting.remove(&id) else { return false };
        self.deadlines.remove(&(waiter.deadline, id));
        true
    }

    /// Starts or ends what is repeated while somebody is here.
    fn settle(&mut self, now: u64) {
        if !self.options.is_shared {
            return;
        }
        let DeskOptions { ttl, wait, .. } = self.options;
        match self.held.values().min() {
            None => (self.renew_at, self.expire_at) = (None, None),
            // The earliest expiry is a ttl after its permit was asked for.
            Some(until) => {
                _ = self.renew_at.get_or_insert_with(|| until.saturating_sub(ttl / 3 * 2))
            }
        }
        if self.waiting.is_empty() {
            let is_sent = self.poll.is_sent;
            (self.wait_at, self.poll) = (None, Poll { is_sent, ..Poll::default() });
            return;
        }
        self.wait_at.get_or_insert(now + wait / 3);
        if self.poll.at.is_none() && !self.poll.is_sent && self.first_in_line().next().is_some() {
            self.poll.at = Some(now + SHORTEST_POLL);
        }
    }
}
