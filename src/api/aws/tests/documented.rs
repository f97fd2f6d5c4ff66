//! Whether `docs/aws-api.md` says of each operation what is so. Must not judge its prose.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::api::aws::model::{OPERATIONS, members_of};

/// The words in backticks of a cell.
fn quoted(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_operations_is_what_is_built() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/aws-api.md")).unwrap();
    let tests: String =
        ["conformance", "errors", "listing", "policies", "rotation", "secrets", "stages", "values"]
            .into_iter()
            .map(|name| fs::read_to_string(root.join(format!("src/api/aws/tests/{name}.rs"))).unwrap())
            .collect();
    for operation in OPERATIONS {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}` |", operation.name)));
        let row = row.unwrap_or_else(|| panic!("docs/aws-api.md has no row for {}", operation.name));
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, members, _, by] = cells.as_slice() else { panic!("{row}: not five cells") };
        let action =
            Action::named(operation.name).unwrap_or_else(|| panic!("{} is not built", operation.name));
        let refused = action.not_built();
        let known = members_of(operation.name).iter().map(|member| member.name);
        let built: BTreeSet<_> = known.filter(|name| !refused.contains(name)).collect();
        assert_eq!(quoted(members), built, "{}", operation.name);
        assert!(!quoted(by).is_empty(), "{} is tested by nothing", operation.name);
        for test in quoted(by) {
            assert!(tests.contains(&format!("fn {test}(")), "{}: there is no test {test}", operation.name);
        }
    }
}
