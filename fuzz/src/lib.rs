//! Code that the fuzz targets share: inputs as structures, and the naive bucket.

pub mod bytes;
pub mod operations;
pub mod steps;

#[expect(missing_docs, reason = "documented where it is tested with")]
#[path = "../../core/tests/naive/mod.rs"]
pub mod naive;
