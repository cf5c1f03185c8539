//! Worlds around the egress machine: a broker, a store of limits and a vendor that keep their own
//! books, in the plainest way, and compare every action of the machine with them.

pub(crate) mod gate;
pub(crate) mod log;

pub(crate) mod queue;
pub(crate) mod random;

use tidegate_core::{EgressOrder, EgressTerms};

use random::Random;

/// The worlds count in milliseconds, so that a history shows what happens.
pub(crate) fn random_terms(random: &mut Random, order: EgressOrder) -> EgressTerms {
    let concurrency = 1 + random.up_to(4) as u32;
    EgressTerms {
        concurrency,
        batch: 1 + random.up_to(3) as u32,
        ahead: 1 + random.up_to(3) as u32,
        max_attempts: 2 + random.up_to(3) as u32,
        visibility: [0, 60, 400][random.index(3)],
        max_visibility: [300, 100_000][random.index(2)],
        keep: [0, 50, 1_000][random.index(3)],
        jitter: [0, 20][random.index(2)],
        blind_hold: 30,
        back_off: 10,
        max_back_off: 200,
        interval: [0, 10][random.index(2)],
        order,
    }
}
