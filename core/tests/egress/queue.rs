//! A queue whose messages come one by one, as SQS, Redis Streams and RabbitMQ have them: each message
//! is hidden from others for a while, and comes again when nobody deletes it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::{
    Admission, DeadReason, Egress, EgressAction, EgressMessage, EgressOrder, EgressResponse,
    EgressTerms, HeldMessage,
};

use super::gate::{Keys, Machine};
use super::random::Random;
use super::random_terms;

const MESSAGES: u64 = 8;
const STEPS: u64 = 60;
/// More steps than any history needs to end once all is well.
const STEPS_TO_END: u32 = 5_000;

struct Entry {
    key: u64,
    deadline: u64,
    visible_at: u64,
    deliveries: u32,
    /// The last delivery.
    delivery: u64,
    /// Attempts that failed, or of which nothing was heard.
    failures: u32,
    has_succeeded: bool,
    is_permanent: bool,
    end: Option<Option<DeadReason>>,
    /// Whether two deliveries may have been in hand at a time.
    has_lapsed: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Waiting,
    Running,
    Answered(EgressResponse),
    Burying(DeadReason),
}

struct Delivery {
    entry: usize,
    stage: Stage,
    attempts: u32,
    received_at: u64,
    visible_at: u64,
    dispatched_at: u64,
    not_before: u64,
}

pub(crate) struct Queue {
    terms: EgressTerms,
    machine: Machine,
    random: Random,
    now: u64,
    keys: Keys,
    entries: Vec<Entry>,
    deliveries: BTreeMap<u64, Delivery>,
    next_id: u64,
    /// Whether the broker leaves a delivery uncounted if it is told to.
    can_uncount: bool,
    is_calm: bool,
    is_stopping: bool,
    hold_to_tell: Option<u64>,
    times: Vec<u64>,
    pub(crate) seen: BTreeSet<&'static str>,
}

impl Queue {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let order = [EgressOrder::None, EgressOrder::Key][random.index(2)];
        let terms = random_terms(&mut random, order);
        let entries = (0..MESSAGES)
            .map(|_| Entry {
                key: random.up_to(2),
                deadline: if random.one_in(3) { random.up_to(600) } else { u64::MAX },
                visible_at: random.up_to(200),
                deliveries: 0,
                delivery: 0,
                failures: 0,
                has_succeeded: false,
                is_permanent: random.one_in(10),
                end: None,
                has_lapsed: false,
            })
            .collect();
        let can_uncount = random.one_in(2);
        Self {
            terms,
            machine: new_machine(terms),
            random,
            now: 0,
            keys: Keys::default(),
            entries,
            deliveries: BTreeMap::new(),
            next_id: 1,
            can_uncount,
            is_calm: false,
            is_stopping: false,
            hold_to_tell: None,
            times: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// A history with everything that can go wrong, and its end when all is well again.
    pub(crate) fn run(&mut self) {
        self.drain();
        for _ in 0..STEPS {
            self.pass_time();
            match self.random.up_to(8) {
                0..=2 => self.receive_ends(),
                3..=4 => self.a_call_ends(),
                5 => self.a_burial_ends(),
                6 if self.random.one_in(12) => self.crash(),
                6 if self.random.one_in(6) => self.a_duplicate_is_found(),
                _ => {
                    let (now, machine) = (self.now, &mut self.machine);
                    self.keys.something_happens(now, machine, &mut self.random);
                }
            }
            self.drain();
        }
        self.is_calm = true;
        self.keys.all_is_well(self.now, &mut self.machine);
        for step in 0.. {
            self.drain();
            if self.entries.iter().all(|entry| entry.end.is_some()) {
                break;
            }
            assert!(step < STEPS_TO_END, "every_message_ends");
            self.everything_ends();
            self.pass_time();
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        self.machine.stop(self.now);
        for step in 0.. {
            self.drain();
            if self.machine.is_idle() {
                break;
            }
            assert!(step < STEPS_TO_END, "a stop comes to an end");
            self.everything_ends();
            self.pass_time();
        }
        assert!(self.keys.tokens.is_empty(), "tokens_are_conserved");
        assert_eq!(self.keys.permits, 0, "permits_are_given_back");
        assert!(self.deliveries.is_empty(), "one_end_for_each_delivery");
    }

    // --- what happens -------------------------------------------------------------------------

    fn pass_time(&mut self) {
        let wake = self.machine.wake_at().unwrap_or(u64::MAX);
        assert!(wake > self.now, "wake_at is later than now");
        let step = 1 + self.random.up_to(if self.is_calm { 60 } else { 20 });
        let jump = !self.is_calm && self.random.one_in(40);
        self.now = if jump {
            self.seen.insert("a pause of the process");
            self.now + self.random.up_to(900)
        } else {
            (self.now + step).min(wake)
        };
        for delivery in self.deliveries.values() {
            let entry = &mut self.entries[delivery.entry];
            entry.has_lapsed |= self.now >= delivery.visible_at;
        }
    }

    fn everything_ends(&mut self) {
        self.keys.permits_come(self.now, &mut self.machine);
        self.keys.every_token_comes(self.now, &mut self.machine);
        self.drain();
        for _ in 0..self.deliveries.len() {
            self.a_call_ends();
            self.a_burial_ends();
        }
        self.drain();
        self.receive_ends();
    }

    fn receive_ends(&mut self) {
        let Some(most) = self.keys.receiving else { return };
        let mut taken: Vec<usize> = Vec::new();
        let wants = if self.is_calm { most } else { self.random.up_to(most.into()) as u32 };
        for index in 0..self.entries.len() {
            if taken.len() < wants as usize && self.can_deliver(index, &taken) {
                taken.push(index);
            }
        }
        for &index in &taken {
            self.deliver(index);
        }
        self.keys.receiving = None;
        self.machine.received(self.now, taken.len() as u32);
    }

    /// Whether the broker has the message for us. Of a message group nothing is delivered while a
    /// message of it is hidden.
    fn can_deliver(&self, index: usize, taken: &[usize]) -> bool {
        let entry = &self.entries[index];
        let is_free = entry.end.is_none() && self.now >= entry.visible_at;
        is_free
            && (self.terms.order == EgressOrder::None
                || entry.key == 0
                || self.entries.iter().enumerate().all(|(other, before)| {
                    before.key != entry.key
                        || before.end.is_some()
                        || taken.contains(&other)
                        || (other >= index && self.now >= before.visible_at)
                }))
    }

    fn deliver(&mut self, index: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let entry = &mut self.entries[index];
        entry.deliveries += 1;
        // The delivery before this one was lost, by a crash or because it took too long.
        entry.failures += u32::from(entry.delivery != 0);
        entry.delivery = id;
        entry.visible_at = match self.terms.visibility {
            0 => u64::MAX,
            visibility => self.now + visibility,
        };
        self.deliveries.insert(
            id,
            Delivery {
                entry: index,
                stage: Stage::Waiting,
                attempts: entry.deliveries,
                received_at: self.now,
                visible_at: entry.visible_at,
                dispatched_at: 0,
                not_before: 0,
            },
        );
        let message = EgressMessage {
            id,
            received_at: self.now,
            sent_at: 0,
            deadline: entry.deadline,
            attempts: entry.deliveries,
            key: entry.key,
            random: self.random.word(),
            partition: 0,
            offset: 0,
            generation: 0,
        };
        match self.machine.message(self.now, message) {
            Admission::Held => {
                assert!(self.keys.in_hand.insert(id));
                let in_hand = self.keys.in_hand.len() as u32;
                assert!(in_hand <= self.keys.permits, "outstanding_within_permits");
            }
            Admission::NotTaken => {
                assert!(self.keys.has_lost_permits, "what was asked for is taken");
                self.seen.insert("not taken");
                self.deliveries.remove(&id);
                self.comes_again(index, id, 0, false);
            }
            other => panic!("{other:?}"),
        }
    }

    fn a_call_ends(&mut self) {
        let running = self.ids(|stage| stage == Stage::Running);
        if running.is_empty() {
            return;
        }
        let id = running[self.random.index(running.len())];
        let delivery = &self.deliveries[&id];
        let is_permanent = self.entries[delivery.entry].is_permanent;
        let response = match self.random.up_to(9) {
            _ if is_permanent => EgressResponse::Refused,
            _ if self.is_calm => EgressResponse::Done,
            0..=4 => EgressResponse::Done,
            5 => EgressResponse::Held { hold: [0, 5, 80, 2_000][self.random.index(4)] },
            6 => EgressResponse::Busy,
            7 => EgressResponse::Failed { retry: Some(self.random.up_to(50)) },
            _ => EgressResponse::Failed { retry: None },
        };
        self.answer(id, response);
    }

    fn answer(&mut self, id: u64, response: EgressResponse) {
        let (now, terms) = (self.now, self.terms);
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        let entry = &mut self.entries[delivery.entry];
        delivery.stage = Stage::Answered(response);
        match response {
            EgressResponse::Done => {
                entry.has_succeeded = true;
                self.times.push(now - delivery.dispatched_at);
            }
            EgressResponse::Held { hold } => {
                let hold = if hold == 0 { terms.blind_hold } else { hold };
                let is_kept = hold <= terms.keep;
                self.keys.held_until = self.keys.held_until.max(now + hold);
                self.hold_to_tell = Some(self.keys.held_until);
                if is_kept {
                    self.seen.insert("kept");
                    delivery.stage = Stage::Waiting;
                    delivery.not_before = now + hold + terms.jitter;
                }
            }
            EgressResponse::Failed { retry } => {
                entry.failures += 1;
                if let Some(wait) = retry
                    && delivery.attempts < terms.max_attempts
                {
                    self.seen.insert("retried");
                    delivery.attempts += 1;
                    delivery.stage = Stage::Waiting;
                    delivery.not_before = now + wait;
                }
            }
            EgressResponse::Busy | EgressResponse::Refused => {}
        }
        self.machine.response(now, id, response);
    }

    /// A record says that the message was done in an earlier delivery.
    fn a_duplicate_is_found(&mut self) {
        let waiting = self.ids(|stage| stage == Stage::Waiting);
        if waiting.is_empty() {
            return;
        }
        let id = waiting[self.random.index(waiting.len())];
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        delivery.stage = Stage::Answered(EgressResponse::Done);
        self.entries[delivery.entry].has_succeeded = true;
        self.machine.response(self.now, id, EgressResponse::Done);
    }

    fn a_burial_ends(&mut self) {
        let burying = self.ids(|stage| matches!(stage, Stage::Burying(_)));
        if burying.is_empty() {
            return;
        }
        let id = burying[self.random.index(burying.len())];
        let is_there = self.is_calm || self.random.one_in(2);
        self.machine.dead_lettered(self.now, id, is_there);
        if is_there {
            let Some(delivery) = self.deliveries.remove(&id) else { return };
            let Stage::Burying(reason) = delivery.stage else { return };
            self.keys.leaves(id);
            self.finish(delivery.entry, Some(reason));
        }
    }

    /// The process dies: the machine is a new one, and the broker delivers again what was in hand.
    fn crash(&mut self) {
        self.seen.insert("a crash");
        for (id, delivery) in core::mem::take(&mut self.deliveries) {
            let entry = &mut self.entries[delivery.entry];
            entry.has_lapsed = true;
            if self.terms.visibility == 0 && entry.delivery == id {
                entry.visible_at = self.now;
            }
        }
        let Keys { held_until, is_store_down, spent, .. } = core::mem::take(&mut self.keys);
        self.keys = Keys { held_until, is_store_down, spent, ..Keys::default() };
        self.hold_to_tell = None;
        self.machine = new_machine(self.terms);
        self.machine.held(self.now, held_until);
        self.machine.store(self.now, !is_store_down);
        self.times.clear();
    }

    // --- what the machine does ----------------------------------------------------------------

    fn drain(&mut self) {
        for count in 0.. {
            assert!(count < 1_000, "the machine comes to rest");
            let Some(action) = self.machine.poll(self.now) else { break };
            self.act(action);
        }
        assert_eq!(self.hold_to_tell.filter(|until| *until > self.now), None, "a hold is told");
        let p50 = self.p50();
        for delivery in self.deliveries.values() {
            let entry = &self.entries[delivery.entry];
            let cap = delivery.received_at + self.terms.max_visibility;
            let is_held = self.terms.visibility == 0
                || delivery.visible_at >= cap
                || delivery.visible_at > self.now + self.terms.visibility / 2
                || matches!(delivery.stage, Stage::Running | Stage::Burying(_))
                    && self.now >= delivery.visible_at;
            assert!(is_held, "visibility_is_extended");
            if delivery.stage == Stage::Waiting {
                assert!(self.now.saturating_add(p50) <= entry.deadline, "stale_is_not_kept");
                assert!(self.now < delivery.visible_at, "what_others_have_is_not_kept");
                let hold = self.keys.held_until.saturating_sub(self.now);
                assert!(hold <= self.terms.keep, "a_long_hold_returns_messages");
            }
        }
    }

    fn act(&mut self, action: EgressAction) {
        let now = self.now;
        match action {
            EgressAction::AcquirePermits(count) => {
                self.keys.asks_for_permits(now, count, self.terms.concurrency);
            }
            EgressAction::ReleasePermits(count) => self.keys.releases_permits(count),
            EgressAction::Receive(count) => {
                assert!(count > 0 && count <= self.terms.batch);
                assert!(!self.is_stopping, "a stop receives nothing");
                let waiting = self.ids(|stage| stage == Stage::Waiting).len() as u32;
                assert!(waiting + count <= self.terms.ahead, "no_more_ahead_than_allowed");
                self.keys.receives(now, count);
            }
            EgressAction::Acquire(id) => {
                self.keys.asks_for_token(now, id);
                assert_eq!(self.deliveries[&id].stage, Stage::Waiting);
            }
            EgressAction::GiveBack(id) => self.keys.gives_token_back(id),
            EgressAction::Dispatch(id) => self.dispatch(id),
            EgressAction::Ack(id) => {
                let delivery = self.leaves(id);
                let entry = &self.entries[delivery.entry];
                assert_eq!(delivery.stage, Stage::Answered(EgressResponse::Done));
                assert!(entry.has_succeeded, "ack_only_after_success");
                self.finish(delivery.entry, None);
            }
            EgressAction::Return { id, delay, counted } => self.returns(id, delay, counted),
            EgressAction::DeadLetter { id, reason } => self.buries(id, reason),
            EgressAction::Drop(id) => {
                let delivery = self.leaves(id);
                assert!(now >= delivery.visible_at, "drop_only_what_others_have");
                self.seen.insert("dropped");
            }
            EgressAction::Extend { id, by } => {
                let delivery = self.deliveries.get_mut(&id).unwrap();
                assert!(now < delivery.visible_at, "no_extension_of_what_others_have");
                delivery.visible_at = now + by;
                let cap = delivery.received_at + self.terms.max_visibility;
                assert!(delivery.visible_at <= cap, "no_extension_above_the_cap");
                let entry = &mut self.entries[delivery.entry];
                if entry.delivery == id {
                    entry.visible_at = delivery.visible_at;
                }
                self.seen.insert("extended");
            }
            EgressAction::Hold(wait) => {
                assert_eq!(self.hold_to_tell.take(), Some(now + wait), "a hold is told");
            }
            EgressAction::Commit { .. }
            | EgressAction::Seek { .. }
            | EgressAction::Pause(_)
            | EgressAction::Resume(_) => panic!("a queue has no partitions"),
        }
    }

    fn dispatch(&mut self, id: u64) {
        self.keys.dispatches(self.now, id);
        assert!(!self.is_stopping, "a stop dispatches nothing");
        let (now, p50, max_attempts) = (self.now, self.p50(), self.terms.max_attempts);
        let delivery = self.deliveries.get_mut(&id).unwrap();
        let index = delivery.entry;
        assert_eq!(delivery.stage, Stage::Waiting, "one_call_at_a_time");
        assert!(now < delivery.visible_at, "no_dispatch_of_what_others_have");
        assert!(delivery.attempts <= max_attempts, "no_dispatch_above_the_attempts");
        delivery.stage = Stage::Running;
        delivery.dispatched_at = now;
        let entry = &self.entries[index];
        assert!(now.saturating_add(p50) <= entry.deadline, "no_stale_dispatch");
        assert!(entry.end.is_none() || entry.has_lapsed, "no_call_after_the_end");
        if self.terms.order == EgressOrder::Key && entry.key != 0 && !entry.has_lapsed {
            let before = self.entries[..index].iter().filter(|before| before.key == entry.key);
            assert!(before.clone().all(|before| before.end.is_some()), "order_of_keys");
            self.seen.insert("in order");
        }
        self.seen.insert("dispatched");
    }

    fn returns(&mut self, id: u64, delay: u64, counted: bool) {
        let delivery = self.leaves(id);
        let terms = self.terms;
        match delivery.stage {
            Stage::Answered(EgressResponse::Held { hold }) => {
                let hold = if hold == 0 { terms.blind_hold } else { hold };
                let is_right = (hold..=hold + terms.jitter).contains(&delay);
                assert!(is_right && !counted, "a_held_message_returns_after_the_hold");
                self.seen.insert("returned: held");
            }
            Stage::Answered(EgressResponse::Failed { .. }) => {
                let bound = (terms.back_off << (delivery.attempts - 1)).min(terms.max_back_off);
                let is_right = (bound / 2..=bound).contains(&delay);
                assert!(is_right && counted, "a_failed_message_backs_off");
                self.seen.insert("returned: failed");
            }
            Stage::Answered(EgressResponse::Busy) | Stage::Burying(_) => {
                assert!(delay <= terms.max_back_off && !counted);
                self.seen.insert("returned: busy");
            }
            Stage::Waiting => {
                assert!(!counted, "what_was_not_called_is_not_counted");
                self.seen.insert("returned: unsent");
            }
            Stage::Running | Stage::Answered(_) => panic!("return_only_what_may_come_again"),
        }
        self.comes_again(delivery.entry, id, delay, counted);
    }

    fn comes_again(&mut self, index: usize, id: u64, delay: u64, counted: bool) {
        let can_uncount = self.can_uncount;
        let entry = &mut self.entries[index];
        if entry.delivery == id {
            entry.visible_at = self.now + delay;
            entry.delivery = 0;
            if !counted && can_uncount {
                entry.deliveries -= 1;
            } else if !counted {
                entry.failures += 1;
            }
        } else {
            entry.failures += u32::from(!counted);
        }
    }

    fn buries(&mut self, id: u64, reason: DeadReason) {
        assert!(!self.keys.tokens.contains_key(&id), "stale_costs_nothing");
        let p50 = self.p50();
        let delivery = self.deliveries.get_mut(&id).unwrap();
        let entry = &self.entries[delivery.entry];
        match reason {
            DeadReason::Stale => {
                assert_eq!(delivery.stage, Stage::Waiting, "only_what_waits_is_stale");
                let ready = self.now.max(self.keys.held_until).max(delivery.not_before);
                let leaves = ready + self.terms.interval * u64::from(self.terms.ahead);
                assert!(leaves + p50 > entry.deadline, "dead_letters_have_their_reason: stale");
                self.seen.insert("stale");
            }
            DeadReason::Permanent => {
                assert_eq!(delivery.stage, Stage::Answered(EgressResponse::Refused));
                self.seen.insert("permanent");
            }
            DeadReason::Exhausted => {
                assert!(entry.failures >= self.terms.max_attempts, "exhausted_only_by_failures");
                self.seen.insert("exhausted");
            }
        }
        delivery.stage = Stage::Burying(reason);
    }

    fn finish(&mut self, index: usize, end: Option<DeadReason>) {
        let entry = &mut self.entries[index];
        assert!(entry.end.is_none() || entry.has_lapsed, "one_terminal_outcome");
        entry.end.get_or_insert(end);
    }

    fn leaves(&mut self, id: u64) -> Delivery {
        self.keys.leaves(id);
        self.deliveries.remove(&id).unwrap()
    }

    fn ids(&self, is_wanted: impl Fn(Stage) -> bool) -> Vec<u64> {
        let wanted = self.deliveries.iter().filter(|(_, delivery)| is_wanted(delivery.stage));
        wanted.map(|(id, _)| *id).collect()
    }

    /// The machine's estimate of the median, which lies within the times of the calls.
    fn p50(&self) -> u64 {
        let p50 = self.machine.gauges().p50;
        let (least, most) = (self.times.iter().min(), self.times.iter().max());
        let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
        assert!((least.saturating_sub(least / 16 + 1)..=most + most / 16 + 1).contains(&p50));
        p50
    }
}

fn new_machine(terms: EgressTerms) -> Machine {
    let slots = vec![HeldMessage::FREE; terms.concurrency as usize];
    Egress::new(terms, slots, Vec::new())
}
