//! The limits of a request's descriptors in this worker's memory: all must allow, or none is charged.

use crate::buckets::{self, Slot, Undo};
use crate::config::Config;
use crate::descriptors::MAX_DESCRIPTORS;
use crate::filter::{Action, Request};
use crate::host::Host;
use crate::plugin::{Counter, Plugin};
use crate::reply::{self, Quota};

/// Refuses the request if one of its local buckets does, and answers what then becomes of it. No bucket is
/// charged then. Otherwise `shown` has the numbers of the bucket of which least remains.
pub(crate) fn refuse_locally(
    request: &Request<'_, impl Host>,
    plugin: &Plugin,
    slots: &mut [Slot],
    shown: &mut Quota,
) -> Option<Action> {
    let Request { host, stream, keys, costs, now } = *request;
    let Config { descriptors, max_keys, .. } = &plugin.config;
    let in_use = (*max_keys as usize).min(slots.len());
    let slots = slots.get_mut(..in_use).unwrap_or_default();
    let mut charged: [Option<Undo>; MAX_DESCRIPTORS] = [None; MAX_DESCRIPTORS];
    let each = keys.applying(descriptors).zip(&mut charged);
    let mut refused = None;
    for ((place, descriptor), undo) in each {
        let Some(limits) = &descriptor.limits else { continue };
        let cost = costs.get(place).copied().unwrap_or(1);
        let decision = if let Some(fixed) = limits.fixed() {
            fixed.check(&u64::from(cost).into())
        } else {
            let seed = plugin.seeds.get(place).copied().unwrap_or_default();
            let fingerprint = keys.fingerprint(descriptors, descriptor, seed);
            let checked = buckets::check(slots, limits.as_slice(), fingerprint, now, cost);
            let Some(checked) = checked else { continue };
            if checked.evicted {
                plugin.count(host, Counter::Evicted);
            }
            *undo = Some(checked.undo);
            if plugin.config.refusals.on_allowed {
                let limit = limits.as_slice().get(usize::from(checked.decision.tier));
                shown.merge(Quota::local(limit, &checked.decision));
            }
            checked.decision
        };
        if !decision.allowed {
            refused = Some((decision, limits));
            break;
        }
    }
    let (decision, limits) = refused?;
    // The last first, so that a slot that two of them share is as it was before both.
    charged.iter().rev().flatten().for_each(|undo| undo.apply(slots));
    plugin.count(host, Counter::LimitedLocal);
    if !plugin.enforces(host) {
        return Some(Action::Continue);
    }
    let limit = match limits.fixed() {
        Some(_) => None,
        None => limits.as_slice().get(usize::from(decision.tier)),
    };
    let replied = reply::refused_locally(host, stream, &plugin.config, limit, &decision);
    plugin.count_failure(host, replied);
    Some(Action::Pause)
}
