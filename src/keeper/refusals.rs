//! Refusals on their way to the audit. The first of a kind is written down at once; the same again, of the same caller,
//! is counted, and the count is written down when its minute is over: else whoever is refused could fill the disk by
//! asking again. Must not forget a count, nor hold more than its limits.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Keeper;
use crate::secret::Arn;
use crate::store::AuditEntry;

/// How long the same refusals are counted before their number is written down.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds of refusals of one caller that get rows of their own within a window; the others are counted together.
const KINDS_MAX: usize = 64;
/// Callers whose refusals are counted at once. Above it the longest counted one is written down early.
const CALLERS_MAX: usize = 1024;
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The verb of the row that counts the kinds above the limit.
const OTHERS: &str = "others";

#[derive(Default)]
pub(super) struct Refusals {
    callers: BTreeMap<String, Caller>,
    /// The end is near: what is counted now might never be written down.
    closing: bool,
}

struct Caller {
    begun: Instant,
    since: Timestamp,
    kinds: BTreeMap<Kind, u64>,
    others: u64,
}

/// What makes two refusals of a caller the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    who: String,
    verb: String,
    secret: Option<Arn>,
    pod: Option<String>,
    outcome: String,
}

impl Refusals {
    /// Takes one refusal, which is counted with those of that caller; gives back the rows to be written now.
    fn note(&mut self, caller: &str, entry: AuditEntry, now: Instant) -> Vec<AuditEntry> {
        if self.closing {
            return vec![entry];
        }
        let mut rows = Vec::new();
        let over = self.callers.get(caller).is_some_and(|caller| caller.is_over(now));
        let is_full = self.callers.len() >= CALLERS_MAX && !self.callers.contains_key(caller);
        let leaves = if over {
            Some(caller.to_owned())
        } else if is_full {
            let longest = self.callers.iter().min_by_key(|(_, caller)| caller.begun);
            longest.map(|(who, _)| who.clone())
        } else {
            None
        };
        if let Some(who) = leaves
            && let Some(caller) = self.callers.remove(&who)
        {
            rows.extend(caller.counts(&who, entry.at));
        }
        let begin = || Caller { begun: now, since: entry.at, kinds: BTreeMap::new(), others: 0 };
        let caller = self.callers.entry(caller.to_owned()).or_insert_with(begin);
        let kind = Kind::of(&entry);
        if let Some(more) = caller.kinds.get_mut(&kind) {
            *more += 1;
        } else if caller.kinds.len() < KINDS_MAX {
            caller.kinds.insert(kind, 0);
            rows.push(entry);
        } else {
            caller.others += 1;
        }
        rows
    }

    /// The counts whose window is over, or all of them.
    fn due(&mut self, at: Timestamp, now: Instant, all: bool) -> Vec<AuditEntry> {
        let callers = std::mem::take(&mut self.callers);
        let (over, goes_on) = callers.into_iter().partition(|(_, caller)| all || caller.is_over(now));
        self.callers = goes_on;
        over.into_iter().flat_map(|(who, caller)| caller.counts(&who, at)).collect()
    }
}

impl Caller {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= WINDOW
    }

    /// One row for each kind that came again, and one for those above the limit.
    fn counts(self, who: &str, at: Timestamp) -> Vec<AuditEntry> {
        let since = self.since;
        let row = |kind: Kind, more: u64| AuditEntry {
            at,
            who: kind.who,
            verb: kind.verb,
            secret: kind.secret,
            version: None,
            pod: kind.pod,
            outcome: format!("{} ({more} more since {since})", kind.outcome),
        };
        let (who, verb, outcome) = (who.to_owned(), OTHERS.to_owned(), "Refused".to_owned());
        let others = Kind { who, verb, secret: None, pod: None, outcome };
        let again = self.kinds.into_iter().chain([(others, self.others)]);
        again.filter(|(_, more)| *more > 0).map(|(kind, more)| row(kind, more)).collect()
    }
}

impl Kind {
    fn of(entry: &AuditEntry) -> Self {
        let AuditEntry { who, verb, secret, pod, outcome, .. } = entry.clone();
        Self { who, verb, secret, pod, outcome }
    }
}

impl Keeper {
    /// Writes a refusal down, at once or in a count.
    pub(super) async fn write_down_refusal(&self, entry: AuditEntry) {
        let caller = entry.who.clone();
        self.write_down_refusal_of(&caller, entry).await;
    }

    /// Counts it with those of that caller, where whoever is refused could have any number of names.
    pub(super) async fn write_down_refusal_of(&self, caller: &str, entry: AuditEntry) {
        let rows = self.refusals().note(caller, entry, self.ports.clock.monotonic());
        self.write_down(rows).await;
    }

    /// Writes the counts of refusals down when they are due, and the rest at the end.
    pub async fn keep_refusals(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            self.write_down_counts(false).await;
        }
        self.refusals().closing = true;
        self.write_down_counts(true).await;
    }

    pub(super) async fn write_down_counts(&self, all: bool) {
        let rows = self.refusals().due(self.now(), self.ports.clock.monotonic(), all);
        self.write_down(rows).await;
    }

    async fn write_down(&self, rows: Vec<AuditEntry>) {
        let count = rows.len();
        if count > 0
            && let Err(unwritten) = self.commit(Vec::new(), rows).await
        {
            tracing::error!(reason = unwritten.reason(), count, "rows on refusals are not in the audit");
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(who: &str, verb: &str) -> AuditEntry {
        AuditEntry {
            at: "2030-01-01T00:00:00Z".parse().unwrap(),
            who: who.to_owned(),
            verb: verb.to_owned(),
            secret: None,
            version: None,
            pod: None,
            outcome: "AccessDenied".to_owned(),
        }
    }

    fn said(rows: &[AuditEntry]) -> Vec<(&str, &str)> {
        rows.iter().map(|row| (row.verb.as_str(), row.outcome.as_str())).collect()
    }

    #[test]
    fn the_first_of_a_kind_is_written_and_the_rest_is_counted_when_its_minute_is_over() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        assert_eq!(said(&refusals.note("a", entry("a", "reveal"), begun)), [("reveal", "AccessDenied")]);
        for _ in 0..1000 {
            assert!(refusals.note("a", entry("a", "reveal"), begun).is_empty());
        }
        assert_eq!(refusals.note("b", entry("b", "reveal"), begun).len(), 1, "another caller");
        assert_eq!(refusals.note("a", entry("a", "put"), begun).len(), 1, "another verb");
        let at = "2030-01-01T00:01:00Z".parse().unwrap();
        assert!(refusals.due(at, begun + WINDOW - Duration::from_secs(1), false).is_empty());
        let counted = "AccessDenied (1000 more since 2030-01-01T00:00:00Z)";
        assert_eq!(said(&refusals.due(at, begun + WINDOW, false)), [("reveal", counted)]);
        assert_eq!(refusals.note("a", entry("a", "reveal"), begun + WINDOW).len(), 1, "a new window");
    }

    #[test]
    fn whoever_is_refused_in_many_ways_gets_one_row_for_all_above_the_limit() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        let written: usize =
            (0..1000).map(|n| refusals.note("a", entry("a", &n.to_string()), begun).len()).sum();
        assert_eq!(written, KINDS_MAX);
        // A refusal after the window brings the count along.
        let rows = refusals.note("a", entry("a", "reveal"), begun + WINDOW);
        let counted = "Refused (936 more since 2030-01-01T00:00:00Z)";
        assert_eq!(said(&rows), [(OTHERS, counted), ("reveal", "AccessDenied")]);
    }

    #[test]
    fn more_callers_than_can_be_counted_are_written_down_early_and_none_is_forgotten() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        let callers = CALLERS_MAX + 100;
        let mut rows = Vec::new();
        for n in 0..callers {
            let now = begun + Duration::from_micros(n as u64);
            rows.extend(refusals.note(&n.to_string(), entry(&n.to_string(), "put"), now));
            rows.extend(refusals.note(&n.to_string(), entry(&n.to_string(), "put"), now));
            assert!(refusals.callers.len() <= CALLERS_MAX);
        }
        rows.extend(refusals.due(rows[0].at, begun, true));
        assert_eq!(rows.len(), 2 * callers);
    }

    #[test]
    fn many_names_of_one_caller_get_no_more_rows_than_one() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let written: usize =
            (0..1000).map(|n| refusals.note("issuer", entry(&n.to_string(), "assume"), now).len()).sum();
        assert_eq!(written, KINDS_MAX);
        assert!(refusals.note("issuer", entry("0", "assume"), now).is_empty());
        let rows = refusals.due(entry("", "").at, now, true);
        let counts: Vec<_> = rows.iter().map(|row| (row.who.as_str(), row.outcome.as_str())).collect();
        let (again, others) = ("AccessDenied (1 more since", "Refused (936 more since");
        assert!(
            matches!(counts[..], [("0", one), ("issuer", rest)] if one.starts_with(again) && rest.starts_with(others))
        );
    }

    #[test]
    fn near_the_end_nothing_is_counted_any_more() {
        let mut refusals = Refusals { closing: true, ..Refusals::default() };
        let now = Instant::now();
        assert_eq!(refusals.note("a", entry("a", "put"), now).len(), 1);
        assert_eq!(refusals.note("a", entry("a", "put"), now).len(), 1);
    }
}
