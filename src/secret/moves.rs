//! How stages move between versions, as AWS moves them. Must not know values: a version is its id here.
//!
//! ```text
//!              put, or move of AWSCURRENT                    the next one
//!   v1 CURRENT ---------------------------> v1 PREVIOUS      v1 (none: kept until purged)
//!   v2 PENDING                              v2 CURRENT ----> v2 PREVIOUS
//! ```

use std::collections::BTreeMap;

use super::{Stage, VersionId};

/// Which version bears each stage. A stage sits on at most one version by construction.
pub type Stages = BTreeMap<Stage, VersionId>;

/// AWS's limit, over all versions of a secret.
pub const STAGES_MAX: usize = 20;

/// Why stages cannot move so. The texts are AWS's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    #[error(
        "The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to version \
         {holder}, so you must explicitly reference that version in RemoveFromVersionId."
    )]
    HolderNotNamed { stage: Stage, holder: VersionId },
    #[error(
        "The parameter RemoveFromVersionId is not valid. Staging label {stage} is currently attached to version \
         {holder}, not to version {named}."
    )]
    OtherHolder { stage: Stage, holder: VersionId, named: VersionId },
    #[error(
        "The parameter RemoveFromVersionId is not valid. Staging label {stage} is not attached to any version."
    )]
    NoHolder { stage: Stage },
    #[error("You must specify MoveToVersionId, RemoveFromVersionId, or both.")]
    Nowhere,
    #[error(
        "You can't remove staging label AWSCURRENT from every version. Move it to another version instead."
    )]
    CurrentMustStay,
    #[error(
        "A secret can have up to {STAGES_MAX} staging labels over all of its versions, this would make {0}."
    )]
    TooMany(usize),
    #[error("VersionStages must hold 1 to {STAGES_MAX} staging labels, this request has {0}.")]
    Asked(usize),
}

/// The stages after a new value under `id`. `asked` is what the request named; without it the value becomes current.
pub fn after_put(before: &Stages, id: &VersionId, asked: Option<&[Stage]>) -> Result<Stages, MoveError> {
    let mut after = before.clone();
    let plain = [Stage::current()];
    let asked = asked.unwrap_or(&plain);
    if asked.is_empty() || asked.len() > STAGES_MAX {
        return Err(MoveError::Asked(asked.len()));
    }
    // Once a value exists there is a current one, whatever the request named.
    if asked.contains(&Stage::current()) || !after.contains_key(&Stage::current()) {
        let left = promote(&mut after, id);
        // A put drops AWSPENDING from the version that stops being current; a stage's move leaves it there.
        if left.as_ref() == after.get(&Stage::pending()) {
            after.remove(&Stage::pending());
        }
    }
    for stage in asked {
        after.insert(stage.clone(), id.clone());
    }
    within_limit(after)
}

/// The stages after UpdateSecretVersionStage.
pub fn after_move(
    before: &Stages,
    stage: &Stage,
    to: Option<&VersionId>,
    from: Option<&VersionId>,
) -> Result<Stages, MoveError> {
    let holder = before.get(stage);
    if to.is_none() && from.is_none() {
        return Err(MoveError::Nowhere);
    }
    // Said again what is so already: rotations repeat their last step.
    if to.is_some() && to == holder {
        return Ok(before.clone());
    }
    match (holder, from) {
        (Some(holder), None) => {
            return Err(MoveError::HolderNotNamed { stage: stage.clone(), holder: holder.clone() });
        }
        (Some(holder), Some(named)) if holder != named => {
            let (stage, holder, named) = (stage.clone(), holder.clone(), named.clone());
            return Err(MoveError::OtherHolder { stage, holder, named });
        }
        (None, Some(_)) => return Err(MoveError::NoHolder { stage: stage.clone() }),
        _ => {}
    }
    let mut after = before.clone();
    match to {
        None if *stage == Stage::current() => return Err(MoveError::CurrentMustStay),
        None => {
            after.remove(stage);
        }
        Some(to) if *stage == Stage::current() => {
            promote(&mut after, to);
        }
        Some(to) => {
            after.insert(stage.clone(), to.clone());
        }
    }
    within_limit(after)
}

/// Makes a version current; the one before becomes the previous one. Says which version stopped being current.
fn promote(stages: &mut Stages, to: &VersionId) -> Option<VersionId> {
    let left = stages.insert(Stage::current(), to.clone()).filter(|left| left != to)?;
    stages.insert(Stage::previous(), left.clone());
    Some(left)
}

fn within_limit(stages: Stages) -> Result<Stages, MoveError> {
    if stages.len() > STAGES_MAX { Err(MoveError::TooMany(stages.len())) } else { Ok(stages) }
}

/// The stages on one version, in their order.
pub fn stages_of(stages: &Stages, id: &VersionId) -> Vec<Stage> {
    stages.iter().filter(|(_, bearer)| *bearer == id).map(|(stage, _)| stage.clone()).collect()
}

#[cfg(test)]
mod tests;
