#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod figures;
pub mod plan;
pub mod report;
pub mod scenario;
mod world;

pub use world::{LogRow, Progress, Run, Second, run};
