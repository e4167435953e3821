//! The suite, as one binary: each module is a promise kept.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

mod auth;
mod author;
mod author_remote;
mod batching;
mod binary;
mod corpus;
mod crosstalk;
mod drain;
mod egress;
mod golden;
mod grpc;
mod grpc_hostile;
mod grpc_stream;
mod guard;
mod hostile;
mod hostile_calls;
mod hostile_crowd;
mod hostile_uploads;
mod malformed;
mod movies;
mod oci;
mod openapi;
mod overload;
mod plugin_store;
mod plugins;
mod programs;
mod protocol;
mod reload;
mod statistics;
mod stores;
mod telemetry;
mod tidy;
mod tls;
mod verify;
mod wasi;
