//! Every operation on the shared buckets of a real Redis, through the limiter's own path,
//! by two clients that interleave.
