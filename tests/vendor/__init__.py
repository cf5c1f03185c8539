"""A vendor that limits its callers, for tests of outbound calls: one process, without dependencies.

    cd tests && python -m vendor --limit 10 --window 1 --kind sliding --latency 0.05 --style retry-after

It prints one line of JSON when it is ready, `{"host": …, "port": …, "url": …}`, and serves until its standard input
ends or it is stopped. Every path is an endpoint of the vendor, but these:

- `GET /_log`: every request in order, as JSON: `at` (seconds since the start, by this process's monotonic clock, when
  the head had been read), `status`, `method`, `path`, `client` (the header `X-Client`) and `in_flight`.
- `GET /_counts`: `{"requests": …, "refused": …, "by_status": {…}, "most_in_flight": …}`.
- `POST /_set?name=value&…`: changes options while it runs, with the names of the command line. `refuse=N` refuses the
  next N requests with 429 whatever the limit. `fail=STATUS` answers every request with this status; 0 ends that.

`--kind` is how it counts: `fixed` windows that begin at multiples of the window, `sliding` (in any stretch of a
window), or `bucket` (`--burst` tokens that refill evenly). Refused requests count where `--count-refused` is given.
`--style` is how a 429 says when to come back: `retry-after`, `ratelimit` (draft 8 and later), `reset`
(`X-RateLimit-Reset` since 1970, with `Date`), or `none`. `--retry-after` is the wait that it tells in place of the
true one.
"""
