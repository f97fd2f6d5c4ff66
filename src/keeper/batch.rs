//! Batch: the current values of several secrets, each with a right and an audit row of its own. Must not let the refusal
//! of one keep back the others.

use super::{Keeper, KeeperError, Revealed};
use crate::access::Principal;
use crate::secret::SecretId;

impl Keeper {
    /// Reads one after the other. What is no refusal but a failure of the server's ends the whole.
    pub async fn values(
        &self,
        by: &Principal,
        ids: &[SecretId],
    ) -> Result<Vec<Result<Revealed, KeeperError>>, KeeperError> {
        let mut read = Vec::with_capacity(ids.len());
        for id in ids {
            match self.value(by, id, None, None).await {
                Err(error) if error.is_of_the_server() => return Err(error),
                outcome => read.push(outcome),
            }
        }
        Ok(read)
    }
}
