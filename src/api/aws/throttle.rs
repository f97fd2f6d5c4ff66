//! How many requests one caller may make a second. Beyond that he is told to slow down, which SDKs do by themselves.
//! Must not count for a caller what was not proved to be his: others could use up his share.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::ApiError;
use crate::access::Principal;

pub(super) const KIND: &str = "ThrottlingException";

/// Above what one server answers, so that it holds back nobody who asks as fast as he is answered; an installation with
/// many tenants sets less.
pub const PER_CALLER: NonZeroU32 = match NonZeroU32::new(100_000) {
    Some(most) => most,
    None => NonZeroU32::MIN,
};
/// Callers who are remembered before those that have been quiet are forgotten.
const CALLERS_MAX: usize = 4096;

/// A share for each caller, as large for all: so many requests at once, which come back at that rate.
#[derive(Clone)]
pub struct Throttle {
    callers: Arc<DefaultKeyedRateLimiter<String>>,
}

impl Throttle {
    pub fn per_second(requests: NonZeroU32) -> Self {
        Self { callers: Arc::new(RateLimiter::keyed(Quota::per_second(requests))) }
    }

    /// Pods of one ServiceAccount are one caller.
    pub(super) fn admit(&self, who: &Principal) -> Result<(), ApiError> {
        if self.callers.len() > CALLERS_MAX {
            self.callers.retain_recent();
        }
        self.callers.check_key(&who.to_string()).map_err(|_| {
            metrics::counter!("tidelock_api_throttled_total").increment(1);
            ApiError::new(KIND, "Rate exceeded")
        })
    }
}
