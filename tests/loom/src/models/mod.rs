//! The models of the table, each small enough to be run in every order.
//!
//! Positions are small integers: a bucket of burst `B` and width 1 at position `p` admits while
//! `max(cell, p) + 1 - p <= B`.

mod answers;
mod eviction;
mod lowering;
mod tiers;

use loom::sync::Arc;
use loom::thread;

use crate::sync::{AtomicU64, Loads, Ordering, model_loads};
use crate::{OnFull, Segments, Slot, Table, TableFull};

/// The bounds of preemptions: in models of two threads, in models of more threads or tiers, and
/// where loads may see old values. A higher `LOOM_MAX_PREEMPTIONS` overrides them.
const PREEMPTIONS_OF_TWO: usize = 3;
const PREEMPTIONS_OF_MORE: usize = 3;
const PREEMPTIONS_WITH_OLD_VALUES: usize = 1;
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

    /// Spends one token of a bucket of `burst` at `position`.
    fn spend(&self, key: u64, position: u64, burst: u64) -> Result<bool, TableFull> {
        spend(&self.table(), key, position, burst)
    }

    fn buckets_of(&self, key: u64) -> usize {
        buckets_in(&self.0, key)
    }
}

/// The number of slots that hold a live or leaving bucket of the key.
fn buckets_in(slots: &[Slot], key: u64) -> usize {
    let has_key = |slot: &&Slot| {
        let word = slot[0].load(Ordering::Acquire);
        (word ^ key) << 16 == 0 && word >> 62 >= 2
    };
    slots.iter().filter(has_key).count()
}

fn spend<S: Segments + ?Sized>(
    table: &Table<'_, S>,
    key: u64,
    position: u64,
    burst: u64,
) -> Result<bool, TableFull> {
    let step = |cell: u64| {
        let next = cell.max(position) + 1;
        (next - position <= burst).then_some(next)
    };
    table.update(key, position, step).map(|cell| step(cell).is_some())
}

/// A clock that stands still.
struct At(u64);

impl crate::Clock for At {
    fn now(&self) -> u64 {
        self.0
    }
}

/// Runs the body in every order up to a bound of preemptions.
fn in_every_order(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    run(Loads::Newest, preemptions, body);
}

/// Runs the body in every order, and again with loads that see old values where their ordering
/// allows it.
fn with_old_values_too(body: impl Fn() + Sync + Send + 'static) {
    let body = std::sync::Arc::new(body);
    let again = std::sync::Arc::clone(&body);
    run(Loads::Newest, PREEMPTIONS_OF_TWO, move || body());
    run(Loads::Allowed, PREEMPTIONS_WITH_OLD_VALUES, move || again());
}

fn run(loads: Loads, preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    model_loads(loads);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.max(Some(preemptions));
    builder.check(body);
}

/// The outcomes of a model over all its runs.
#[derive(Clone, Default)]
struct Outcomes(std::sync::Arc<std::sync::Mutex<std::collections::BTreeSet<&'static str>>>);

impl Outcomes {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().insert(what);
    }

    fn assert_all(&self, expected: &[&'static str]) {
        let outcomes: Vec<_> = self.0.lock().unwrap().iter().copied().collect();
        assert_eq!(outcomes, expected, "the outcomes over all orders of the steps");
    }
}

/// Runs `one` in a second thread and `other` in this one, and answers both results.
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
    with_old_values_too(|| {
        let slots = Slots::new(2);
        let theirs = Arc::clone(&slots);
        let (one, other) = both(move || theirs.spend(KEY, 10, 1), || slots.spend(KEY, 10, 1));
        assert_eq!(slots.buckets_of(KEY), 1);
        assert_ne!(one, other, "a burst of one admits one of two");
    });
}

/// The two insertions begin at different slots, because one slot becomes free meanwhile.
#[test]
fn one_bucket_when_slots_come_free_meanwhile() {
    with_old_values_too(|| {
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

/// One insertion finds a full bucket to reclaim; the other, at an earlier time, adds a segment.
/// They take different slots, and only the fence makes one see the other.
#[test]
fn one_bucket_when_the_table_grows_meanwhile() {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    with_old_values_too(move || {
        let slots = Arc::new(Growing::default());
        let table = |slots: &Growing, key, position| {
            spend(&Table::new(slots).on_full(OnFull::Deny), key, position, 10)
        };
        assert_eq!(table(&slots, OTHER, 4), Ok(true));
        let theirs = Arc::clone(&slots);
        let answers = both(move || table(&theirs, KEY, 10), || table(&slots, KEY, 4));
        assert_eq!(answers, (Ok(true), Ok(true)));
        let places = [&slots.first, &slots.second].map(|segment| buckets_in(segment, KEY));
        assert!(places == [1, 0] || places == [0, 1], "one bucket: {places:?}");
        note.note(if places == [1, 0] { "in the first" } else { "in the second" });
    });
    outcomes.assert_all(&["in the first", "in the second"]);
}

/// A segment of one slot, and another one on demand.
#[derive(Default)]
struct Growing {
    first: [Slot; 1],
    second: [Slot; 1],
    grown: AtomicU64,
}

impl Segments for Growing {
    fn count(&self) -> usize {
        if self.grown.load(Ordering::Acquire) == 0 { 1 } else { 2 }
    }

    fn segment(&self, index: usize) -> &[Slot] {
        if index == 0 { &self.first } else { &self.second }
    }

    fn grow(&self, count: usize) -> bool {
        count == 1 && self.grown.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn can_grow(&self, count: usize) -> bool {
        count == 1
    }
}

/// The bucket in the only slot has become full: its key is charged while another key takes the
/// slot.
#[test]
fn a_charge_counts_or_starts_over_when_its_slot_is_taken() {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    with_old_values_too(move || {
        let slots = Slots::new(1);
        assert_eq!(slots.spend(KEY, 1, 2), Ok(true));
        let theirs = Arc::clone(&slots);
        let (other, mine) = both(move || theirs.spend(OTHER, 10, 1), || slots.spend(KEY, 10, 2));
        let cell = |key| slots.table().cell(key);
        match (mine, other) {
            (Ok(true), Err(TableFull { .. })) => {
                assert_eq!((cell(KEY), cell(OTHER)), (11, 0));
                note.note("the charge counted");
            }
            (Err(TableFull { .. }), Ok(true)) => {
                assert_eq!((cell(KEY), cell(OTHER)), (0, 11));
                note.note("the slot was taken");
            }
            unexpected => panic!("{unexpected:?}"),
        }
    });
    outcomes.assert_all(&["the charge counted", "the slot was taken"]);
}

/// Two threads charge the same key while a third takes its slot: no charge is lost.
#[test]
fn no_charge_is_lost_to_an_eviction() {
    in_every_order(PREEMPTIONS_OF_MORE, || {
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
        assert_eq!(slots.table().cell(KEY), if evicted { 0 } else { 11 });
        assert_eq!(slots.table().cell(OTHER), if evicted { 11 } else { 0 });
        assert_eq!(count, usize::from(!evicted), "{admitted:?}, evicted {evicted}");
    });
}

/// A thread that takes the slot dies at each point; what it leaves behind stops no other thread.
#[test]
fn a_leaving_slot_is_put_back() {
    for frozen in [false, true] {
        with_old_values_too(move || {
            let slots = Slots::new(1);
            assert_eq!(slots.spend(KEY, 1, 1), Ok(true));
            // The state before and after the freeze.
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

/// A bucket that exists is seen, whatever happens to its slot meanwhile.
#[test]
fn a_read_sees_a_bucket_that_is_put_back() {
    in_every_order(PREEMPTIONS_OF_TWO, || {
        let slots = Slots::new(1);
        assert_eq!(slots.spend(KEY, 1, 1), Ok(true));
        let live = slots.0[0][0].load(Ordering::Acquire);
        slots.0[0][0].store((live | 3 << 62) + (1 << 48), Ordering::Release);
        let theirs = Arc::clone(&slots);
        let (spent, cell) = both(move || theirs.spend(KEY, 10, 1), || slots.table().cell(KEY));
        assert_eq!(spent, Ok(true));
        assert!(matches!(cell, 2 | 11), "{cell}");
    });
}

#[test]
fn a_dead_insertion_is_withdrawn() {
    with_old_values_too(|| {
        let slots = Slots::new(1);
        slots.0[0][0].store(1 << 62 | KEY, Ordering::Release);
        let theirs = Arc::clone(&slots);
        let (one, other) = both(move || theirs.spend(KEY, 10, 1), || slots.spend(KEY, 10, 1));
        assert_ne!(one, other);
    });
}

/// A thread that has frozen the cell goes on when the key has been made live again and charged, and
/// is leaving again because of another thread. Only the version shows that.
#[test]
fn a_late_evictor_takes_nothing() {
    in_every_order(PREEMPTIONS_OF_MORE, || {
        let slots = Slots::new(1);
        assert_eq!(slots.spend(KEY, 1, 1), Ok(true));
        let (one, two) = (Arc::clone(&slots), Arc::clone(&slots));
        let charger = thread::spawn(move || one.spend(KEY, 10, 1));
        let evictor = thread::spawn(move || two.spend(OTHER, 10, 1));
        let mine = slots.spend(OTHER + 1, 10, 1);
        let admitted = [charger.join().unwrap(), evictor.join().unwrap(), mine];
        let count = admitted.iter().filter(|one| **one == Ok(true)).count();
        assert_eq!(count, 1, "one slot, one bucket that owes: {admitted:?}");
        for (key, answer) in [KEY, OTHER, OTHER + 1].into_iter().zip(admitted) {
            let expected = if answer == Ok(true) { 11 } else { 0 };
            assert_eq!(slots.table().cell(key), expected, "{key:x}: {admitted:?}");
            assert_ne!(answer, Ok(false), "the debt of another key: {admitted:?}");
        }
    });
}
