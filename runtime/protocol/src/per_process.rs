//! A value of which every process has its own.

use core::mem;
use std::sync::Arc;

use once_cell::race::OnceBox;

/// A value that each process makes for itself, and that a forked child never shares with its
/// parent.
///
/// A fork copies every lock in the state it is in, but only the thread that forks. A lock that
/// another thread holds at that moment stays locked in the child for good, and what it guards may
/// be half changed. Whatever is kept here is out of a child's reach: the child makes a value of
/// its own when it first asks for one, and neither uses nor drops the parent's. Reading takes
/// no lock, and making takes none either: of two threads that make the value at the same time,
/// one has its value dropped and gets the other's.
pub struct PerProcess<T> {
    /// Tells this process from all that it descends from.
    process: fn() -> u32,
    oldest: OnceBox<Generation<T>>,
}

/// One process's value, and the values of the processes forked from it, each of which writes in
/// its own copy of this memory.
struct Generation<T> {
    process: fn() -> u32,
    /// The process whose value it is.
    owner: u32,
    value: Arc<T>,
    child: OnceBox<Self>,
}

impl<T> PerProcess<T> {
    /// No value yet. `process` answers a number that differs in each process from that of all
    /// the processes it descends from, as [`Host::process`](crate::Host::process) does.
    pub const fn new(process: fn() -> u32) -> Self {
        Self { process, oldest: OnceBox::new() }
    }

    /// This process's value, if it has been made.
    pub fn get(&self) -> Option<&T> {
        self.find((self.process)()).ok()
    }

    /// This process's value, made by `make` if there is none.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let process = (self.process)();
        self.find(process).unwrap_or_else(|place| self.put(place, process, make()))
    }

    /// This process's value, made by `make` if there is none.
    ///
    /// # Errors
    /// The error of `make`; the next call tries again.
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let process = (self.process)();
        self.find(process).or_else(|place| Ok(self.put(place, process, make()?)))
    }

    /// This process's value, or the place where it belongs.
    fn find(&self, process: u32) -> Result<&T, &OnceBox<Generation<T>>> {
        let mut place = &self.oldest;
        while let Some(generation) = place.get() {
            if generation.owner == process {
                return Ok(&generation.value);
            }
            place = &generation.child;
        }
        Err(place)
    }

    #[cold]
    fn put<'a>(&self, place: &'a OnceBox<Generation<T>>, owner: u32, value: T) -> &'a T {
        let (process, value) = (self.process, Arc::new(value));
        let generation = || Box::new(Generation { process, owner, value, child: OnceBox::new() });
        &place.get_or_init(generation).value
    }
}

impl<T: Default> PerProcess<T> {
    /// This process's value, which is the default one at first.
    pub fn get_or_default(&self) -> &T {
        self.get_or_init(T::default)
    }
}

impl<T> Drop for Generation<T> {
    fn drop(&mut self) {
        if self.owner != (self.process)() {
            // A count that never falls to zero keeps the ancestor's value from being dropped.
            mem::forget(Arc::clone(&self.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    thread_local! {
        static PROCESS: Cell<u32> = const { Cell::new(1) };
    }

    struct Counted<'a>(&'a AtomicU32);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_generation_has_its_own_value() {
        PROCESS.set(1);
        let number = PerProcess::new(|| PROCESS.get());
        assert_eq!(number.get(), None);
        assert_eq!(number.get_or_init(|| "first"), &"first");
        PROCESS.set(2);
        assert_eq!(number.get(), None);
        assert_eq!(number.get_or_try_init(|| Err::<&str, _>("no")), Err("no"));
        assert_eq!(number.get_or_init(|| "second"), &"second");
        assert_eq!(number.get_or_init(|| "third"), &"second");
        // One that has none of its own between them.
        PROCESS.set(4);
        assert_eq!(number.get_or_init(|| "fourth"), &"fourth");
        assert_eq!(number.get(), Some(&"fourth"));
    }

    #[test]
    fn only_the_own_value_is_dropped() {
        let dropped = [const { AtomicU32::new(0) }; 2];
        PROCESS.set(1);
        let counted = PerProcess::new(|| PROCESS.get());
        counted.get_or_init(|| Counted(&dropped[0]));
        PROCESS.set(2);
        counted.get_or_init(|| Counted(&dropped[1]));
        drop(counted);
        assert_eq!(dropped.map(AtomicU32::into_inner), [0, 1]);
    }

    #[test]
    fn threads_that_make_it_together_get_one_value() {
        for _ in 0..100 {
            let value = PerProcess::new(|| 1);
            let made = thread::scope(|scope| {
                let threads = [0, 1, 2].map(|it| {
                    scope.spawn({
                        let value = &value;
                        move || *value.get_or_init(|| it)
                    })
                });
                threads.map(|thread| thread.join().unwrap_or(u32::MAX))
            });
            assert_eq!(made, [*value.get_or_default(); 3]);
        }
    }
}
