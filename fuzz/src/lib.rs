//! What the fuzz targets share: inputs as structures, and the naive bucket.

pub mod bytes;
pub mod steps;

#[path = "../../core/tests/naive/mod.rs"]
pub mod naive;
