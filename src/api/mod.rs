//! SHELL. The AWS JSON 1.1 API, the stream of node agents, health and metrics.
//! Must not import another shell; decisions are the keeper's.

mod authenticate;
pub mod aws;
pub mod health;
pub mod node;
#[cfg(test)]
mod tests;

pub use authenticate::Authenticate;
