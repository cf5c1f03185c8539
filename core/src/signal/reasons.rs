//! The words by which vendors tell why they refused a call.

use super::fields::trim;
use super::{HoldScope, SignalKind};

/// What a word tells; `None` for a word that is not known.
pub(super) fn reason(word: &[u8]) -> Option<(Option<SignalKind>, Option<HoldScope>)> {
    let word = trim(word);
    // A problem type is a URI, and its fragment is the word.
    let word = word.rsplit(|&byte| byte == b'#').next().unwrap_or(word);
    let is_it = |known: &&Known| {
        let known = known.0.as_bytes();
        // A sentence has the words somewhere in it.
        known.eq_ignore_ascii_case(word)
            || known.contains(&b' ')
                && word.windows(known.len()).any(|part| part.eq_ignore_ascii_case(known))
    };
    WORDS.iter().find(is_it).map(|known| (known.1, known.2))
}

type Known = (&'static str, Option<SignalKind>, Option<HoldScope>);

const WORDS: &[Known] = {
    use HoldScope::{Bucket, Credential, Vendor};
    use SignalKind::{Abuse, Concurrency, Overload, Quota, Rate};
    &[
        // The problem types of the RateLimit draft.
        ("quota-exceeded", Some(Rate), None),
        ("temporary-reduced-capacity", Some(Overload), Some(Vendor)),
        ("abnormal-usage-detected", Some(Abuse), Some(Credential)),
        // Stripe
        ("global-rate", Some(Rate), Some(Credential)),
        ("global-concurrency", Some(Concurrency), Some(Credential)),
        ("endpoint-rate", Some(Rate), Some(Bucket)),
        ("endpoint-concurrency", Some(Concurrency), Some(Bucket)),
        ("resource-specific", Some(Rate), Some(Bucket)),
        ("lock_timeout", Some(Concurrency), Some(Bucket)),
        // Jira
        ("jira-burst-based", Some(Rate), Some(Bucket)),
        ("jira-per-issue-on-write", Some(Rate), Some(Bucket)),
        ("jira-cost-based", Some(Rate), Some(Credential)),
        ("jira-quota-based", Some(Quota), Some(Credential)),
        ("jira-quota-global-based", Some(Quota), Some(Credential)),
        ("jira-quota-tenant-based", Some(Quota), Some(Credential)),
        // Discord
        ("user", None, Some(Bucket)),
        ("shared", None, Some(Bucket)),
        ("global", None, Some(Credential)),
        // OpenAI and Anthropic
        ("insufficient_quota", Some(Quota), Some(Credential)),
        ("rate_limit_exceeded", Some(Rate), None),
        ("rate_limit_error", Some(Rate), None),
        ("overloaded_error", Some(Overload), Some(Vendor)),
        // Shopify, Slack, GitHub
        ("THROTTLED", Some(Rate), None),
        ("ratelimited", Some(Rate), None),
        ("secondary rate limit", Some(Rate), Some(Credential)),
    ]
};
