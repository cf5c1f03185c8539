//! What is decided about a descriptor, before it is told in the words of a protocol.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use tidegate::{Limiter, TieredDecision};
use tonic::Status;

use crate::response;

/// What is decided about a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Whether a descriptor is over its limit.
    pub(crate) is_over: bool,
    /// What the rules of each descriptor say; none if it has no limit. Errors are only here if another
    /// descriptor is over its limit.
    pub(crate) descriptors: Vec<Result<Vec<Ruling>, Status>>,
}

/// What one rule says to a descriptor, or the limit that the descriptor brings.
#[derive(Debug)]
pub(crate) struct Ruling {
    /// The rule's name; empty if no rule matches.
    pub(crate) rule: String,
    pub(crate) limiter: Limiter,
    pub(crate) verdict: Verdict,
    /// Whether a refusal only counts.
    pub(crate) shadow: bool,
}

/// The decision of a rule.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    Decided(TieredDecision),
    /// The hits are more than this burst, so no wait is long enough.
    Never {
        burst: u64,
    },
    /// The store could not be asked, and the rule only counts.
    Unchecked,
}

impl Answer {
    /// The answer from what the rules of each descriptor say.
    ///
    /// # Errors
    /// The first error, if no descriptor is over its limit.
    pub(crate) fn new(descriptors: Vec<Vec<Result<Ruling, Status>>>) -> Result<Self, Status> {
        let of_descriptor = |rulings: Vec<Result<Ruling, Status>>| match rulings
            .iter()
            .flatten()
            .any(Ruling::refuses)
        {
            true => Ok(rulings.into_iter().flatten().collect()),
            false => rulings.into_iter().collect::<Result<Vec<_>, _>>(),
        };
        let descriptors: Vec<_> = descriptors.into_iter().map(of_descriptor).collect();
        if descriptors.iter().flatten().flatten().any(Ruling::refuses) {
            return Ok(Self { is_over: true, descriptors });
        }
        let decided = descriptors.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Self { is_over: false, descriptors: decided.into_iter().map(Ok).collect() })
    }

    /// The answer in Envoy's protocol.
    pub(crate) fn to_response(&self) -> RateLimitResponse {
        let status = |rulings: &Result<Vec<Ruling>, Status>| match rulings {
            Ok(rulings) => response::strictest(rulings.iter().map(Ruling::status)),
            Err(_) => DescriptorStatus::default(),
        };
        RateLimitResponse {
            overall_code: if self.is_over { Code::OverLimit } else { Code::Ok }.into(),
            statuses: self.descriptors.iter().map(status).collect(),
            ..RateLimitResponse::default()
        }
    }
}

impl Ruling {
    /// Whether the rule's limit is exceeded, also if the rule only counts.
    pub(crate) fn is_exceeded(&self) -> bool {
        match &self.verdict {
            Verdict::Decided(decision) => !decision.allowed,
            Verdict::Never { .. } => true,
            Verdict::Unchecked => false,
        }
    }

    /// Whether the request is refused.
    pub(crate) fn refuses(&self) -> bool {
        self.is_exceeded() && !self.shadow
    }

    /// The status of the descriptor if this rule alone decides.
    fn status(&self) -> DescriptorStatus {
        let mut status = match &self.verdict {
            Verdict::Decided(decision) => response::descriptor_status(&self.limiter, decision),
            Verdict::Never { burst } => response::never(&self.limiter, *burst),
            Verdict::Unchecked => response::unlimited(),
        };
        if !self.refuses() {
            status.code = Code::Ok.into();
        }
        status
    }
}
