//! The call that takes or renews a slice of a bucket, or gives it up.

use tidegate_core::{Grant, LeaseAsk, LeaseTerms, Limit, ShareKind};

use crate::call::arguments;
use crate::error::Error;
use crate::script::{LEASE, Script, ScriptCall};

const MILLI: u64 = 1_000_000;

/// [`LEASE`] with its keys and arguments, ready to be sent.
#[derive(Debug)]
pub struct LeaseCall {
    /// `KEYS`: the bucket, and who holds slices of it.
    pub keys: [Vec<u8>; 2],
    /// `ARGV`.
    pub arguments: Vec<String>,
}

impl LeaseCall {
    /// The call in which the process `id` asks the bucket under `key` for a slice.
    pub fn new(key: &[u8], limits: &[Limit], terms: &LeaseTerms, id: u64, ask: &LeaseAsk) -> Self {
        let LeaseAsk { want, spent, is_new, held, returned, bound } = *ask;
        let (ttl, rate, most) = (terms.ttl() / MILLI, terms.rate(), terms.max_rate());
        let own = format!(
            "{id:016x} {want} {spent} {} {held} {returned} {bound} {ttl} {rate} {most}",
            u8::from(is_new)
        );
        Self { keys: [key.to_vec(), leases_key(key)], arguments: arguments(own, limits) }
    }

    /// Reads the last part of the script's answer.
    ///
    /// # Errors
    /// [`Error::Store`] for what no script of ours answers.
    pub fn grant(answer: &[u8]) -> Result<Grant, Error> {
        read_grant(answer)
            .ok_or_else(|| Error::Store("the script's answer has another form".into()))
    }
}

impl ScriptCall for LeaseCall {
    fn script(&self) -> &'static Script {
        &LEASE
    }

    fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Tokens that a call gives back must not come back twice.
    fn is_repeatable(&self) -> bool {
        false
    }
}

/// Beside the bucket, in the same slot: its key has a hash tag.
fn leases_key(key: &[u8]) -> Vec<u8> {
    [key, b":leases"].concat()
}

fn read_grant(answer: &[u8]) -> Option<Grant> {
    let mut numbers = core::str::from_utf8(answer).ok()?.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (tokens, pace, most) = (next()?, next()?, next()?);
    let share = match next()? {
        0 => ShareKind::Whole,
        1 => ShareKind::Fair,
        2 => ShareKind::Short,
        3 => ShareKind::None,
        _ => return None,
    };
    let hold = next()?.saturating_mul(MILLI);
    Some(Grant { tokens, pace, most, share, hold })
}
