//! Starts real Kubernetes clusters on this machine and takes them away again.
//! Must not know how Tidelock works inside: scenarios see only what a user sees.

pub mod bench;
pub mod cache;
pub mod caller;
pub mod canary;
pub mod clients;
pub mod cluster;
pub mod demo;
pub mod egress;
pub mod generate;
pub mod host_server;
pub mod images;
pub mod install;
pub mod person;
mod prerequisites;
mod program;
pub mod progress;
pub mod pypi;
pub mod reader;
pub mod reading;
pub mod registry;
mod service_model;
pub mod shop;
pub mod site;
pub mod tenant;
pub mod tools;
mod wait;

pub use cluster::{Cluster, Node, Options, Output, Part, Process};
pub use images::Image;
pub use person::Person;
pub use reader::Reader;
pub use tools::{Kubernetes, Tools};
pub use wait::wait_for;
