use crate::tiers::Cells;

/// Keyed cells with one atomic operation.
///
/// The closure travels to the cells (process memory, a wasm module's memory).
/// A store to which the limit and the cost must travel instead, such as Redis,
/// runs a twin of the engine there and is not a `Store`.
pub trait Store {
    /// What can go wrong in reaching the cells.
    type Error;

    /// Runs `step` once, atomically, on the cells of `key`, all zero when the key
    /// is new, and keeps what it leaves in them. `now` lets a store forget buckets
    /// that have become full, which loses nothing.
    ///
    /// # Errors
    /// When the cells could not be reached; `step` has then not run.
    fn update<R>(
        &self,
        key: &[u8],
        now: u64,
        step: impl FnOnce(&mut Cells) -> R,
    ) -> Result<R, Self::Error>;
}
