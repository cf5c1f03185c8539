//! A log of records in partitions, as Kafka has it: a consumer reads each partition in order, from
//! where it was committed, and partitions come and go.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::{
    Admission, DeadReason, Egress, EgressAction, EgressMessage, EgressOrder, EgressPartition,
    EgressResponse, EgressTerms, HeldMessage,
};

use super::gate::{Keys, Machine};
use super::random::Random;
use super::random_terms;

const PARTITIONS: u32 = 2;
const RECORDS: usize = 8;
const STEPS: u64 = 60;
const STEPS_TO_END: u32 = 5_000;

struct Record {
    offset: u64,
    key: u64,
    deadline: u64,
    is_permanent: bool,
    failures: u32,
    is_finished: bool,
    /// The generation in which it was last called with success, or dead-lettered.
    finished_in: u64,
}

struct Partition {
    records: Vec<Record>,
    generation: Option<u64>,
    position: u64,
    is_paused: bool,
    committed: u64,
    resume_at: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    Waiting,
    Running,
    Answered(EgressResponse),
    Burying(DeadReason),
    /// The call succeeded, and the machine keeps it until the commit has passed it.
    Done,
}

struct Delivery {
    partition: u32,
    index: usize,
    generation: u64,
    stage: Stage,
    /// The time of a seek that gives it back is not known yet.
    is_given_back: bool,
}

pub(crate) struct Log {
    terms: EgressTerms,
    machine: Machine,
    random: Random,
    now: u64,
    keys: Keys,
    partitions: Vec<Partition>,
    deliveries: BTreeMap<u64, Delivery>,
    next_id: u64,
    generation: u64,
    is_calm: bool,
    pub(crate) seen: BTreeSet<&'static str>,
}

impl Log {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let terms = random_terms(&mut random, EgressOrder::Partition);
        let partitions = (0..PARTITIONS)
            .map(|_| {
                let mut offset = random.up_to(3);
                let records = (0..RECORDS)
                    .map(|_| {
                        // Compaction leaves gaps.
                        offset += 1 + if random.one_in(4) { random.up_to(3) } else { 0 };
                        Record {
                            offset,
                            key: random.up_to(2),
                            deadline: if random.one_in(5) { random.up_to(900) } else { u64::MAX },
                            is_permanent: random.one_in(12),
                            failures: 0,
                            is_finished: false,
                            finished_in: 0,
                        }
                    })
                    .collect();
                Partition {
                    records,
                    generation: None,
                    position: 0,
                    is_paused: false,
                    committed: 0,
                    resume_at: 0,
                }
            })
            .collect();
        let slots = random.up_to(2) as usize;
        Self {
            terms,
            machine: new_machine(terms, slots),
            random,
            now: 0,
            keys: Keys::default(),
            partitions,
            deliveries: BTreeMap::new(),
            next_id: 1,
            generation: 0,
            is_calm: false,
            seen: BTreeSet::new(),
        }
    }

    pub(crate) fn run(&mut self) {
        self.drain();
        self.assign(0);
        for _ in 0..STEPS {
            self.pass_time();
            match self.random.up_to(10) {
                0..=3 => self.poll_the_client(),
                4..=5 => self.a_call_ends(),
                6 => self.a_burial_ends(),
                7 if self.random.one_in(3) => {
                    let partition = self.random.up_to(u64::from(PARTITIONS) - 1) as u32;
                    self.rebalance(partition);
                }
                8 if self.random.one_in(15) => self.crash(),
                _ => {
                    let (now, machine) = (self.now, &mut self.machine);
                    self.keys.something_happens(now, machine, &mut self.random);
                }
            }
            self.drain();
        }
        self.is_calm = true;
        self.keys.all_is_well(self.now, &mut self.machine);
        for partition in 0..PARTITIONS {
            if self.partitions[partition as usize].generation.is_none() {
                self.assign(partition);
            }
        }
        for step in 0.. {
            self.drain();
            if self.partitions.iter().all(Partition::is_committed) {
                break;
            }
            assert!(step < STEPS_TO_END, "every_record_is_committed");
            self.everything_ends();
            self.pass_time();
        }
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
    }

    // --- what happens -------------------------------------------------------------------------

    fn pass_time(&mut self) {
        let wake = self.machine.wake_at().unwrap_or(u64::MAX);
        assert!(wake > self.now, "wake_at is later than now");
        let step = 1 + self.random.up_to(if self.is_calm { 60 } else { 20 });
        self.now = (self.now + step).min(wake);
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
        self.poll_the_client();
    }

    fn assign(&mut self, partition: u32) {
        self.generation += 1;
        let it = &mut self.partitions[partition as usize];
        it.generation = Some(self.generation);
        it.position = it.committed;
        it.is_paused = false;
        it.resume_at = 0;
        assert!(self.machine.assign(self.now, partition, self.generation, it.committed));
        self.drain();
    }

    fn rebalance(&mut self, partition: u32) {
        self.seen.insert("a rebalance");
        if self.partitions[partition as usize].generation.is_some() {
            // A lost partition is assigned again without being revoked.
            if self.random.one_in(4) {
                self.assign(partition);
                return;
            }
            self.machine.revoke(self.now, partition);
            self.drain();
            self.partitions[partition as usize].generation = None;
        } else {
            self.assign(partition);
        }
    }

    fn crash(&mut self) {
        self.seen.insert("a crash");
        self.deliveries.clear();
        let (held_until, is_store_down) = (self.keys.held_until, self.keys.is_store_down);
        self.keys = Keys { held_until, is_store_down, ..Keys::default() };
        let slots = self.random.up_to(2) as usize;
        self.machine = new_machine(self.terms, slots);
        self.machine.held(self.now, held_until);
        self.machine.store(self.now, !is_store_down);
        for partition in 0..PARTITIONS {
            if self.partitions[partition as usize].generation.take().is_some() {
                self.assign(partition);
            }
        }
    }

    /// The client delivers some records, with those that it had fetched when it was told to seek.
    fn poll_the_client(&mut self) {
        if let Some(most) = self.keys.receiving.take() {
            self.machine.received(self.now, most);
        }
        for partition in 0..PARTITIONS {
            let count = self.random.up_to(3);
            for _ in 0..count {
                let it = &self.partitions[partition as usize];
                let Some(generation) = it.generation.filter(|_| !it.is_paused) else { break };
                let next = it.records.iter().position(|record| record.offset >= it.position);
                let Some(index) = next else { break };
                // A zombie's record, of an assignment that is over.
                let is_old = self.random.one_in(30);
                if is_old {
                    let taken = self.offer(partition, index, generation - 1);
                    assert_eq!(taken, Admission::Fenced, "fenced_generations_do_nothing");
                    continue;
                }
                let offset = self.partitions[partition as usize].records[index].offset;
                self.partitions[partition as usize].position = offset + 1;
                self.offer(partition, index, generation);
            }
        }
    }

    fn offer(&mut self, partition: u32, index: usize, generation: u64) -> Admission {
        let id = self.next_id;
        self.next_id += 1;
        let record = &mut self.partitions[partition as usize].records[index];
        let message = EgressMessage {
            id,
            received_at: self.now,
            sent_at: 0,
            deadline: record.deadline,
            attempts: 1,
            key: record.key,
            random: self.random.word(),
            partition,
            offset: record.offset,
            generation,
        };
        let taken = self.machine.message(self.now, message);
        match taken {
            Admission::Held => {
                let now_in_hand = self.deliveries.values().any(|other| {
                    (other.partition, other.index, other.generation)
                        == (partition, index, generation)
                        && !other.is_given_back
                });
                assert!(!now_in_hand, "a record is in hand once");
                assert!(record.finished_in != generation, "finished_is_not_sent_again");
                assert!(self.keys.in_hand.insert(id));
                assert!(
                    self.keys.in_hand.len() as u32 <= self.keys.permits,
                    "outstanding_within_permits"
                );
                self.deliveries.insert(
                    id,
                    Delivery {
                        partition,
                        index,
                        generation,
                        stage: Stage::Waiting,
                        is_given_back: false,
                    },
                );
            }
            Admission::Duplicate => {
                self.seen.insert("a duplicate");
            }
            Admission::NotTaken => {
                self.seen.insert("not taken");
            }
            Admission::Fenced => {}
        }
        taken
    }

    fn a_call_ends(&mut self) {
        let running = self.ids(|stage| stage == Stage::Running);
        if running.is_empty() {
            return;
        }
        let id = running[self.random.index(running.len())];
        let delivery = self.deliveries.get_mut(&id).unwrap();
        let is_current =
            self.partitions[delivery.partition as usize].generation == Some(delivery.generation);
        let record = &mut self.partitions[delivery.partition as usize].records[delivery.index];
        let response = match self.random.up_to(9) {
            _ if record.is_permanent => EgressResponse::Refused,
            _ if self.is_calm => EgressResponse::Done,
            0..=4 => EgressResponse::Done,
            5 => EgressResponse::Held { hold: [0, 5, 80, 300][self.random.index(4)] },
            6 => EgressResponse::Busy,
            _ => EgressResponse::Failed { retry: None },
        };
        delivery.stage = Stage::Answered(response);
        match response {
            EgressResponse::Done => {
                record.is_finished = true;
                if is_current {
                    record.finished_in = delivery.generation;
                    delivery.stage = Stage::Done;
                    self.keys.leaves(id);
                }
            }
            EgressResponse::Held { hold } => {
                let hold = if hold == 0 { self.terms.blind_hold } else { hold };
                self.keys.held_until = self.keys.held_until.max(self.now + hold);
                if hold <= self.terms.keep && is_current {
                    delivery.stage = Stage::Waiting;
                } else if is_current {
                    let it = &mut self.partitions[delivery.partition as usize];
                    it.resume_at = it.resume_at.max(self.now + hold);
                }
            }
            EgressResponse::Failed { .. } => record.failures += 1,
            EgressResponse::Busy | EgressResponse::Refused => {}
        }
        self.machine.response(self.now, id, response);
        if let Some(delivery) = self.deliveries.get(&id)
            && delivery.stage == Stage::Done
        {
            self.deliveries.remove(&id);
        }
    }

    fn a_burial_ends(&mut self) {
        let burying = self.ids(|stage| matches!(stage, Stage::Burying(_)));
        if burying.is_empty() {
            return;
        }
        let id = burying[self.random.index(burying.len())];
        let is_there = self.is_calm || self.random.one_in(2);
        let Delivery { partition, index, generation, .. } = self.deliveries[&id];
        let it = &mut self.partitions[partition as usize];
        let is_current = it.generation == Some(generation);
        if is_there {
            it.records[index].is_finished = true;
            if is_current {
                it.records[index].finished_in = generation;
                self.keys.leaves(id);
                self.deliveries.remove(&id);
            }
        }
        self.machine.dead_lettered(self.now, id, is_there);
    }

    // --- what the machine does ----------------------------------------------------------------

    fn drain(&mut self) {
        for count in 0.. {
            assert!(count < 1_000, "the machine comes to rest");
            let Some(action) = self.machine.poll(self.now) else { break };
            self.act(action);
        }
        if self.keys.is_blocked(self.now) {
            let assigned = self.partitions.iter().filter(|it| it.generation.is_some());
            assert!(
                assigned.clone().all(|it| it.is_paused),
                "a_hold_pauses_also_what_is_assigned_later"
            );
        }
    }

    fn act(&mut self, action: EgressAction) {
        let now = self.now;
        match action {
            EgressAction::AcquirePermits(count) => {
                self.keys.asks_for_permits(now, count, self.terms.concurrency);
            }
            EgressAction::ReleasePermits(count) => self.keys.releases_permits(count),
            EgressAction::Receive(count) => self.keys.receives(now, count),
            EgressAction::Acquire(id) => self.keys.asks_for_token(now, id),
            EgressAction::GiveBack(id) => self.keys.gives_token_back(id),
            EgressAction::Dispatch(id) => self.dispatch(id),
            EgressAction::DeadLetter { id, reason } => {
                assert!(!self.keys.tokens.contains_key(&id), "stale_costs_nothing");
                let delivery = self.deliveries.get_mut(&id).unwrap();
                if reason == DeadReason::Permanent {
                    assert_eq!(delivery.stage, Stage::Answered(EgressResponse::Refused));
                }
                if reason == DeadReason::Exhausted {
                    let it = &self.partitions[delivery.partition as usize];
                    let failures = it.records[delivery.index].failures;
                    assert!(failures >= self.terms.max_attempts, "exhausted_only_by_failures");
                }
                delivery.stage = Stage::Burying(reason);
                self.seen.insert(reason.as_str());
            }
            EgressAction::Drop(id) => {
                self.keys.leaves(id);
                self.deliveries.remove(&id);
                self.seen.insert("dropped");
            }
            EgressAction::Hold(wait) => assert!(now + wait <= self.keys.held_until),
            EgressAction::Commit { partition, offset } => {
                let it = &mut self.partitions[partition as usize];
                assert!(it.generation.is_some(), "fenced_generations_do_nothing");
                assert!(offset > it.committed, "commits_go_forward");
                let mut before = it.records.iter().filter(|record| record.offset < offset);
                assert!(before.all(|record| record.is_finished), "commit_is_a_contiguous_prefix");
                it.committed = offset;
                self.seen.insert("committed");
            }
            EgressAction::Seek { partition, offset } => {
                let it = &mut self.partitions[partition as usize];
                assert!(it.generation.is_some() && offset >= it.committed, "seek_within_the_open");
                it.position = offset;
                self.seen.insert("a seek");
            }
            EgressAction::Pause(partition) => {
                let it = &mut self.partitions[partition as usize];
                assert!(it.generation.is_some() && !it.is_paused);
                it.is_paused = true;
            }
            EgressAction::Resume(partition) => {
                let blocked = self.keys.is_blocked(now);
                let it = &mut self.partitions[partition as usize];
                assert!(it.generation.is_some() && it.is_paused && !blocked);
                assert!(now >= it.resume_at, "a_held_record_returns_after_the_hold");
                it.is_paused = false;
                self.seen.insert("resumed");
            }
            EgressAction::Ack(_) | EgressAction::Return { .. } | EgressAction::Extend { .. } => {
                panic!("records are committed")
            }
        }
    }

    fn dispatch(&mut self, id: u64) {
        self.keys.dispatches(self.now, id);
        let delivery = self.deliveries.get_mut(&id).unwrap();
        assert_eq!(delivery.stage, Stage::Waiting, "one_call_at_a_time");
        delivery.stage = Stage::Running;
        let it = &self.partitions[delivery.partition as usize];
        assert_eq!(it.generation, Some(delivery.generation), "fenced_generations_do_nothing");
        let record = &it.records[delivery.index];
        assert!(self.now <= record.deadline, "no_stale_dispatch");
        assert!(record.finished_in != delivery.generation, "finished_is_not_sent_again");
        let mut before = it.records[..delivery.index].iter().filter(|each| each.key == record.key);
        assert!(record.key == 0 || before.all(|each| each.is_finished), "order_of_keys");
    }

    fn ids(&self, is_wanted: impl Fn(Stage) -> bool) -> Vec<u64> {
        let wanted = self.deliveries.iter().filter(|(_, delivery)| is_wanted(delivery.stage));
        wanted.map(|(id, _)| *id).collect()
    }
}

impl Partition {
    fn is_committed(&self) -> bool {
        self.records.iter().all(|record| record.is_finished && record.offset < self.committed)
    }
}

/// `more` slots are for records that are finished before an earlier one.
fn new_machine(terms: EgressTerms, more: usize) -> Machine {
    let slots = vec![HeldMessage::FREE; terms.concurrency as usize + more];
    Egress::new(terms, slots, vec![EgressPartition::FREE; PARTITIONS as usize])
}
