//! What a bucket of a proxy is by the rules: a share of one of the service's buckets, or a fixed answer.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::r#type::v3::rate_limit_strategy::BlanketRule;
use tidegate::quota::{LeaseTerms, Quota, QuotaMember, QuotaReport, node_id};
use tidegate::{AnyLimit, Error, Limiter};

use crate::hits::Costs;
use crate::rlqs_peers::{Hub, Place};
use crate::rules::RuleSet;

/// What the rules say about a bucket of a proxy.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// It is a share of this bucket.
    Share { rule: String, prefix: String, key: String, limiter: Limiter, terms: LeaseTerms },
    /// All requests are allowed, or all denied.
    Blanket(BlanketRule),
    /// It gets no assignment, for this reason, and the proxy does what it is configured to do without one.
    Nothing { rule: String, reason: &'static str },
}

impl Target {
    /// The target of a descriptor, and whether a rule has matched it.
    pub(crate) fn find(rules: &RuleSet, domain: &str, entries: &[Entry], ttl: u64) -> (Self, bool) {
        let mut deciding = rules.deciding(domain, entries);
        let Some(rule) = deciding.next() else {
            return (Self::Blanket(BlanketRule::AllowAll), false);
        };
        let limiter = &rule.limiter;
        let limits = || limiter.limits().iter().map(|named| &named.limit);
        if rule.shadow || limits().all(|limit| *limit == AnyLimit::Unlimited) {
            return (Self::Blanket(BlanketRule::AllowAll), true);
        }
        if limits().any(|limit| *limit == AnyLimit::None) {
            return (Self::Blanket(BlanketRule::DenyAll), true);
        }
        let nothing = |reason| (Self::Nothing { rule: rule.place.clone(), reason }, true);
        // A proxy has one token bucket for them.
        if deciding.next().is_some() {
            return nothing("quota_of_several_rules");
        }
        // A proxy counts requests, each of which is one token.
        if rule.costs != Costs::default() {
            return nothing("quota_cost");
        }
        let Ok(terms) = LeaseTerms::for_quotas(limiter.sliced_limits(), ttl) else {
            return nothing("quota_too_slow");
        };
        let target = Self::Share {
            rule: rule.place.clone(),
            prefix: rule.prefix().to_owned(),
            key: rule.bucket_key(entries),
            limiter: limiter.clone(),
            terms,
        };
        (target, true)
    }

    /// Whether a member of this target is one of the other too.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Share { prefix, key, limiter, terms, .. },
                Self::Share {
                    prefix: prefix_2,
                    key: key_2,
                    limiter: limiter_2,
                    terms: terms_2,
                    ..
                },
            ) => {
                (prefix, key, terms) == (prefix_2, key_2, terms_2)
                    && limiter.limits() == limiter_2.limits()
            }
            (Self::Blanket(rule), Self::Blanket(other)) => rule == other,
            (Self::Nothing { .. }, Self::Nothing { .. }) => true,
            _ => false,
        }
    }
}

/// One stream's share of a bucket.
pub(crate) struct Share {
    pub(crate) rule: String,
    limiter: Limiter,
    key: String,
    terms: LeaseTerms,
    node: u64,
    pub(crate) member: QuotaMember,
    place: Place,
    /// Whether it has become smaller since the others were told.
    has_given: bool,
    /// When the others were last asked to make room.
    asked_others_at: u64,
}

/// How lease calls of a share have ended.
pub(crate) enum Renewed {
    /// With a quota for this many seconds.
    Quota(Quota, u64),
    /// The store has failed.
    Failed(Error),
}

impl Share {
    /// A share of this target; `None` if the target is none.
    pub(crate) fn new(
        target: &Target,
        hub: &Arc<Hub>,
        wake: &Arc<tokio::sync::Notify>,
        now: u64,
        first: &QuotaReport,
    ) -> Option<Self> {
        let Target::Share { rule, prefix, key, limiter, terms } = target else { return None };
        Some(Self {
            rule: rule.clone(),
            limiter: limiter.clone(),
            key: key.clone(),
            terms: *terms,
            node: node_id(),
            member: QuotaMember::new(*terms, now, first),
            place: hub.join(prefix, key, wake),
            has_given: false,
            asked_others_at: 0,
        })
    }

    /// Whether the share is to be renewed, because time has passed or because another one of the bucket asks
    /// for it.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let is_asked = self.place.was_asked.swap(false, Ordering::AcqRel);
        !self.member.is_silent(now) && (is_asked || self.member.is_due(now))
    }

    /// Renews the share, and tells the others of the bucket what concerns them.
    pub(crate) async fn renew(&mut self, clock: impl Fn() -> u64) -> Renewed {
        // A second call gives back what the first has left over.
        for _ in 0..2 {
            let ask = self.member.ask(clock());
            let grant = self.limiter.lease_slice(&self.key, &self.terms, self.node, ask).await;
            match grant {
                Err(error) => {
                    self.member.failed();
                    return Renewed::Failed(error);
                }
                Ok(grant) => {
                    let now = clock();
                    let quota = self.member.granted(now, &grant);
                    self.has_given |= self.member.has_shrunk();
                    if self.member.has_surplus(now) {
                        continue;
                    }
                    return Renewed::Quota(quota, self.member.seconds_left(now));
                }
            }
        }
        let now = clock();
        let quota = self.member.current().unwrap_or(Quota::Nothing);
        Renewed::Quota(quota, self.member.seconds_left(now))
    }

    /// Tells the others of the bucket to renew theirs, where they can get more now or have to give something up.
    /// To be called when the proxy has been sent what it is assigned.
    pub(crate) fn tell_others(&mut self, now: u64) {
        self.place.is_short.store(self.member.is_short(), Ordering::Release);
        if core::mem::take(&mut self.has_given) {
            self.place.wake_others(|other| other.load(Ordering::Acquire));
        }
        let since = now.saturating_sub(self.asked_others_at);
        if self.member.needs_others() && since > self.terms.ttl() / 16 {
            self.asked_others_at = now;
            self.place.wake_others(|_: &AtomicBool| true);
        }
    }

    /// Gives the share back.
    pub(crate) async fn leave(mut self, now: u64) {
        if let Some(ask) = self.member.leave(now) {
            // What cannot be given back lapses.
            _ = self.limiter.lease_slice(&self.key, &self.terms, self.node, ask).await;
        }
        self.place.wake_others(|other| other.load(Ordering::Acquire));
    }
}
