//! What every store must do. Must not know any of them.

mod audit;
mod batches;
mod conflicts;
mod fixture;
mod records;
mod samples;
mod tampering;

pub use audit::*;
pub use batches::*;
pub use conflicts::*;
pub use fixture::*;
pub use records::*;
pub use samples::*;
pub use tampering::*;

use async_trait::async_trait;

use super::{Store, StoreError};

/// A place for a store that can be closed and opened again, and harmed while it is closed.
#[async_trait]
pub trait Bench: Send + Sync {
    /// Opens the store, made for `installation()`. Dropping it closes it.
    async fn open(&self) -> Result<Box<dyn Store>, StoreError>;

    /// Every column that a MAC must cover, as table and column.
    fn columns(&self) -> Vec<(&'static str, &'static str)>;

    /// Changes that column in one row, which has an ARN of its own, to another value (an ARN to `arn(2)`).
    fn harm(&self, table: &str, column: &str);

    /// Puts back what `harm` changed.
    fn heal(&self);
}

/// Makes one test of each function below, on a bench of its own.
macro_rules! fulfils_the_contract {
    ($bench:expr) => {
        $crate::store::contract::fulfils_the_contract! { $bench;
            an_empty_store_holds_nothing,
            records_read_back_whole_also_after_reopening,
            a_secret_is_written_only_where_it_is_expected,
            a_rotation_is_written_only_where_it_is_expected,
            a_name_is_taken_once,
            a_batch_that_fails_changes_nothing,
            a_value_is_written_once_and_an_empty_version_filled_once,
            nothing_is_written_beside_a_secret_that_is_not_there,
            a_stage_names_a_version_that_exists,
            a_secret_names_the_policy_that_it_has,
            an_access_key_is_written_only_where_it_is_expected,
            removing_a_secret_removes_all_of_it_and_no_other,
            a_writer_of_an_earlier_epoch_is_fenced,
            an_epoch_survives_reopening,
            batches_that_wait_together_fail_alone,
            what_was_read_before_a_write_is_not_read_after_it,
            nobody_reads_what_an_answered_write_replaced,
            secrets_are_listed_by_name_in_pages,
            mounts_are_found_by_id_secret_and_node,
            audit_rows_are_numbered_and_chained,
            the_newest_time_is_that_of_the_newest_record,
            an_installation_keeps_what_is_in_its_arns,
            no_changed_column_is_read,
        }
    };
    ($bench:expr; $($name:ident,)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::store::contract::$name(&$bench).await
            }
        )+
    };
}
pub(in crate::store) use fulfils_the_contract;
