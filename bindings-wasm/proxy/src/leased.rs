//! Requests whose tokens were taken from the service ahead, so that they need not wait for it.

use tidegate_core::{QuotaSlice, QuotaSpend, QuotaTerms};

use crate::config::OnCold;
use crate::descriptors::MAX_DESCRIPTORS;
use crate::filter::{Action, Request};
use crate::host::Host;
use crate::in_flight::{Ask, Asks};
use crate::leases::{LeaseSlot, with_slice};
use crate::plugin::{Counter, HORIZON, Plugin};
use crate::reply::{self, Quota};
use crate::rls::Response;

/// What is left to do for a request after its tokens were spent.
#[derive(Default)]
pub(crate) struct Left {
    /// What becomes of the request, if it was refused.
    pub(crate) refused: Option<Action>,
    /// A bit for each descriptor whose tokens the service must still be asked for.
    pub(crate) unpaid: u8,
    /// Whether the request waits for the answer about those.
    pub(crate) waits: bool,
    /// What to take ahead, by the places of the descriptors.
    pub(crate) ahead: [Option<Ask>; MAX_DESCRIPTORS],
}

impl Left {
    pub(crate) fn is_unpaid(&self, place: usize) -> bool {
        self.unpaid >> place & 1 == 1
    }
}

/// Spends the request's tokens of all leased descriptors, or of none if one of them refuses. `shown` is told what
/// is left.
pub(crate) fn spend(
    request: &Request<'_, impl Host>,
    plugin: &Plugin,
    slots: &mut [LeaseSlot],
    shown: &mut Quota,
) -> Left {
    let Request { host, stream, keys, costs, now } = *request;
    let descriptors = &plugin.config.descriptors;
    let in_use = (plugin.config.max_keys as usize).min(slots.len());
    let slots = slots.get_mut(..in_use).unwrap_or_default();
    let terms = plugin.quota_terms();
    let on_cold = plugin.config.service.as_ref().map_or(OnCold::Wait, |service| service.on_cold);
    let mut left = Left::default();
    let mut spent: [Option<(u64, u32)>; MAX_DESCRIPTORS] = [None; MAX_DESCRIPTORS];
    let mut refused = None;
    for (place, descriptor) in keys.applying(descriptors) {
        if !descriptor.is_leased {
            continue;
        }
        let cost = costs.get(place).copied().unwrap_or(1);
        let seed = plugin.seeds.get(place).copied().unwrap_or_default();
        let fingerprint = keys.fingerprint(descriptors, descriptor, seed);
        let ask = |slice: &mut QuotaSlice, least| {
            let tokens = slice.ask(now, least, &terms)?;
            Some(Ask { fingerprint, tokens, position: 0, is_ahead: true })
        };
        let (found, ahead) = with_slice(slots, fingerprint, now, &terms, |slice| {
            let found = slice.spend(now, cost, &terms);
            let is_refused_cold = found == QuotaSpend::Nothing && on_cold == OnCold::Deny;
            let ahead = ask(slice, if is_refused_cold { cost } else { 0 });
            let waits = on_cold != OnCold::Allow || slice.is_known();
            if found == QuotaSpend::Spent && plugin.config.refusals.on_allowed {
                shown.merge(Quota::ahead(slice.limit(), slice.held(now)));
            }
            (Some((found, slice.limit(), waits)), ahead)
        })
        .unwrap_or((None, None));
        if let Some(free) = left.ahead.get_mut(place) {
            *free = ahead;
        }
        match found {
            Some((QuotaSpend::Spent, ..)) => {
                if let Some(free) = spent.get_mut(place) {
                    *free = Some((fingerprint, cost));
                }
            }
            Some((QuotaSpend::Denied { retry_after }, limit, _)) => {
                refused = Some((limit, retry_after));
                break;
            }
            Some((QuotaSpend::Nothing, limit, _)) if on_cold == OnCold::Deny => {
                refused = Some((limit, HORIZON));
            }
            nothing => {
                left.unpaid |= 1 << place;
                left.waits |= nothing.is_none_or(|(.., waits)| waits);
            }
        }
    }
    let Some((limit, retry_after)) = refused else { return left };
    for (fingerprint, cost) in spent.into_iter().flatten() {
        with_slice(slots, fingerprint, now, &terms, |slice| slice.give_back(cost));
    }
    plugin.count(host, Counter::LimitedService);
    let action = if plugin.enforces(host) {
        let replied = reply::refused_ahead(host, stream, &plugin.config, limit, retry_after);
        plugin.count_failure(host, replied);
        Action::Pause
    } else {
        Action::Continue
    };
    // What is to be taken ahead is for the requests after this one.
    Left { refused: Some(action), ..left }
}

/// Tells the slices what the service has answered; `None` that the call has failed.
pub(crate) fn settle(
    plugin: &Plugin,
    slots: &mut [LeaseSlot],
    asks: &Asks,
    now: u64,
    response: Option<&Response<'_>>,
) {
    let in_use = (plugin.config.max_keys as usize).min(slots.len());
    let slots = slots.get_mut(..in_use).unwrap_or_default();
    let terms = plugin.quota_terms();
    for ask in asks.iter().filter(|ask| ask.tokens > 0) {
        with_slice(slots, ask.fingerprint, now, &terms, |slice| {
            answer(slice, ask, now, &terms, response);
        });
    }
}

fn answer(
    slice: &mut QuotaSlice,
    ask: &Ask,
    now: u64,
    terms: &QuotaTerms,
    response: Option<&Response<'_>>,
) {
    let Some(response) = response else {
        if ask.is_ahead {
            slice.failed();
        }
        return;
    };
    let status = response.status_of(ask.position);
    let limit = status.and_then(|status| status.limit);
    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    if response.allowed || status.is_some_and(|status| !status.over_limit) {
        slice.tell_limit(limit);
        if ask.is_ahead {
            let quota = status.and_then(|status| status.quota).unwrap_or(u64::MAX);
            let tokens = quota.min(u64::from(ask.tokens)) as u32;
            slice.granted(now, tokens, terms, limit);
        }
        return;
    }
    let status = status.unwrap_or_default();
    let retry_after = status.retry_nanos.unwrap_or(HORIZON);
    slice.tell_limit(limit);
    if ask.is_ahead {
        let remaining = u32::try_from(status.remaining).unwrap_or(u32::MAX);
        slice.refused(now, ask.tokens, remaining, retry_after);
    } else {
        slice.deny(now, ask.tokens, retry_after);
    }
}
