use core::hash::BuildHasher;

use indexmap::IndexMap;
use siphasher::sip::SipHasher13;
use tidegate_core::{Cells, Limit};

/// How many old buckets are looked at when a new one comes in.
const SWEPT_PER_INSERT: usize = 2;

/// Buckets by key, in the memory of the module.
///
/// Each new bucket looks at two old ones and forgets those that are full again,
/// which loses nothing. So there are never more than about twice as many buckets
/// as owe something, no call pays for a sweep of all, and no timer is needed.
pub(crate) struct Buckets {
    limits: Box<[Limit]>,
    cells: IndexMap<Box<[u8]>, Cells, Seed>,
    next_swept: usize,
}

/// Keys come from outside: a keyed hash, so that nobody can choose them to collide.
#[derive(Clone, Copy)]
pub(crate) struct Seed(pub(crate) u64, pub(crate) u64);

impl Buckets {
    pub(crate) fn new(limits: &[Limit], seed: Seed) -> Self {
        Self { limits: limits.into(), cells: IndexMap::with_hasher(seed), next_swept: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Runs `step` on the cells of `key`, all zero when the key is new, and keeps
    /// what it leaves in them.
    pub(crate) fn update<R>(
        &mut self,
        key: &[u8],
        now: u64,
        step: impl FnOnce(&mut Cells) -> R,
    ) -> R {
        if let Some(cells) = self.cells.get_mut(key) {
            return step(cells);
        }
        let mut cells = Cells::default();
        let answer = step(&mut cells);
        if cells != Cells::default() {
            self.sweep(now);
            self.cells.insert(key.into(), cells);
        }
        answer
    }

    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEPT_PER_INSERT {
            if self.next_swept >= self.cells.len() {
                self.next_swept = 0;
            }
            match self.cells.get_index(self.next_swept) {
                None => return,
                Some((_, cells)) if self.owes(cells, now) => self.next_swept += 1,
                // The last bucket takes the place of the forgotten one and is looked at next.
                Some(_) => drop(self.cells.swap_remove_index(self.next_swept)),
            }
        }
    }

    fn owes(&self, cells: &Cells, now: u64) -> bool {
        self.limits.iter().zip(cells).any(|(limit, cell)| *cell > limit.timeline().position(now))
    }
}

impl BuildHasher for Seed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
