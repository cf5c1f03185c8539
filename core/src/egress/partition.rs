//! `EgressPartition`: an assigned partition, in a slot that the host provides.

/// A slot for an assigned partition. The host provides as many as it may be assigned, each as
/// [`FREE`](Self::FREE).
#[derive(Clone, Copy, Debug)]
pub struct EgressPartition {
    pub(super) stage: Stage,
    pub(super) partition: u32,
    pub(super) generation: u64,
    /// The next offset that the client delivers.
    pub(super) next: u64,
    pub(super) committed: u64,
    /// Whether the client was told to pause.
    pub(super) is_paused: bool,
    /// Whether the client must be told to read on from `next`.
    pub(super) must_seek: bool,
    /// The time before which no record is wanted.
    pub(super) resume_at: u64,
    /// The first record that failed and is to come again, with its attempts, because the broker does
    /// not count them.
    pub(super) failed: Option<(u64, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Free,
    Assigned,
    /// The partition is gone once `next`, the last commit, has been told.
    Revoked,
}

impl EgressPartition {
    /// A slot without a partition.
    pub const FREE: Self = Self {
        stage: Stage::Free,
        partition: 0,
        generation: 0,
        next: 0,
        committed: 0,
        is_paused: false,
        must_seek: false,
        resume_at: 0,
        failed: None,
    };

    pub(super) fn is_assigned(&self) -> bool {
        self.stage == Stage::Assigned
    }
}
