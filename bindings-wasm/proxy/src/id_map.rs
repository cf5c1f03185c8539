//! A hash map from ids of the host to small values, in memory that never grows.

/// The most ids of one map.
pub(crate) const MAX_IDS: usize = 4096;
/// Twice as many places as ids keep probe sequences short.
const PLACES: usize = 2 * MAX_IDS;

/// A hash map from ids to small values: open addressing with linear probing, at most
/// half full. A map of zero bytes is empty.
pub(crate) struct IdMap<V> {
    len: usize,
    /// The id plus one, so that zero is no id, and its value.
    places: [(u32, V); PLACES],
}

impl<V: Copy> IdMap<V> {
    pub(crate) const fn empty(filler: V) -> Self {
        Self { len: 0, places: [(0, filler); PLACES] }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns `false` when the map is full or contains the id.
    pub(crate) fn insert(&mut self, id: u32, value: V) -> bool {
        let Some(mark) = id.checked_add(1).filter(|_| self.len < MAX_IDS) else {
            return false;
        };
        let mut at = home(mark);
        loop {
            match self.places.get_mut(at) {
                Some(place) if place.0 == 0 => {
                    *place = (mark, value);
                    self.len += 1;
                    return true;
                }
                Some(place) if place.0 == mark => return false,
                _ => at = (at + 1) % PLACES,
            }
        }
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut V> {
        let mark = id.checked_add(1)?;
        let mut at = home(mark);
        loop {
            match self.places.get(at)?.0 {
                found if found == mark => break,
                0 => return None,
                _ => at = (at + 1) % PLACES,
            }
        }
        self.places.get_mut(at).map(|place| &mut place.1)
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<V> {
        let mark = id.checked_add(1)?;
        let mut hole = home(mark);
        let value = loop {
            match self.places.get(hole) {
                Some(&(found, value)) if found == mark => break value,
                Some(&(0, _)) => return None,
                _ => hole = (hole + 1) % PLACES,
            }
        };
        // Backward-shift deletion: move every entry that the hole would cut off from its home.
        let mut at = hole;
        loop {
            at = (at + 1) % PLACES;
            let moved = *self.places.get(at)?;
            if moved.0 == 0 {
                break;
            }
            if distance(home(moved.0), at) >= distance(hole, at) {
                *self.places.get_mut(hole)? = moved;
                hole = at;
            }
        }
        self.places.get_mut(hole)?.0 = 0;
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn find(&self, wanted: impl Fn(&V) -> bool) -> Option<(u32, V)> {
        if self.len == 0 {
            return None;
        }
        self.places
            .iter()
            .find(|(mark, value)| *mark != 0 && wanted(value))
            .map(|(m, v)| (m - 1, *v))
    }
}

fn home(mark: u32) -> usize {
    // Fibonacci hashing: ids are consecutive, and some hosts use only every other one.
    mark.wrapping_mul(0x9E37_79B9) as usize >> 19 & (PLACES - 1)
}

fn distance(from: usize, to: usize) -> usize {
    (to + PLACES - from) % PLACES
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{IdMap, MAX_IDS};

    #[test]
    fn agrees_with_a_hash_map() {
        let mut map = Box::new(IdMap::empty(0_u64));
        let mut model = HashMap::new();
        let mut random: u64 = 1;
        for step in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = (random >> 40) as u32 % 6000;
            if random >> 63 == 0 {
                let fits = model.len() < MAX_IDS && !model.contains_key(&id);
                assert_eq!(map.insert(id, step), fits);
                if fits {
                    model.insert(id, step);
                }
            } else {
                assert_eq!(map.get_mut(id).copied(), model.get(&id).copied());
                assert_eq!(map.remove(id), model.remove(&id));
            }
            assert_eq!(map.len, model.len());
        }
        assert!(model.len() > 1000, "the map was in use");
        for (id, value) in model {
            assert_eq!(map.remove(id), Some(value));
        }
        assert!(map.find(|_| true).is_none());
    }
}
