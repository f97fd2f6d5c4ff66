//! Waiting for a condition, with a deadline and words for when it does not come. Never a bare sleep.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Asks `probe` again and again until it has an answer. `what` completes the sentence "waited for ...".
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = PAUSE_MIN;
    loop {
        match timeout_at(end, probe()).await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if Instant::now() < end => {}
            _ => bail!("waited for {what}, in vain for {deadline:?}"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_ends_the_waiting() {
        let mut asked = 0;
        let answer = wait_for("a third question", Duration::from_secs(5), async || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_condition_that_never_comes_is_named() {
        let error =
            wait_for("rain", Duration::from_millis(50), async || None::<()>).await.unwrap_err().to_string();
        assert_eq!(error, "waited for rain, in vain for 50ms");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_does_not_outlive_the_deadline() {
        let hanging = async || std::future::pending::<Option<()>>().await;
        assert!(wait_for("an answer", Duration::from_millis(50), hanging).await.is_err());
    }
}
