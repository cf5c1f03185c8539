#![doc = include_str!("../README.md")]
#![cfg_attr(target_arch = "wasm32", no_std)]
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(test, allow(clippy::panic, reason = "how a test fails"))]

#[cfg(target_arch = "wasm32")]
mod abi;
mod address;
mod allowed;
mod buckets;
pub mod config;
mod config_actions;
mod config_descriptors;
mod config_error;
mod config_fields;
mod cost;
pub mod descriptors;
pub mod filter;
mod form;
mod header_match;
pub mod host;
mod id_map;
mod in_flight;
mod json;
mod leased;
mod leases;
pub mod limits;
mod local_limits;
pub mod names;
pub mod pairs;
pub mod plugin;
mod plugins;
mod proto_struct;
mod protobuf;
mod reply;
mod request_keys;
mod rls;
mod scratch;
mod service_call;
mod settling;
mod source;
pub mod text;
#[cfg(any(test, target_arch = "wasm32"))]
mod upstream;
pub mod usage;

#[cfg(test)]
mod fake_host;
