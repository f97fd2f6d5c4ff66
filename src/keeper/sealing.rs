//! Values in and out of their seal. Must not open anything without the witness of a right.

use super::{Keeper, KeeperError, SealingError};
use crate::access::Authorized;
use crate::seal::{self, DataKey, Place, SealError, Sealed, SystemRandom, WrappedKey, same};
use crate::secret::{Arn, Plaintext, SecretValue, VersionId};
use crate::store::VersionRecord;

impl Keeper {
    /// Seals under a fresh data key.
    pub(super) async fn seal(
        &self,
        arn: &Arn,
        version: &VersionId,
        value: &SecretValue,
    ) -> Result<Sealed, KeeperError> {
        let place = self.place(arn, version);
        let key = DataKey::generate(&mut SystemRandom);
        let wrapped = self.ports.root_key.wrap(&key, &place.of_key()).await;
        let wrapped: WrappedKey = wrapped.map_err(|error| KeeperError::EncryptionFailure(error.into()))?;
        seal::seal(place, key, wrapped, &value.bytes, &mut SystemRandom)
            .map_err(|error| KeeperError::EncryptionFailure(error.into()))
    }

    /// Opens a version; `None` when it is empty.
    pub(super) async fn open(
        &self,
        authorized: &Authorized,
        version: &VersionRecord,
    ) -> Result<Option<Plaintext>, KeeperError> {
        let Some(sealed) = &version.sealed else { return Ok(None) };
        let opened = self.open_sealed(authorized, version, sealed).await;
        opened.map(Some).map_err(KeeperError::DecryptionFailure)
    }

    async fn open_sealed(
        &self,
        authorized: &Authorized,
        version: &VersionRecord,
        sealed: &Sealed,
    ) -> Result<Plaintext, SealingError> {
        // Before the provider is troubled: a wrong right is no reason to unwrap a key.
        if !authorized.opens(&version.arn) {
            return Err(SealError::OtherRight.into());
        }
        let place = self.place(&version.arn, &version.id);
        let key = self.ports.root_key.unwrap(sealed.wrapped_key(), &place.of_key()).await?;
        Ok(seal::open(authorized, place, &key, sealed)?)
    }

    /// Whether a version holds just this value. An empty version holds none.
    pub(super) async fn holds(
        &self,
        authorized: &Authorized,
        version: &VersionRecord,
        value: &SecretValue,
    ) -> Result<bool, KeeperError> {
        let opened = self.open(authorized, version).await?;
        let same = opened.is_some_and(|opened| same(opened.expose(), value.bytes.expose()));
        Ok(same && version.kind == value.kind)
    }

    fn place<'a>(&'a self, arn: &'a Arn, version: &'a VersionId) -> Place<'a> {
        Place { region: &self.settings.region, arn, version }
    }
}

/// AWS's limits for a value.
pub(super) fn check_size(value: &SecretValue) -> Result<(), KeeperError> {
    match value.bytes.len() {
        1..=Plaintext::BYTES_MAX => Ok(()),
        bytes => Err(KeeperError::InvalidParameter(format!(
            "the value has {bytes} bytes: 1 to {} are allowed",
            Plaintext::BYTES_MAX
        ))),
    }
}
