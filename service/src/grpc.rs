//! The gRPC method of Envoy's rate limit service, which takes what Envoy sends.
//!
//! Envoy puts the bytes of headers into fields that the protocol declares as text. The generated
//! codec refuses a message in which such a field is not UTF-8, so that one header of a client would
//! fail the whole request, and Envoy would let it pass all limits.

use core::future::ready;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::protobuf::UInt64Value;
use prost::Message;
use tidegate::StoredKey;
use tokio::sync::Semaphore;
use tonic::codegen::{Body, BoxFuture, StdError, http};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use crate::grpc_server::{OneMethod, Responding};
use crate::http_api::HttpApi;
use crate::messages_codec::MessagesCodec;
use crate::open_responses::CountedBody;
use crate::quota_service::QuotaService;

/// The metadata of a request whose hits have been used already, as Tidegate's filter sends it once a response has
/// told more than was reserved. Another service charges the hits if they fit.
const REPORT: &str = "tidegate-report";

/// The gRPC method of [`QuotaService`].
#[derive(Clone)]
pub(crate) struct QuotaServer {
    service: Arc<QuotaService>,
    max_message_size: usize,
    /// A permit for each request that may be pending.
    free: Arc<Semaphore>,
}

impl QuotaServer {
    /// A server that takes requests of up to `max_message_size` bytes, and has up to `max_pending` of
    /// them pending.
    pub(crate) fn new(service: QuotaService, max_message_size: usize, max_pending: usize) -> Self {
        let free = Arc::new(Semaphore::new(max_pending));
        Self { service: Arc::new(service), max_message_size, free }
    }

    /// The JSON API of the same service, with the same bounds.
    pub(crate) fn http_api(&self) -> HttpApi {
        let (service, free) = (Arc::clone(&self.service), Arc::clone(&self.free));
        HttpApi { service, free, max_body: self.max_message_size }
    }
}

impl OneMethod for QuotaServer {
    const SERVICE: &'static str = "envoy.service.ratelimit.v3.RateLimitService";
    const PATH: &'static str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

    fn respond<B>(&self, request: http::Request<B>) -> Responding
    where
        B: Body + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let service = Arc::clone(&self.service);
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            let status = service.too_many_pending();
            return Box::pin(ready(Ok(status.into_http())));
        };
        let codec = MessagesCodec::<BytesRequest, RateLimitResponse>::new();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(self.max_message_size);
        Box::pin(async move {
            let is_decoded = Arc::new(AtomicBool::new(false));
            let method =
                Method { service: Arc::clone(&service), is_decoded: Arc::clone(&is_decoded) };
            let response = grpc.unary(method, request).await;
            if !is_decoded.load(Ordering::Relaxed) {
                service.count_undecodable(response.headers());
            }
            Ok(response.map(|body| tonic::body::Body::new(CountedBody::new(body, permit))))
        })
    }
}

/// The one method, for one request.
struct Method {
    service: Arc<QuotaService>,
    /// Whether the request could be decoded, so that the method has been called.
    is_decoded: Arc<AtomicBool>,
}

impl UnaryService<BytesRequest> for Method {
    type Response = RateLimitResponse;
    type Future = BoxFuture<Response<RateLimitResponse>, Status>;

    fn call(&mut self, request: Request<BytesRequest>) -> Self::Future {
        self.is_decoded.store(true, Ordering::Relaxed);
        let service = Arc::clone(&self.service);
        let is_report = request.metadata().contains_key(REPORT);
        Box::pin(async move {
            service.should_rate_limit(request.into_inner().into_text(), is_report).await
        })
    }
}

/// A [`RateLimitRequest`] whose texts are any bytes.
#[derive(Clone, PartialEq, Message)]
struct BytesRequest {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<BytesDescriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

/// A [`RateLimitDescriptor`] whose texts are any bytes.
#[derive(Clone, PartialEq, Message)]
struct BytesDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<BytesEntry>,
    #[prost(message, optional, tag = "2")]
    limit: Option<RateLimitOverride>,
    #[prost(message, optional, tag = "3")]
    hits_addend: Option<UInt64Value>,
    #[prost(bool, tag = "4")]
    is_negative_hits: bool,
}

/// An [`Entry`] whose texts are any bytes.
#[derive(Clone, PartialEq, Message)]
struct BytesEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl BytesRequest {
    /// The request with each text that is not UTF-8 replaced by its digest.
    fn into_text(self) -> RateLimitRequest {
        RateLimitRequest {
            domain: into_text(self.domain),
            descriptors: self.descriptors.into_iter().map(BytesDescriptor::into_text).collect(),
            hits_addend: self.hits_addend,
        }
    }
}

impl BytesDescriptor {
    fn into_text(self) -> RateLimitDescriptor {
        let entry =
            |BytesEntry { key, value }| Entry { key: into_text(key), value: into_text(value) };
        RateLimitDescriptor {
            entries: self.entries.into_iter().map(entry).collect(),
            limit: self.limit,
            hits_addend: self.hits_addend,
            is_negative_hits: self.is_negative_hits,
        }
    }
}

/// The text itself, of any length, so that rules can match it; the digest of bytes that are none.
pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        String::from_utf8_lossy(StoredKey::text(error.as_bytes()).as_bytes()).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_and_other_bytes_become_their_digest() {
        assert_eq!(into_text("é".repeat(2000).into_bytes()), "é".repeat(2000));
        let digest = into_text(b"\xFF".to_vec());
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
        assert_ne!(into_text(b"\xFE".to_vec()), digest);
    }

    #[test]
    fn a_request_is_read_as_the_generated_codec_reads_it() -> Result<(), prost::DecodeError> {
        let request = RateLimitRequest {
            domain: "edge".to_owned(),
            descriptors: vec![
                RateLimitDescriptor {
                    entries: vec![Entry { key: "k".to_owned(), value: "v".to_owned() }],
                    limit: Some(RateLimitOverride { requests_per_unit: 7, unit: 2 }),
                    hits_addend: Some(UInt64Value { value: u64::MAX }),
                    is_negative_hits: true,
                },
                RateLimitDescriptor::default(),
            ],
            hits_addend: 3,
        };
        let bytes = request.encode_to_vec();
        assert_eq!(BytesRequest::decode(&*bytes)?.into_text(), request);
        Ok(())
    }
}
