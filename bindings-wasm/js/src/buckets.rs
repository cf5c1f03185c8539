//! Buckets by key, in the memory of the module: a table of the core for each limit.

use core::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_core::{
    Cells, Clock, Cost, Decision, Error, Limit, MAX_TIERS, OnFull, Operation, Outcome, Table,
    apply_tables, check_table,
};
use tidegate_protocol::{BucketMap, OwedUnder};

use crate::border::Border;
use crate::key_room::Keys;
use crate::room::Room;

/// The buckets of one limiter, by key.
///
/// A bucket that is full again gives its slot to the next new key that wants it, so memory is
/// bounded by the buckets that owe something, and by the largest number of keys.
///
/// The buckets are in tables until a call brings limits of its own. From then on they are in a map, where
/// each bucket knows its limits. The first call on a key moves what the tables have of it.
pub(crate) struct Buckets {
    limits: Arc<[Limit]>,
    tables: Rc<Tables>,
}

/// The buckets of a limiter, for calls under its own limits and under others.
struct Tables {
    limits: Arc<[Limit]>,
    /// The slots of one table for each limit.
    rooms: Box<[Room]>,
    /// The buckets once a call has brought limits.
    map: OnceCell<BucketMap>,
    max_keys: usize,
    on_full: OnFull,
    border: &'static Border,
}

/// The time of a call, as a clock.
struct At(u64);

impl Buckets {
    pub(crate) fn new(limits: &[Limit], max_keys: usize, on_full: OnFull) -> Self {
        let limits: Arc<[Limit]> = limits.into();
        let rooms = limits.iter().map(|_| Room::new(max_keys)).collect();
        let (map, border) = (OnceCell::new(), Border::of_the_module());
        let tables = Tables { limits: Arc::clone(&limits), rooms, map, max_keys, on_full, border };
        Self { limits, tables: Rc::new(tables) }
    }

    /// The same buckets for calls under other limits.
    pub(crate) fn under(&self, limits: &[Limit]) -> Self {
        let Tables { map, max_keys, on_full, .. } = &*self.tables;
        map.get_or_init(|| BucketMap::new(*max_keys, *on_full));
        Self { limits: limits.into(), tables: Rc::clone(&self.tables) }
    }

    pub(crate) fn evicted(&self) -> u64 {
        let in_map = self.tables.map.get().map_or(0, BucketMap::evicted);
        self.tables.rooms.iter().map(Room::evicted).sum::<u64>() + in_map
    }

    pub(crate) fn denied(&self) -> u64 {
        let in_map = self.tables.map.get().map_or(0, BucketMap::denied);
        self.tables.rooms.iter().map(Room::denied).sum::<u64>() + in_map
    }

    /// Checks one key under one limit. `None`, and nothing done, in any other case, which goes by the
    /// path of all operations: that keeps the module small.
    #[inline]
    pub(crate) fn check(
        &self,
        key: &[u8],
        now: u64,
        cost: Cost,
    ) -> Option<Result<Decision, Error>> {
        let Tables { rooms, map, .. } = &*self.tables;
        let ([room], [limit], Some(cost), None) =
            (&**rooms, &*self.limits, cost.uniform(), map.get())
        else {
            return None;
        };
        let fingerprint = self.tables.border.seed.borrow().fingerprint(key);
        Some(check_table(&self.tables.table(room), limit, fingerprint, now, cost))
    }

    /// Runs any operation.
    #[inline(never)]
    pub(crate) fn apply(
        &self,
        keys: &Keys<'_>,
        now: u64,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        let Tables { rooms, map, border, .. } = &*self.tables;
        let fingerprints = border.seed.borrow().fingerprints(keys);
        if let Some(map) = map.get() {
            let (is_each, count) = match keys {
                Keys::One(_) => (false, 1),
                Keys::Each(_) => (true, self.limits.len().min(MAX_TIERS)),
            };
            let take =
                |place: usize| self.tables.take(fingerprints[place], is_each.then_some(place), now);
            return map.run(&fingerprints[..count], &self.limits, now, operation, take);
        }
        let Some(first) = rooms.first() else {
            return Err(Error::TierCount { count: 0 });
        };
        let count = rooms.len().min(MAX_TIERS);
        let tables: [_; MAX_TIERS] =
            core::array::from_fn(|tier| self.tables.table(rooms.get(tier).unwrap_or(first)));
        apply_tables(&tables[..count], &self.limits, &fingerprints[..count], &At(now), operation)
    }
}

impl Tables {
    /// Takes what a key owes, under all limits or under one, out of the tables.
    fn take(&self, fingerprint: u64, tier: Option<usize>, now: u64) -> Option<OwedUnder> {
        let mut cells = Cells::default();
        let mut owes = false;
        let tiers = self.rooms.iter().zip(&*self.limits).enumerate();
        for (place, (room, limit)) in tiers.filter(|(place, _)| tier.is_none_or(|of| of == *place))
        {
            let position = limit.timeline().position(now);
            cells[place] = self.table(room).take(fingerprint, position);
            owes |= cells[place] > position;
        }
        let tier = tier.and_then(|tier| u8::try_from(tier).ok());
        owes.then(|| OwedUnder { limits: Arc::clone(&self.limits), tier, cells })
    }

    #[inline]
    fn table<'r>(&self, room: &'r Room) -> Table<'r, Room> {
        Table::new(room).on_full(self.on_full)
    }
}

impl Clock for At {
    fn now(&self) -> u64 {
        self.0
    }
}
