//! Each model is small enough to be run in every order. Positions are small
//! integers: a bucket of burst `B` and width 1 at position `p` admits while
//! `max(cell, p) + 1 - p <= B`.

use loom::sync::Arc;
use loom::thread;

use crate::sync::Ordering;
use crate::{Limit, ManualClock, OnFull, Segments, Slot, Table, TableFull, check_tables};

/// Preemptions in models of two threads, and of three or two tiers; `LOOM_MAX_PREEMPTIONS`
/// overrides both.
const OF_TWO: usize = 4;
const OF_MORE: usize = 2;
const KEY: u64 = 0xA11CE;
const OTHER: u64 = 0xB0B;

struct Slots(Box<[Slot]>);

impl Slots {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self((0..count).map(|_| Slot::default()).collect()))
    }

    fn table(&self) -> Table<'_> {
        Table::new(&self.0[..]).on_full(OnFull::Deny)
    }

    /// One token of a bucket of `burst` at `position`.
    fn spend(&self, key: u64, position: u64, burst: u64) -> Result<bool, TableFull> {
        spend(&self.table(), key, position, burst)
    }

    /// How many slots hold a live or leaving bucket of the key.
    fn buckets_of(&self, key: u64) -> usize {
        let of_key = |slot: &&Slot| {
            let word = slot[0].load(Ordering::Acquire);
            (word ^ key) << 16 == 0 && word >> 62 >= 2
        };
        self.0.iter().filter(of_key).count()
    }
}

fn spend<S: Segments + ?Sized>(
    table: &Table<'_, S>,
    key: u64,
    position: u64,
    burst: u64,
) -> Result<bool, TableFull> {
    table.update(key, position, |cell| {
        let next = cell.max(position) + 1;
        let allowed = next - position <= burst;
        (allowed, allowed.then_some(next))
    })
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(preemptions);
    }
    builder.check(body);
}

/// A second thread and this one; both answers.
fn both<A, B>(one: impl FnOnce() -> A + 'static, other: impl FnOnce() -> B) -> (A, B)
where
    A: 'static,
{
    let one = thread::spawn(one);
    let other = other();
    (one.join().unwrap(), other)
}

#[test]
fn one_bucket_however_many_insert_it() {
    model(OF_TWO, || {
        let slots = Slots::new(2);
        let theirs = Arc::clone(&slots);
        let (one, other) = both(move || theirs.spend(KEY, 10, 1), || slots.spend(KEY, 10, 1));
        assert_eq!(slots.buckets_of(KEY), 1);
        assert_ne!(one, other, "a burst of one admits one of two");
    });
}

/// The inserters begin at different slots, because one slot becomes vacant meanwhile.
#[test]
fn one_bucket_when_slots_come_free_meanwhile() {
    model(OF_TWO, || {
        let slots = Slots::new(2);
        slots.spend(OTHER, 1, 1).unwrap();
        // OTHER's bucket, cell 2, is full for the second call only.
        let theirs = Arc::clone(&slots);
        let (one, other) = both(move || theirs.spend(KEY, 2, 1), || slots.spend(KEY, 3, 1));
        assert!(slots.buckets_of(KEY) <= 1);
        // At 3 the charge of position 2 is paid: both may be admitted, one must be.
        assert!(one == Ok(true) || other == Ok(true));
    });
}

/// One slot, full by time: its key is charged while another key takes it.
#[test]
fn a_charge_lands_or_starts_over_when_its_slot_is_taken() {
    model(OF_TWO, || {
        let slots = Slots::new(1);
        assert_eq!(slots.spend(KEY, 1, 2), Ok(true));
        let theirs = Arc::clone(&slots);
        let (other, mine) = both(move || theirs.spend(OTHER, 10, 1), || slots.spend(KEY, 10, 2));
        let cell = |key| slots.table().cell(key);
        match (mine, other) {
            (Ok(true), Err(TableFull)) => assert_eq!((cell(KEY), cell(OTHER)), (11, 0)),
            (Err(TableFull), Ok(true)) => assert_eq!((cell(KEY), cell(OTHER)), (0, 11)),
            unexpected => panic!("{unexpected:?}"),
        }
    });
}

/// Two charge the same key while a third takes its slot: none is lost.
#[test]
fn no_charge_is_lost_to_an_eviction() {
    model(OF_MORE, || {
        let slots = Slots::new(2);
        assert_eq!(slots.spend(KEY, 1, 1), Ok(true));
        assert_eq!(slots.spend(OTHER + 1, 10, 1), Ok(true));
        let (theirs, evictors) = (Arc::clone(&slots), Arc::clone(&slots));
        let charger = thread::spawn(move || theirs.spend(KEY, 10, 1));
        let evictor = thread::spawn(move || evictors.spend(OTHER, 10, 1));
        let mine = slots.spend(KEY, 10, 1);
        let admitted = [mine, charger.join().unwrap()];
        let evicted = evictor.join().unwrap() == Ok(true);
        let count = admitted.iter().filter(|one| **one == Ok(true)).count();
        assert_eq!(count, usize::from(!evicted), "{admitted:?}, evicted {evicted}");
    });
}

/// The evictor dies at each point; what it leaves behind stops nobody.
#[test]
fn a_leaving_slot_is_put_back() {
    for frozen in [false, true] {
        model(OF_TWO, move || {
            let slots = Slots::new(1);
            assert_eq!(slots.spend(KEY, 1, 1), Ok(true));
            // As an evictor leaves it, before and after the freeze.
            let live = slots.0[0][0].load(Ordering::Acquire);
            slots.0[0][0].store((live | 3 << 62) + (1 << 48), Ordering::Release);
            if frozen {
                slots.0[0][1].store(3, Ordering::Release);
            }
            let theirs = Arc::clone(&slots);
            let (one, other) = both(move || theirs.spend(KEY, 10, 1), || slots.spend(KEY, 10, 1));
            assert_ne!(one, other);
            assert_eq!(slots.buckets_of(KEY), 1);
        });
    }
}

#[test]
fn a_dead_insertion_is_withdrawn() {
    model(OF_TWO, || {
        let slots = Slots::new(1);
        slots.0[0][0].store(1 << 62 | KEY, Ordering::Release);
        let theirs = Arc::clone(&slots);
        let (one, other) = both(move || theirs.spend(KEY, 10, 1), || slots.spend(KEY, 10, 1));
        assert_ne!(one, other);
    });
}

/// Rescue, a second eviction, and the first evictor waking up in between.
#[test]
fn a_late_evictor_takes_nothing() {
    model(OF_MORE, || {
        let slots = Slots::new(1);
        assert_eq!(slots.spend(KEY, 1, 1), Ok(true));
        let (one, two) = (Arc::clone(&slots), Arc::clone(&slots));
        let one = thread::spawn(move || one.spend(OTHER, 10, 1));
        let two = thread::spawn(move || two.spend(OTHER + 1, 10, 1));
        let mine = slots.spend(KEY, 10, 1);
        let admitted = [mine, one.join().unwrap(), two.join().unwrap()];
        let count = admitted.iter().filter(|one| **one == Ok(true)).count();
        assert_eq!(count, 1, "one slot, one bucket that owes: {admitted:?}");
    });
}

/// Two tiers, opposite spare: whoever is refused leaves no trace.
#[test]
fn tiers_charge_all_or_none() {
    model(OF_MORE, || {
        let limits = [Limit::stepped(2, 1_000_000, 2), Limit::stepped(1, 1_000_000, 1)];
        let limits = limits.map(Result::unwrap);
        let slots = [Slots::new(1), Slots::new(1)];
        let check = |slots: &[Arc<Slots>; 2], cost| {
            let tables = [slots[0].table(), slots[1].table()];
            check_tables(&tables, &limits, KEY, &At(5_000_000), cost)
                .map(|decision| decision.allowed)
        };
        let theirs = slots.clone();
        let limits_there = limits;
        let other = thread::spawn(move || {
            let tables = [theirs[0].table(), theirs[1].table()];
            check_tables(&tables, &limits_there, KEY, &At(5_000_000), 1)
                .map(|decision| decision.allowed)
        });
        let mine = check(&slots, 1);
        let other = other.join().unwrap();
        assert_ne!(mine, other, "one token in the second tier");
        let cells = [slots[0].table().cell(KEY), slots[1].table().cell(KEY)];
        assert_eq!(cells, [11, 6], "one token of each tier is charged");
    });
}

struct At(u64);

impl crate::Clock for At {
    fn now(&self) -> u64 {
        self.0
    }
}
