//! Envoy's rate limit quota service: divides the limits of the rules over the proxies that report to it.
//!
//! Each stream is one proxy, and each of its buckets takes a slice of a bucket of the service, as programs with
//! leases do. So the shares are max-min fair, and the tokens of all of them are debited from one bucket.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{BoxStream, unfold};
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::codegen::{Body, BoxFuture, StdError, http};
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use crate::counters::Counters;
use crate::current_rules::CurrentRules;
use crate::grpc_server::{OneMethod, Responding};
use crate::messages_codec::MessagesCodec;
use crate::rlqs_counters::RlqsCounters;
use crate::rlqs_messages::{Actions, Reports};
use crate::rlqs_peers::Hub;
use crate::rlqs_stream::RlqsStream;

/// The most streams, and the most buckets of all of them.
const MAX_STREAMS: usize = 1024;
const MAX_BUCKETS: usize = 65_536;

/// What all streams share.
pub(crate) struct Rlqs {
    pub(crate) rules: Arc<CurrentRules>,
    /// How long a share lives, in nanoseconds.
    pub(crate) ttl: u64,
    pub(crate) hub: Arc<Hub>,
    pub(crate) counters: Arc<RlqsCounters>,
    all_counters: Arc<Counters>,
    free_streams: Arc<Semaphore>,
    pub(crate) free_buckets: Arc<Semaphore>,
    pub(crate) stopping: watch::Receiver<bool>,
    started: Instant,
}

impl Rlqs {
    /// A service whose shares live for `ttl` nanoseconds. Its streams end when `stopping` is set.
    #[expect(clippy::disallowed_methods, reason = "the log of failures is in real time")]
    pub(crate) fn new(
        rules: Arc<CurrentRules>,
        ttl: u64,
        all_counters: Arc<Counters>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let free_buckets = Arc::new(Semaphore::new(MAX_BUCKETS));
        let free_streams = Arc::new(Semaphore::new(MAX_STREAMS));
        let counters = Arc::clone(&all_counters.rlqs);
        counters.watch((&free_streams, MAX_STREAMS), (&free_buckets, MAX_BUCKETS));
        Self {
            rules,
            ttl,
            hub: Arc::default(),
            counters,
            all_counters,
            free_streams,
            free_buckets,
            stopping,
            started: Instant::now(),
        }
    }

    /// Counts a bucket that no rule matches.
    pub(crate) fn count_unmatched(&self) {
        self.all_counters.unmatched.increment();
    }

    /// Counts a report or a bucket that could not be answered, and logs some of them.
    pub(crate) fn count_failure(&self, reason: &str, rule: &str) {
        const REASONS: [&str; 10] = [
            "bucket_id",
            "corrupt_bucket",
            "domain",
            "quota_cost",
            "quota_of_several_rules",
            "quota_too_slow",
            "store_error",
            "store_timeout",
            "too_many_buckets",
            "undecodable",
        ];
        let reason = REASONS.into_iter().find(|known| *known == reason).unwrap_or("other");
        let due = self.all_counters.failures.count(reason, rule, self.started.elapsed());
        if let Some(failures) = due {
            warn!(reason, rule, failures, "some quotas cannot be assigned");
        }
    }
}

/// The gRPC method of [`Rlqs`].
#[derive(Clone)]
pub(crate) struct RlqsServer {
    service: Arc<Rlqs>,
    max_message_size: usize,
}

impl RlqsServer {
    /// A server that takes messages of up to `max_message_size` bytes.
    pub(crate) fn new(service: Rlqs, max_message_size: usize) -> Self {
        Self { service: Arc::new(service), max_message_size }
    }
}

impl OneMethod for RlqsServer {
    const SERVICE: &'static str = "envoy.service.rate_limit_quota.v3.RateLimitQuotaService";
    const PATH: &'static str =
        "/envoy.service.rate_limit_quota.v3.RateLimitQuotaService/StreamRateLimitQuotas";

    fn respond<B>(&self, request: http::Request<B>) -> Responding
    where
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let method = Method(Arc::clone(&self.service));
        let codec = MessagesCodec::<Reports, Actions>::new();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(self.max_message_size);
        Box::pin(async move { Ok(grpc.streaming(method, request).await) })
    }
}

/// The one method, for one stream.
struct Method(Arc<Rlqs>);

impl StreamingService<Reports> for Method {
    type Response = Actions;
    type ResponseStream = BoxStream<'static, Result<Actions, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Reports>>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            let Ok(permit) = Arc::clone(&service.free_streams).try_acquire_owned() else {
                return Err(Status::resource_exhausted("there are as many streams as are allowed"));
            };
            // One message waits while another is on its way: who reads slowly gets fewer.
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                RlqsStream::new(service, sender).run(request.into_inner()).await;
                drop(permit);
            });
            let actions =
                unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
            Ok(Response::new(Box::pin(actions) as Self::ResponseStream))
        })
    }
}
