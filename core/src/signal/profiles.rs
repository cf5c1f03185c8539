//! The built-in profiles, and the names that every profile reads.

use super::profile::{Meaning, Profile, Row, Unit};
use super::{HoldScope, SECOND};

/// What follows `RateLimit`, `X-RateLimit` or `X-Rate-Limit` in a header's name. The name of a limit
/// may come behind these (`-limit-minute`) or before the last of them (`-requests-reset`), and `-ms`
/// behind a time that is in milliseconds.
pub(super) const USUAL: &[Row<'_>] = &[
    Row::new("-limit", Meaning::Limit),
    Row::new("-remaining", Meaning::Remaining),
    Row::new("-reset-after", Meaning::Reset).unit(Unit::Seconds).group(ALONE),
    Row::new("-reset-in", Meaning::Reset).unit(Unit::Seconds).group(ALONE),
    Row::new("-resettime", Meaning::Reset).group(ALONE),
    Row::new("-reset", Meaning::Reset),
    Row::new("-retry-after", Meaning::RetryAfter).group(ALONE),
    Row::new("-next", Meaning::RetryAfter).group(ALONE),
    Row::new("-bucket", Meaning::Bucket).group(ALONE),
    Row::new("-resource", Meaning::Bucket).group(ALONE),
    Row::new("-global", Meaning::Global).group(ALONE),
    Row::new("-scope", Meaning::Reason).group(ALONE),
    Row::new("-reason", Meaning::Reason).group(ALONE),
];

/// The mark of a name that no limit's name follows.
const ALONE: &str = "-";

/// The field of a body that is a text for people.
pub(super) const MESSAGE: &str = "body.message";

/// Fields of bodies that every profile reads.
pub(super) const STANDARD_BODY: &[Row<'_>] = &[
    Row::new("body.retry_after", Meaning::RetryAfter),
    Row::new("body.retry_after_ms", Meaning::RetryAfter).unit(Unit::Milliseconds),
    Row::new("body.type", Meaning::Reason),
    Row::new("body.code", Meaning::Reason),
    Row::new("body.error", Meaning::Reason),
    Row::new(MESSAGE, Meaning::Reason),
    Row::new("body.violated-policies", Meaning::Violated),
];

/// The domains of the vendors' APIs, and the profiles' names. A vendor whose software others run too
/// (GitLab, Kong) has only its own host here.
pub(super) const HOSTS: &[(&str, &str)] = &[
    ("akamaiapis.net", "akamai"),
    ("amazonaws.com", "aws"),
    ("api.anthropic.com", "anthropic"),
    ("api.github.com", "github"),
    ("uploads.github.com", "github"),
    ("api.groq.com", "groq"),
    ("api.hubapi.com", "hubspot"),
    ("api.linear.app", "linear"),
    ("api.mailerlite.com", "mailerlite"),
    ("connect.mailerlite.com", "mailerlite"),
    ("api.openai.com", "openai"),
    ("api.stripe.com", "stripe"),
    ("files.stripe.com", "stripe"),
    ("api.twitter.com", "x"),
    ("api.vimeo.com", "vimeo"),
    ("api.x.com", "x"),
    ("atlassian.net", "jira"),
    ("discord.com", "discord"),
    ("discordapp.com", "discord"),
    ("docker.io", "docker"),
    ("gitlab.com", "gitlab"),
    ("management.azure.com", "azure"),
    ("myshopify.com", "shopify"),
    ("oauth.reddit.com", "reddit"),
    ("okta.com", "okta"),
    ("openai.azure.com", "azure"),
    ("slack.com", "slack"),
];

/// A profile that only has a name.
const fn plain(name: &'static str) -> Profile<'static> {
    Profile {
        name,
        rows: &[],
        scope: HoldScope::Credential,
        margin: 0,
        refills: false,
        unstated_hold: 0,
    }
}

impl Profile<'static> {
    /// The profile of a vendor that is not known: standard headers, and the usual names.
    pub const GENERIC: Self = plain("generic");

    /// The built-in profiles.
    pub const BUILT_IN: &'static [Self] = &[
        Self::GENERIC,
        Profile { rows: ANTHROPIC, refills: true, ..plain("anthropic") },
        plain("akamai"),
        plain("aws"),
        Profile { rows: AZURE, ..plain("azure") },
        Profile { rows: DISCORD, scope: HoldScope::Bucket, ..plain("discord") },
        plain("docker"),
        Profile { margin: SECOND, unstated_hold: 60 * SECOND, ..plain("github") },
        plain("gitlab"),
        Profile { refills: true, ..plain("groq") },
        Profile { rows: HUBSPOT, ..plain("hubspot") },
        plain("jira"),
        plain("kong"),
        plain("linear"),
        plain("mailerlite"),
        plain("okta"),
        Profile { refills: true, ..plain("openai") },
        plain("reddit"),
        Profile { rows: SHOPIFY, ..plain("shopify") },
        Profile { scope: HoldScope::Bucket, ..plain("slack") },
        Profile { rows: STRIPE, ..plain("stripe") },
        plain("vimeo"),
        plain("x"),
    ];
}

const ANTHROPIC: &[Row<'_>] = &[
    Row::new("anthropic-ratelimit-requests-limit", Meaning::Limit).group("requests"),
    Row::new("anthropic-ratelimit-requests-remaining", Meaning::Remaining).group("requests"),
    Row::new("anthropic-ratelimit-requests-reset", Meaning::Reset).group("requests"),
    Row::new("anthropic-ratelimit-tokens-limit", Meaning::Limit).group("tokens"),
    Row::new("anthropic-ratelimit-tokens-remaining", Meaning::Remaining).group("tokens"),
    Row::new("anthropic-ratelimit-tokens-reset", Meaning::Reset).group("tokens"),
    Row::new("anthropic-ratelimit-input-tokens-limit", Meaning::Limit).group("input-tokens"),
    Row::new("anthropic-ratelimit-input-tokens-remaining", Meaning::Remaining)
        .group("input-tokens"),
    Row::new("anthropic-ratelimit-input-tokens-reset", Meaning::Reset).group("input-tokens"),
    Row::new("anthropic-ratelimit-output-tokens-limit", Meaning::Limit).group("output-tokens"),
    Row::new("anthropic-ratelimit-output-tokens-remaining", Meaning::Remaining)
        .group("output-tokens"),
    Row::new("anthropic-ratelimit-output-tokens-reset", Meaning::Reset).group("output-tokens"),
];

const AZURE: &[Row<'_>] = &[
    Row::new("x-ms-ratelimit-remaining-subscription-reads", Meaning::Remaining)
        .group("subscription-reads"),
    Row::new("x-ms-ratelimit-remaining-subscription-writes", Meaning::Remaining)
        .group("subscription-writes"),
    Row::new("x-ms-ratelimit-remaining-tenant-reads", Meaning::Remaining).group("tenant-reads"),
    Row::new("x-ms-ratelimit-remaining-tenant-writes", Meaning::Remaining).group("tenant-writes"),
];

const DISCORD: &[Row<'_>] = &[
    // Clients read these seconds as milliseconds.
    Row::new("body.retry_after", Meaning::RetryAfter).unit(Unit::Seconds),
    Row::new("body.global", Meaning::Global),
];

const HUBSPOT: &[Row<'_>] = &[
    Row::new("x-hubspot-ratelimit-max", Meaning::Limit),
    Row::new("x-hubspot-ratelimit-remaining", Meaning::Remaining),
    Row::new("x-hubspot-ratelimit-interval-milliseconds", Meaning::Window).unit(Unit::Milliseconds),
    Row::new("x-hubspot-ratelimit-secondly", Meaning::Limit).group("second"),
    Row::new("x-hubspot-ratelimit-secondly-remaining", Meaning::Remaining).group("second"),
    Row::new("x-hubspot-ratelimit-daily", Meaning::Limit).group("day"),
    Row::new("x-hubspot-ratelimit-daily-remaining", Meaning::Remaining).group("day"),
];

const SHOPIFY: &[Row<'_>] = &[
    Row::new("x-shopify-shop-api-call-limit", Meaning::UsedOfLimit),
    Row::new("body.throttlestatus.maximumavailable", Meaning::Limit).group("points"),
    Row::new("body.throttlestatus.currentlyavailable", Meaning::Remaining).group("points"),
    Row::new("body.throttlestatus.restorerate", Meaning::RestoreRate).group("points"),
    Row::new("body.cost.requestedquerycost", Meaning::Cost).group("points"),
];

const STRIPE: &[Row<'_>] = &[Row::new("stripe-rate-limited-reason", Meaning::Reason)];
