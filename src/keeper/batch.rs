//! Batch: the current values of several secrets, each with a right and an audit row of its own. Must not let the refusal
//! of one keep back the others.

use futures::future::join_all;

use super::measure::counted;
use super::{Keeper, KeeperError, Revealed};
use crate::access::{Operation, Principal};
use crate::secret::SecretId;

impl Keeper {
    /// Reads them together, so that their rows of the audit are written as one. What is no refusal but a failure of the
    /// server's ends the whole. AWS's limit of 20 bounds what is read at once.
    pub async fn values(
        &self,
        by: &Principal,
        ids: &[SecretId],
    ) -> Result<Vec<Result<Revealed, KeeperError>>, KeeperError> {
        let found = join_all(ids.iter().map(|id| self.find_value(by, id, None, None))).await;
        let read = self.write_down_accesses(found).await.into_iter();
        let read: Vec<_> = read.map(|outcome| counted(Operation::Reveal, outcome)).collect();
        let of_the_server = |outcome: Result<Revealed, KeeperError>| match outcome {
            Err(error) if error.is_of_the_server() => Err(error),
            outcome => Ok(outcome),
        };
        read.into_iter().map(of_the_server).collect()
    }
}
