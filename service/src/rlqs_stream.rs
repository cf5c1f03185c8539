//! One stream of the rate limit quota service: the buckets of one proxy.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::r#type::v3::rate_limit_strategy::BlanketRule;
use futures_util::future::join_all;
use prost::Message as _;
use tidegate::quota::{Quota, QuotaReport};
use tidegate::{Clock as _, FastClock};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::{Status, Streaming};

use crate::grpc::into_text;
use crate::rlqs::Rlqs;
use crate::rlqs_bucket::{Renewed, Share, Target};
use crate::rlqs_messages::{Action, Actions, BucketId, Reports, Usage};
use crate::rules::RuleSet;

/// The most buckets of one stream.
const MAX_BUCKETS: usize = 4096;

/// The most bytes of a domain.
const MAX_DOMAIN: usize = 256;

/// How long a proxy may take to read what it is sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a stream looks for shares that are due.
const TICK: Duration = Duration::from_millis(100);

/// A bucket that nobody has used for this long is forgotten, in nanoseconds.
const IDLE: u64 = 60_000_000_000;

/// For how many seconds all requests of a bucket are allowed or denied, unless it is said again.
const BLANKET_SECONDS: u64 = 60;

/// A stream, until its proxy ends it.
pub(crate) struct RlqsStream {
    service: Arc<Rlqs>,
    actions: mpsc::Sender<Result<Actions, Status>>,
    buckets: HashMap<Vec<u8>, Bucket>,
    rules: Arc<RuleSet>,
    domain: String,
    /// Wakes the stream when a share of it is to be renewed.
    wake: Arc<Notify>,
}

struct Bucket {
    id: BucketId,
    entries: Vec<Entry>,
    target: Target,
    share: Option<Share>,
    /// When the answer that is the same for all requests was last sent; 0 if it never was.
    blanket_sent_at: u64,
    used_at: u64,
    reported_at: u64,
    _permit: OwnedSemaphorePermit,
}

impl RlqsStream {
    pub(crate) fn new(service: Arc<Rlqs>, actions: mpsc::Sender<Result<Actions, Status>>) -> Self {
        let rules = service.rules.get();
        let (buckets, domain, wake) = (HashMap::new(), String::new(), Arc::default());
        Self { service, actions, buckets, rules, domain, wake }
    }

    /// Answers reports until the proxy ends the stream, reads nothing any more, or the service stops. Then all
    /// shares are given back.
    pub(crate) async fn run(mut self, mut reports: Streaming<Reports>) {
        let mut stopping = self.service.stopping.clone();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = reports.message() => match message {
                    Ok(Some(message)) => {
                        if let Err(status) = self.take(message) {
                            self.service.count_failure(status.message(), "");
                            _ = timeout(SEND_TIMEOUT, self.actions.send(Err(status))).await;
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(status) => {
                        // A stream that the proxy has reset is nobody's failure.
                        if status.code() == tonic::Code::InvalidArgument {
                            self.service.count_failure("undecodable", "");
                        }
                        break;
                    }
                },
                () = self.wake.notified() => {}
                _ = ticks.tick() => {}
                () = self.actions.closed() => break,
                () = set(&mut stopping) => break,
            }
            let actions = self.renew().await;
            if !actions.is_empty() {
                let sent = self.actions.send(Ok(Actions { actions }));
                if !matches!(timeout(SEND_TIMEOUT, sent).await, Ok(Ok(()))) {
                    break;
                }
            }
            let now = now();
            let shares = self.buckets.values_mut().filter_map(|bucket| bucket.share.as_mut());
            shares.for_each(|share| share.tell_others(now));
        }
        let shares = self.buckets.into_values().filter_map(|bucket| bucket.share);
        join_all(shares.map(|share| share.leave(now()))).await;
    }

    /// Takes a message. A report that cannot be used concerns its bucket only.
    fn take(&mut self, message: Reports) -> Result<(), Status> {
        if !message.domain.is_empty() {
            if message.domain.len() > MAX_DOMAIN {
                return Err(Status::invalid_argument("domain"));
            }
            let domain = into_text(message.domain);
            if self.domain.is_empty() {
                self.domain = domain;
            } else if self.domain != domain {
                return Err(Status::invalid_argument("domain"));
            }
        }
        if self.domain.is_empty() {
            return Err(Status::invalid_argument("domain"));
        }
        let now = now();
        for usage in message.usages {
            self.report(usage, now);
        }
        Ok(())
    }

    fn report(&mut self, usage: Usage, now: u64) {
        self.service.counters.reports.increment();
        let elapsed = usage.elapsed();
        let report = QuotaReport { allowed: usage.allowed, denied: usage.denied, elapsed };
        let Some(id) = usage.id.and_then(BucketId::sorted) else {
            return self.service.count_failure("bucket_id", "");
        };
        let name = id.encode_to_vec();
        if let Some(bucket) = self.buckets.get_mut(&name) {
            bucket.reported_at = now;
            if report.allowed > 0 || report.denied > 0 {
                bucket.used_at = now;
            }
            if let Some(share) = &mut bucket.share {
                share.member.report(now, &report);
            }
            return;
        }
        let permit = Arc::clone(&self.service.free_buckets).try_acquire_owned();
        let (true, Ok(permit)) = (self.buckets.len() < MAX_BUCKETS, permit) else {
            return self.service.count_failure("too_many_buckets", "");
        };
        let entries = id.descriptor();
        let target = self.target(&entries);
        let share = Share::new(&target, &self.service.hub, &self.wake, now, &report);
        let bucket = Bucket {
            id,
            entries,
            target,
            share,
            blanket_sent_at: 0,
            used_at: now,
            reported_at: now,
            _permit: permit,
        };
        self.buckets.insert(name, bucket);
    }

    fn target(&self, entries: &[Entry]) -> Target {
        let (target, is_matched) =
            Target::find(&self.rules, &self.domain, entries, self.service.ttl);
        if !is_matched {
            self.service.count_unmatched();
        }
        if let Target::Nothing { rule, reason } = &target {
            self.service.count_failure(reason, rule);
        }
        target
    }

    /// Renews all shares that are due, and answers what the proxy is to be told.
    async fn renew(&mut self) -> Vec<Action> {
        let now = now();
        self.follow_rules(now).await;
        let mut actions = self.forget_idle(now).await;
        let mut due = Vec::new();
        for bucket in self.buckets.values_mut() {
            let is_blanket_due = bucket.blanket_sent_at == 0
                || now
                    >= bucket.blanket_sent_at.saturating_add(BLANKET_SECONDS / 3 * 1_000_000_000);
            if let (Target::Blanket(rule), true) = (&bucket.target, is_blanket_due) {
                bucket.blanket_sent_at = now;
                actions.push(Action::blanket(bucket.id.clone(), *rule, BLANKET_SECONDS));
                self.service.counters.count_blanket(*rule == BlanketRule::AllowAll);
            }
            if let Some(share) = bucket.share.as_mut().filter(|share| share.is_due(now)) {
                due.push((&bucket.id, share));
            }
        }
        let renewing = due.into_iter().map(async |(id, share)| {
            let renewed = share.renew(self::now).await;
            (id, share.rule.as_str(), renewed)
        });
        for (id, rule, renewed) in join_all(renewing).await {
            match renewed {
                Renewed::Quota(quota, seconds) if seconds > 0 => {
                    match quota {
                        Quota::Bucket { .. } => self.service.counters.token_buckets.increment(),
                        Quota::Nothing => self.service.counters.count_blanket(false),
                    }
                    actions.push(Action::assign(id.clone(), quota, seconds));
                }
                Renewed::Quota(..) => {}
                Renewed::Failed(error) => self.service.count_failure(error.code(), rule),
            }
        }
        actions
    }

    /// Matches all buckets again when the rules have been replaced.
    async fn follow_rules(&mut self, now: u64) {
        let rules = self.service.rules.get();
        if Arc::ptr_eq(&rules, &self.rules) {
            return;
        }
        self.rules = rules;
        let mut left = Vec::new();
        let mut buckets = core::mem::take(&mut self.buckets);
        for bucket in buckets.values_mut() {
            let target = self.target(&bucket.entries);
            if target.is_same(&bucket.target) {
                continue;
            }
            left.extend(bucket.share.take());
            let report = QuotaReport::default();
            bucket.share = Share::new(&target, &self.service.hub, &self.wake, now, &report);
            (bucket.target, bucket.blanket_sent_at) = (target, 0);
        }
        self.buckets = buckets;
        join_all(left.into_iter().map(|share| share.leave(now))).await;
    }

    /// Forgets the buckets that nobody uses. The proxy is told to forget them too, and reports the next
    /// request at once.
    async fn forget_idle(&mut self, now: u64) -> Vec<Action> {
        let is_idle =
            |bucket: &Bucket| now >= bucket.used_at.saturating_add(IDLE.max(self.service.ttl * 2));
        let names: Vec<Vec<u8>> = self
            .buckets
            .iter()
            .filter(|(_, bucket)| is_idle(bucket))
            .map(|(name, _)| name.clone())
            .collect();
        let idle: Vec<Bucket> = names.iter().filter_map(|name| self.buckets.remove(name)).collect();
        let mut actions = Vec::new();
        for bucket in &idle {
            // A proxy that does not report it has forgotten it already.
            if now < bucket.reported_at.saturating_add(self.service.ttl * 2) {
                actions.push(Action::abandon(bucket.id.clone()));
                self.service.counters.abandoned.increment();
            }
        }
        let shares = idle.into_iter().filter_map(|bucket| bucket.share);
        join_all(shares.map(|share| share.leave(now))).await;
        actions
    }
}

async fn set(flag: &mut watch::Receiver<bool>) {
    // An error means that the sender, and so the service, is gone.
    _ = flag.wait_for(|set| *set).await;
}

fn now() -> u64 {
    FastClock::new().now()
}
