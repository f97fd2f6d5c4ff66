//! How long an agent waits before it comes back to the server. Must not read a clock or make randomness.
//!
//! All streams of a cluster end at one instant when the server goes. The first attempts are spread over a whole second,
//! later ones over half of each pause, and no pause is long: pods that wait start when the server is back.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(3);

pub(super) struct Backoff {
    most: Duration,
    least: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { most: FIRST, least: Duration::ZERO }
    }

    /// The next pause; `share` is a random number from 0 to 1.
    pub(super) fn pause(&mut self, share: f64) -> Duration {
        let pause = self.least + (self.most - self.least).mul_f64(share);
        self.most = (self.most * 2).min(LAST);
        self.least = self.most / 2;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: u64 = 2000;

    /// The numbers of Weyl's sequence, one stream of them per node: spread, and the same in each run.
    fn shares(node: u64) -> impl Iterator<Item = f64> {
        (1..).map(move |turn: u64| {
            ((node as f64 + 1.0) * (turn as f64) * 0.618_033_988_75 + node as f64 * 0.414).fract()
        })
    }

    /// When each node comes for the first time after the server, gone at 0, is back.
    fn returns(back_at: Duration) -> Vec<Duration> {
        let first_after = |node: u64| {
            let (mut at, mut backoff, mut shares) = (Duration::ZERO, Backoff::new(), shares(node));
            loop {
                at += backoff.pause(shares.next().unwrap());
                if at >= back_at {
                    return at - back_at;
                }
            }
        };
        (0..NODES).map(first_after).collect()
    }

    #[test]
    fn every_node_is_back_within_three_seconds_and_no_tenth_of_a_second_sees_a_crowd() {
        for away_ms in [0, 300, 1000, 2000, 5000, 60_000, 600_000] {
            let mut returns = returns(Duration::from_millis(away_ms));
            returns.sort_unstable();
            assert!(*returns.last().unwrap() <= LAST, "{away_ms} ms away: {:?}", returns.last());
            let tenth = Duration::from_millis(100);
            let crowd = returns.iter().enumerate().map(|(index, at)| {
                returns[index..].iter().take_while(|later| **later < *at + tenth).count() as u64
            });
            let most = crowd.max().unwrap();
            assert!(most * 100 <= NODES * 20, "{away_ms} ms away: {most} of {NODES} within 100 ms");
        }
    }

    #[test]
    fn a_short_break_is_a_short_wait() {
        assert!(Backoff::new().pause(1.0) <= Duration::from_secs(1));
        assert_eq!(Backoff::new().pause(0.0), Duration::ZERO);
    }
}
