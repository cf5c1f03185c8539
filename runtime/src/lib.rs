//! One rate limiter for every runtime a fleet is made of: in memory or on a shared Redis bucket
