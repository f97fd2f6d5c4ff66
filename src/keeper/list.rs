//! List: the secrets of the namespaces that a caller may list, filtered, in order, a page at a time. Must not open
//! anything, nor show that a secret exists to whoever may not list its namespace.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::measure::counted;
use super::{Keeper, KeeperError, PAGE};
use crate::access::{self, Denied, Operation, Principal, RbacAnswer, Request};
use crate::secret::filter::{Described, Filter};
use crate::secret::{Arn, Name};
use crate::store::SecretRecord;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    Created,
    Accessed,
    Changed,
    Name,
}

/// Where a secret stands in an order. No two have the same place, for no two have the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub at: Option<Timestamp>,
    pub name: Name,
}

#[derive(Debug, Clone)]
pub struct Listing {
    /// All of them must match.
    pub filters: Vec<Filter>,
    /// Whether those that are scheduled for deletion are shown.
    pub deleted: bool,
    pub sort_by: SortBy,
    pub descending: bool,
    /// The last one of the page before.
    pub after: Option<Mark>,
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub secrets: Vec<SecretRecord>,
    /// Of those whose rotation the AWS API configured.
    pub next_rotations: BTreeMap<Arn, Timestamp>,
    /// Where the next page goes on, when there is one.
    pub next: Option<Mark>,
}

impl Keeper {
    pub async fn list(&self, by: &Principal, wanted: &Listing) -> Result<Listed, KeeperError> {
        counted(Operation::List, self.list_once(by, wanted).await)
    }

    async fn list_once(&self, by: &Principal, wanted: &Listing) -> Result<Listed, KeeperError> {
        let mut view = self.view(by).await?;
        // One more than asked for, to know whether there is a next page. No more than that is held.
        let mut kept: Vec<(Mark, SecretRecord)> = Vec::new();
        let mut after: Option<Name> = None;
        loop {
            let page = self.ports.store.secrets(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for record in page {
                if self.sees(by, &mut view, &record.name).await? && shows(wanted, &record) {
                    kept.push((mark(wanted.sort_by, &record), record));
                }
            }
            kept.sort_by(|(one, _), (other, _)| one.cmp(other));
            if wanted.descending {
                kept.reverse();
            }
            kept.truncate(wanted.limit.saturating_add(1));
        }
        if !view.anything {
            return Err(self.refused(by, Operation::List, None, denied(by, &self.settings.account)?).await);
        }
        let more = kept.len() > wanted.limit;
        kept.truncate(wanted.limit);
        let next = kept.last().filter(|_| more).map(|(mark, _)| mark.clone());
        let secrets: Vec<_> = kept.into_iter().map(|(_, record)| record).collect();
        let next_rotations = self.next_rotations(&secrets).await?;
        Ok(Listed { secrets, next_rotations, next })
    }

    /// What is known before the first secret is looked at: whether the caller may list everything, or his own namespace.
    async fn view(&self, by: &Principal) -> Result<View, KeeperError> {
        let everything = self.may_list(by, None).await?;
        let mut view = View { everything, anything: everything, namespaces: BTreeMap::new() };
        if let (false, Some(account)) = (everything, by.account()) {
            let own = self.may_list(by, Some(&account.namespace)).await?;
            view.anything = own;
            view.namespaces.insert(account.namespace.clone(), own);
        }
        Ok(view)
    }

    async fn sees(&self, by: &Principal, view: &mut View, name: &Name) -> Result<bool, KeeperError> {
        if view.everything {
            return Ok(true);
        }
        let Some(namespace) = name.namespace() else { return Ok(false) };
        if let Some(known) = view.namespaces.get(namespace) {
            return Ok(*known);
        }
        let may = self.may_list(by, Some(namespace)).await?;
        view.anything |= may;
        view.namespaces.insert(namespace.to_owned(), may);
        Ok(may)
    }

    async fn may_list(&self, by: &Principal, namespace: Option<&str>) -> Result<bool, KeeperError> {
        if matches!(by, Principal::Controller | Principal::Local) {
            return Ok(true);
        }
        match self.ports.rights.list(by, namespace).await {
            RbacAnswer::Allowed => Ok(true),
            RbacAnswer::Denied | RbacAnswer::Forbidden => Ok(false),
            // Half a list would look like a whole one.
            RbacAnswer::Unknown(why) => Err(Denied::Unknown {
                who: by.to_string(),
                verb: Operation::List.verb(),
                name: namespace.unwrap_or("every namespace").to_owned(),
                why,
            }
            .into()),
        }
    }
}

/// What one caller may list, as far as it has been asked.
struct View {
    everything: bool,
    anything: bool,
    namespaces: BTreeMap<String, bool>,
}

/// A name that stands for all of a namespace where RBAC is asked by name.
pub(super) fn any_name(namespace: Option<&str>) -> Option<Name> {
    Name::parse(&format!("{}/-", namespace.unwrap_or("-"))).ok()
}

fn denied(by: &Principal, account: &str) -> Result<KeeperError, KeeperError> {
    let name = any_name(None).ok_or(KeeperError::NotFound)?;
    let operation = Operation::List;
    let (sent_id, account) = ("", account);
    let request =
        Request { principal: by, operation, name: &name, account, sent_id, version: None, stages: &[] };
    match access::decide_unknown(request, &RbacAnswer::Denied) {
        Err(denied) => Ok(denied.into()),
        Ok(()) => Err(KeeperError::NotFound),
    }
}

fn shows(wanted: &Listing, record: &SecretRecord) -> bool {
    let none = BTreeMap::new();
    let secret = Described {
        name: record.name.as_str(),
        description: record.description.as_deref(),
        tags: record.tags.as_ref().unwrap_or(&none),
    };
    let place = mark(wanted.sort_by, record);
    let is_after = wanted.after.as_ref().is_none_or(|after| match wanted.descending {
        true => place < *after,
        false => place > *after,
    });
    is_after
        && (wanted.deleted || record.deletion.is_none())
        && wanted.filters.iter().all(|filter| filter.matches(secret))
}

fn mark(sort_by: SortBy, record: &SecretRecord) -> Mark {
    let at = match sort_by {
        SortBy::Created => Some(record.created_at),
        SortBy::Accessed => record.accessed_at,
        SortBy::Changed => Some(record.changed_at),
        SortBy::Name => None,
    };
    Mark { at, name: record.name.clone() }
}
