//! Tests of the real `tidegate` binary over gRPC and HTTP, on memory and on a real redis-server.

mod connections;
mod json_api;
mod operations;
mod process;
mod protocol;
mod quotas;
mod redis;
mod reload;
mod rule_metrics;
mod rules_command;
mod startup;
mod store;

type TestResult = Result<(), Box<dyn core::error::Error + Send + Sync>>;
