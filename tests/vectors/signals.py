"""The cases of signals.json: every form of a vendor's limits, each plain and in the ways that it goes wrong."""

import re

from signals_oracle import read_signal

SECOND = 10**9
# Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples, and one of these years.
DATE, DATE_SECONDS = "Mon, 05 Jan 2026 10:00:00 GMT", 1_767_607_200
NOW = DATE_SECONDS * SECOND
MAX_HOLD = 900 * SECOND
HUGE = "9" * 30
# Headers that stay as they are in a variant that changes values.
FIXED = {"date", "age"}
ACME = [
    {"header": "Acme-Left", "meaning": "remaining", "group": "minute"},
    {"header": "Acme-Max", "meaning": "limit", "group": "minute"},
    {"header": "Acme-Wait", "meaning": "retry_after", "unit": "milliseconds"},
    {"header": "Acme-Window-Ends", "meaning": "reset", "unit": "epoch_seconds", "group": "minute"},
    {"header": "Acme-Shard", "meaning": "bucket"},
    {"header": "body.quota.left", "meaning": "remaining", "group": "day"},
]


def epoch(seconds: float) -> str:
    return f"{DATE_SECONDS + seconds:.6f}".rstrip("0").rstrip(".")


# name, profile, status, headers, body. Each gets all variants.
ROWS: list[tuple[str, object, int, list[tuple[str, str]], object]] = [
    ("Retry-After in seconds", "generic", 429, [("Retry-After", "120")], None),
    ("Retry-After as an IMF-fixdate", "generic", 503, [("Retry-After", "Mon, 05 Jan 2026 10:02:00 GMT")], None),
    ("Retry-After as in RFC 850", "generic", 503, [("Retry-After", "Monday, 05-Jan-26 10:02:00 GMT")], None),
    ("Retry-After as of asctime", "generic", 503, [("Retry-After", "Mon Jan  5 10:02:00 2026")], None),
    ("Retry-After as RFC 3339", "generic", 429, [("Retry-After", "2026-01-05T11:01:30.250+01:00")], None),
    ("Retry-After as seconds since 1970", "generic", 429, [("Retry-After", epoch(30))], None),
    ("Shopify: decimal seconds", "shopify", 429, [("Retry-After", "2.0"), ("X-Shopify-Shop-Api-Call-Limit", "40/40")], None),
    ("Shopify: used of limit", "shopify", 200, [("X-Shopify-Shop-Api-Call-Limit", "39/40")], None),
    ("Shopify: points", "shopify", 200, [], {"extensions": {"cost": {"requestedQueryCost": 101, "actualQueryCost": 46, "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 54, "restoreRate": 50.0}}}}),
    ("Shopify: throttled", "shopify", 200, [], {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], "extensions": {"cost": {"requestedQueryCost": 502, "throttleStatus": {"maximumAvailable": 1000, "currentlyAvailable": 50, "restoreRate": 50}}}}),
    ("milliseconds go before seconds", "openai", 429, [("Retry-After", "2"), ("retry-after-ms", "1250")], None),
    ("Azure: milliseconds", "azure", 429, [("x-ms-retry-after-ms", "450.5"), ("x-ms-ratelimit-remaining-subscription-reads", "11999")], None),
    ("AWS: milliseconds", "aws", 503, [("x-amz-retry-after", "1500")], None),
    ("x-should-retry: false", "openai", 429, [("x-should-retry", "false"), ("Retry-After", "1")], None),
    ("x-should-retry: true", "openai", 409, [("x-should-retry", "true")], None),
    ("RateLimit of the standard", "generic", 200, [("RateLimit", '"default";r=50;t=30'), ("RateLimit-Policy", '"default";q=100;w=60')], None),
    ("RateLimit with several policies", "generic", 200, [("Ratelimit", '"burst";r=0;t=7, "daily";r=900;t=40000'), ("Ratelimit-Policy", '"burst";q=10;w=10;qu="requests",\t"daily";q=1000;w=86400;pk=:cHNsYQ==:')], None),
    ("RateLimit with tokens as names", "generic", 429, [("RateLimit", "problemPolicy;t=10"), ("RateLimit-Policy", "problemPolicy;q=10;w=1;?0")], None),
    ("RateLimit beyond its policy", "generic", 200, [("RateLimit", '"a";r=1000;t=10'), ("RateLimit-Policy", '"a";q=10;w=1')], None),
    ("RateLimit that is spent", "generic", 200, [("RateLimit", '"default";r=0;t=30'), ("X-RateLimit-Retry-After", "5")], None),
    ("Retry-After goes before RateLimit", "generic", 429, [("RateLimit", '"default";r=0;t=30'), ("Retry-After", "3")], None),
    ("RateLimit that is malformed", "generic", 200, [("RateLimit", '"default;r=0;t=30'), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9")], None),
    ("RateLimit as a dictionary", "generic", 200, [("RateLimit", "limit=100, remaining=0, reset=50"), ("RateLimit-Policy", "100;w=60, 1000;w=3600")], None),
    ("RateLimit that a response from a cache has kept", "generic", 200, [("RateLimit", '"default";r=0;t=30'), ("Age", "5")], None),
    ("Retry-After that a response from a cache has kept", "generic", 503, [("Retry-After", "30"), ("Age", "5")], None),
    ("drafts 3 to 6: a delta", "generic", 429, [("RateLimit-Limit", "10, 10;w=1, 50;w=60"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "1")], None),
    ("GitLab: seconds since 1970, and a date", "gitlab", 429, [("RateLimit-Limit", "600"), ("RateLimit-Observed", "601"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", epoch(42)), ("RateLimit-ResetTime", "Mon, 05 Jan 2026 10:00:42 GMT")], None),
    ("Docker Hub: the window, and no reset", "docker", 429, [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600"), ("docker-ratelimit-source", "192.0.2.1")], None),
    ("Docker Hub: something is left", "docker", 200, [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")], None),
    ("GitHub: the primary limit", "github", 403, [("X-RateLimit-Limit", "5000"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Used", "5000"), ("X-RateLimit-Resource", "core"), ("X-RateLimit-Reset", epoch(120))], None),
    ("GitHub: the secondary limit", "github", 403, [("X-RateLimit-Remaining", "4998"), ("X-RateLimit-Reset", epoch(120))], {"message": "You have exceeded a secondary rate limit."}),
    ("GitHub: a right is missing", "github", 403, [("X-RateLimit-Remaining", "4998"), ("X-RateLimit-Reset", epoch(120))], {"message": "Resource not accessible"}),
    ("GitHub: a refusal that says nothing", "github", 429, [], None),
    ("Reddit: decimals", "reddit", 200, [("X-Ratelimit-Used", "2"), ("X-Ratelimit-Remaining", "0.0"), ("X-Ratelimit-Reset", "37.5")], None),
    ("Envoy: policies behind the limit", "generic", 429, [("x-ratelimit-limit", '10, 10;w=1;name="a", 100;w=60'), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")], None),
    ("Discord: a bucket", "discord", 200, [("X-RateLimit-Limit", "5"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", epoch(1.25)), ("X-RateLimit-Reset-After", "0.75"), ("X-RateLimit-Bucket", "abcd1234")], None),
    ("Discord: refused in a bucket", "discord", 429, [("X-RateLimit-Bucket", "abcd1234"), ("X-RateLimit-Scope", "user")], {"message": "You are being rate limited.", "retry_after": 64.57, "global": False}),
    ("Discord: refused in all", "discord", 429, [("Retry-After", "65"), ("X-RateLimit-Global", "true"), ("X-RateLimit-Scope", "global")], {"retry_after": 64.57, "global": True}),
    ("Discord: a shared limit", "discord", 429, [("Retry-After", "4"), ("X-RateLimit-Scope", "shared")], None),
    ("Vimeo: an IMF-fixdate", "vimeo", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "Mon, 05 Jan 2026 10:00:09 GMT")], None),
    ("Jira: no seconds, per endpoint", "jira", 429, [("X-RateLimit-Reset", "2026-01-05T10:03Z"), ("RateLimit-Reason", "jira-burst-based")], None),
    ("Jira: per issue", "jira", 429, [("Retry-After", "7"), ("RateLimit-Reason", "jira-per-issue-on-write")], None),
    ("lemlist: a date of JavaScript", "generic", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "Mon Jan 05 2026 11:00:42 GMT+0100 (Central European Standard Time)")], None),
    ("Linear: milliseconds since 1970", "linear", 429, [("X-RateLimit-Requests-Limit", "1500"), ("X-RateLimit-Requests-Remaining", "0"), ("X-RateLimit-Requests-Reset", str(DATE_SECONDS * 1000 + 12_345)), ("X-RateLimit-Complexity-Remaining", "9")], None),
    ("RapidAPI: the same name in seconds", "generic", 429, [("X-RateLimit-Requests-Remaining", "0"), ("X-RateLimit-Requests-Reset", "2163603")], None),
    ("X, Okta: another hyphen", "x", 429, [("x-rate-limit-limit", "900"), ("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", epoch(300))], None),
    ("OpenAI: durations", "openai", 429, [("x-ratelimit-limit-requests", "60"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s"), ("x-ratelimit-limit-tokens", "150000"), ("x-ratelimit-remaining-tokens", "149984"), ("x-ratelimit-reset-tokens", "17ms")], None),
    ("OpenAI: the quota is used up", "openai", 429, [("x-ratelimit-remaining-requests", "59")], {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}),
    ("durations with fractions and other units", "generic", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1h2m3.5s500us1ns")], None),
    ("Anthropic: RFC 3339", "anthropic", 200, [("anthropic-ratelimit-requests-limit", "50"), ("anthropic-ratelimit-requests-remaining", "49"), ("anthropic-ratelimit-requests-reset", "2026-01-05T10:00:01Z"), ("anthropic-ratelimit-output-tokens-limit", "8000"), ("anthropic-ratelimit-output-tokens-remaining", "0"), ("anthropic-ratelimit-output-tokens-reset", "2026-01-05T10:01:00Z")], None),
    ("Anthropic: overloaded", "anthropic", 529, [], {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("Stripe: the endpoint's rate", "stripe", 429, [("Stripe-Rate-Limited-Reason", "endpoint-rate")], None),
    ("Stripe: concurrency", "stripe", 429, [("Stripe-Rate-Limited-Reason", "global-concurrency"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")], None),
    ("Stripe: a lock", "stripe", 429, [], {"error": {"code": "lock_timeout", "type": "invalid_request_error"}}),
    ("HubSpot: windows without a reset", "hubspot", 429, [("X-HubSpot-RateLimit-Interval-Milliseconds", "10000"), ("X-HubSpot-RateLimit-Max", "100"), ("X-HubSpot-RateLimit-Remaining", "0"), ("X-HubSpot-RateLimit-Daily", "250000"), ("X-HubSpot-RateLimit-Daily-Remaining", "249000"), ("X-HubSpot-RateLimit-Secondly", "10"), ("X-HubSpot-RateLimit-Secondly-Remaining", "9")], None),
    ("Kong: the window in the name", "kong", 429, [("X-RateLimit-Limit-Minute", "20"), ("X-RateLimit-Remaining-Minute", "0"), ("X-RateLimit-Limit-Hour", "500"), ("X-RateLimit-Remaining-Hour", "480")], None),
    ("Slack: per method", "slack", 429, [("Retry-After", "30")], {"ok": False, "error": "ratelimited"}),
    ("Akamai: when the next call may come", "akamai", 429, [("X-RateLimit-Limit", "60"), ("X-RateLimit-Next", "2026-01-05T10:00:09Z")], None),
    ("MailerLite: a wait of its own", "mailerlite", 429, [("X-RateLimit-Retry-After", "59"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "70")], None),
    ("gRPC: a pushback", "generic", 200, [("grpc-retry-pushback-ms", "250")], None),
    ("a problem: the quota", "generic", 429, [("RateLimit", '"a";r=5;t=9, "b";r=8;t=5')], {"type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "violated-policies": ["b"]}),
    ("a problem: reduced capacity", "generic", 503, [("Retry-After", "20")], {"type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"}),
    ("a problem: abuse", "generic", 429, [], {"type": "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"}),
    ("a reset in milliseconds", "generic", 429, [("X-RateLimit-Limit", "10"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-Ms", "1500")], None),
    ("a reset in milliseconds since 1970", "generic", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-Ms", str(DATE_SECONDS * 1000 + 1500))], None),
    ("a reset in so many milliseconds", "generic", 200, [("X-Rate-Limit-Remaining", "0"), ("X-Rate-Limit-Reset-In-Ms", "1500.5")], None),
    ("a reset in so many seconds", "generic", 200, [("RateLimit-Remaining", "0"), ("RateLimit-Reset-In", "90")], None),
    ("a reset after milliseconds", "generic", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-After-Ms", "750")], None),
    ("a wait in milliseconds of the usual names", "generic", 429, [("X-RateLimit-Retry-After-Ms", "1500")], None),
    ("a wait in milliseconds of a body", "generic", 429, [], {"error": {"retry_after_ms": 1500}}),
    ("limits whose resets are in milliseconds", "generic", 429, [("X-RateLimit-Remaining-Tokens", "0"), ("X-RateLimit-Reset-Tokens-Ms", "1500"), ("X-RateLimit-Requests-Remaining", "0"), ("X-RateLimit-Requests-Reset-Ms", "2500")], None),
    ("a profile of one's own", ACME, 429, [("acme-left", "0"), ("ACME-Max", "30"), ("Acme-Window-Ends", epoch(20)), ("Acme-Shard", "eu-1")], {"quota": {"left": 7}}),
    ("a profile of one's own: a wait", ACME, 429, [("Acme-Wait", "2500"), ("Acme-Left", "0"), ("Acme-Window-Ends", epoch(20))], None),
]  # fmt: skip

# name, status, headers, body: cases without variants, on the generic profile unless the name says another.
SINGLE = [
    *((f"the status {status} alone", status, [], None) for status in (0, 200, 302, 400, 401, 402, 403, 404, 407, 408, 409, 420, 425, 429, 430, 500, 501, 502, 503, 504, 505, 529, 599)),
    ("a success that is to be polled", 202, [("Retry-After", "10")], None),
    ("a redirection that is to come later", 302, [("Retry-After", "10")], None),
    ("a 403 with a wait", 403, [("Retry-After", "10")], None),
    ("gRPC: no retry by a negative pushback", 200, [("grpc-retry-pushback-ms", "-1")], None),
    ("gRPC: no retry by a pushback that is no number", 200, [("grpc-retry-pushback-ms", "soon")], None),
    ("a wait above the bound is kept as asked", 429, [("Retry-After", "3600")], None),
    ("a reset without what is left counts after a refusal", 429, [("X-RateLimit-Reset", "12")], None),
    ("a reset without what is left says nothing after a success", 200, [("X-RateLimit-Reset", "12")], None),
    ("something is left, so the reset does not hold", 429, [("X-RateLimit-Remaining", "3"), ("X-RateLimit-Reset", "12")], None),
    ("of two spent limits the later reset holds", 200, [("X-RateLimit-Remaining-A", "0"), ("X-RateLimit-Reset-A", "5"), ("X-RateLimit-Remaining-B", "0"), ("X-RateLimit-Reset-B", "8"), ("X-RateLimit-Remaining-C", "1"), ("X-RateLimit-Reset-C", "80")], None),
    ("the smallest share binds", 200, [("X-RateLimit-Limit-A", "1000"), ("X-RateLimit-Remaining-A", "90"), ("X-RateLimit-Limit-B", "10"), ("X-RateLimit-Remaining-B", "1")], None),
    ("nine limits, of which eight are read", 200, [(f"X-RateLimit-Remaining-{name}", str(50 - number)) for number, name in enumerate("abcdefghi")], None),
    ("below the first second since 1970 that counts as such", 429, [("Retry-After", "999999999")], None),
    ("the first second since 1970 that counts as such", 429, [("Retry-After", "1000000000")], None),
    ("below the first millisecond since 1970 that counts as such", 429, [("Retry-After", "99999999999")], None),
    ("the first millisecond since 1970 that counts as such", 429, [("Retry-After", "100000000000")], None),
    *((f"no time: {text!r}", 429, [("Retry-After", text)], None) for text in (
        "soon", "1.", ".5", "+5", "1e3", "0x10", "--1", "5 5", "10 s", "5x", "1,5x", "2026-13-01T10:00:00Z", "2026-02-29T10:00:00Z",
        "2026-01-05", "2026-01-05T24:00:00Z", "Mon, 05 Foo 2026 10:02:00 GMT", "Mon, 05 Jan 2026", "Mon, 05 Jan 2026 10:02:00 EST",
        "Mon, 05 Jan 2026 10:61:00 GMT", "Mon Jan 05 2026 10:02:00 GMT+01", "- 5", "5,", ", ,",
    )),
    ("of a reset in seconds and in milliseconds the later", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "2"), ("X-RateLimit-Reset-Ms", "1500")], None),
    ("milliseconds with a unit", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-Ms", "3s")], None),
    ("a date in milliseconds", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-Ms", "2026-01-05T10:00:09Z")], None),
    ("below the first millisecond since 1970 of a name in milliseconds", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-Ms", "99999999999")], None),
    ("the first millisecond since 1970 of a name in milliseconds", 429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-Ms", "100000000000")], None),
    ("a limit with the name ms", 200, [("X-RateLimit-Limit-Ms", "10"), ("X-RateLimit-Remaining-Ms", "4")], None),
    ("a leap day", 429, [("Date", "Thu, 29 Feb 2024 00:00:00 GMT"), ("Retry-After", "2024-03-01T00:00:05Z")], None),
    ("no leap day in 2100", 429, [("Date", "Sun, 28 Feb 2100 23:59:55 GMT"), ("Retry-After", "2100-03-01T00:00:05Z")], None),
    ("a time before 1970", 429, [("Retry-After", "Mon, 05 Jan 1925 10:02:00 GMT")], None),
    ("a date that cannot be read leaves the clock", 429, [("Date", "yesterday"), ("Retry-After", "Mon, 05 Jan 2026 10:02:00 GMT")], None),
    ("a duration goes before a point in time", 429, [("Retry-After", "Mon, 05 Jan 2026 10:02:00 GMT"), ("retry-after", "7")], None),
    ("a type that is a word of a header", 200, [], {"type": "user"}),
    *((f"{status}: a message that quotes what the call sent", status, [], {"message": "Honour the secondary rate limit"}) for status in (200, 201, 302, 404, 422)),
    *((f"{status}: a message of the secondary limit", status, [], {"message": "You have exceeded a secondary rate limit."}) for status in (403, 429)),
    ("a message of a word alone", 422, [], {"message": "rate_limit_exceeded"}),
    ("a sentence in an error that is no message", 422, [], {"error": "The title has the words secondary rate limit"}),
    ("a list of commits whose messages tell of limits", 200, [], [{"sha": "1", "commit": {"message": "Back off on GitHub's secondary rate limit"}}]),
    ("a batch that lists the errors of its parts", 200, [], {"object": "batch", "errors": {"data": [{"code": "rate_limit_exceeded", "message": "x"}]}}),
    ("a list of jobs with their errors", 200, [], {"data": [{"id": 1, "error": {"code": "rate_limit_exceeded"}}]}),
    ("a body that is a list of jobs with their errors", 200, [], [{"id": 1, "error": "ratelimited"}, {"id": 2, "error": {"type": "overloaded_error"}}]),
    ("a list of errors of a refusal", 503, [], [{"code": "rate_limit_exceeded"}]),
    ("a wait in a list that is the whole body", 429, [], [{"retry_after": 3}]),
    *((f"{status}: a word at the top that is no error", status, [], {"code": "rate_limit_exceeded", "type": "overloaded_error"}) for status in (0, 200, 302)),
    ("an event of a webhook that was taken", 200, [], {"data": {"object": {"code": "lock_timeout"}}}),
    *((f"a success with the error of the call: {name}", 200, [], body) for name, body in (
        ("a word", {"ok": False, "error": "ratelimited"}),
        ("an object", {"error": {"type": "rate_limit_error", "message": "x"}}),
        ("GraphQL", {"data": None, "errors": [{"message": "x", "extensions": {"code": "RATE_LIMIT_EXCEEDED"}}]}),
        ("a list", {"errors": [{"code": "insufficient_quota"}]}),
        ("in another case", {"Errors": [{"Extensions": {"Code": "throttled"}}]}),
    )),
    *((f"{status}: a word at any depth", status, [], {"fault": {"detail": {"code": "rate_limit_exceeded"}}}) for status in (200, 399, 400, 500)),
    *((f"no RateLimit: {text}", 429, [("RateLimit", text)], None) for text in (
        '"a";r=0;t=5,', '"a";r=0;t=5;', '"a"r=0', '("a" "b");r=0', '"a";R=0;t=5 x', "5 5", '"a";r="0";t=5', '"a";r=0;t=:YQ==:', '"a\\"b";r=0;t=5', "a;r=0;t=?1", "=5",
    )),
]  # fmt: skip


def variants(headers: list[tuple[str, str]], body: object):
    """Yields (name, headers, body, by how many seconds the clock is ahead, whether there is a Date)."""
    yield "plain", headers, body, 0, True
    yield "the clock an hour ahead", headers, body, 3600, True
    yield "the clock an hour behind", headers, body, -3600, True
    yield "the clock an hour ahead, and no Date", headers, body, 3600, False
    yield "negative", change(headers, negated), changed_numbers(body, lambda number: -number), 0, True
    yield "huge", change(headers, lambda value: re.sub(r"\d+(\.\d+)?", HUGE, value, count=1)), changed_numbers(body, lambda _: 10**30), 0, True
    yield "duplicated", [*headers, *change(headers, one_more)], body, 0, True
    yield "empty", change(headers, lambda _: ""), None, 0, True
    yield "comma-joined", change(headers, lambda value: f"{value}, {one_more(value)}"), body, 0, True
    yield "upper case", [(name.upper(), value) for name, value in headers], body, 0, True
    yield "lower case", [(name.lower(), value) for name, value in headers], body, 0, True


def change(headers: list[tuple[str, str]], changed) -> list[tuple[str, str]]:
    return [(name, value if name.lower() in FIXED else changed(value)) for name, value in headers]


def negated(value: str) -> str:
    return re.sub(r"(?<![\d.:-])(\d)", r"-\1", value, count=1)


def one_more(value: str) -> str:
    return re.sub(r"\d+", lambda match: str(int(match[0]) + 1).zfill(len(match[0])), value, count=1)


def changed_numbers(body: object, changed) -> object:
    if isinstance(body, dict):
        return {name: changed_numbers(inner, changed) for name, inner in body.items()}
    if isinstance(body, list):
        return [changed_numbers(inner, changed) for inner in body]
    return changed(int(body)) if isinstance(body, (int, float)) and not isinstance(body, bool) else body


def case(name: str, profile: object, status: int, headers: list[tuple[str, str]], body: object, now: int = NOW) -> dict[str, object]:
    # A body's numbers are texts where they are large, because a reader of JSON may not keep them.
    body = changed_numbers(body, lambda number: number if abs(number) < 2**53 else str(number)) if has_large(body) else body
    written = [list(header) for header in headers]
    expect = read_signal(status, written, profile, body, now, MAX_HOLD)
    return {"name": name, "profile": profile, "status": status, "now": str(now), "headers": written, "body": body, "expect": expect}


def has_large(body: object) -> bool:
    return str(10**30) in str(body)


def cases() -> list[dict[str, object]]:
    written = []
    for name, profile, status, headers, body in ROWS:
        for variant, changed, changed_body, ahead, has_date in variants(headers, body):
            date = [("Date", DATE)] if has_date else []
            written.append(case(f"{name}: {variant}", profile, status, date + changed, changed_body, NOW + ahead * SECOND))
    for name, status, headers, body in SINGLE:
        date = [] if any(header == "Date" for header, _ in headers) else [("Date", DATE)]
        written.append(case(name, "generic", status, date + headers, body))
    return written
