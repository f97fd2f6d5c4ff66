//! The definitions as a page for people, `docs/crds.md`: each field with its type, what it means, and what is refused.
//! Must not say anything that the schemas do not say.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::definitions;

/// The whole page.
pub fn reference() -> String {
    let mut page = String::from(
        "# Custom resources\n\nWritten by `make generate` from `src/crd`; edit that. A field with `*` must be written.\n",
    );
    for definition in definitions() {
        let names = &definition.spec.names;
        for version in &definition.spec.versions {
            let short = names.short_names.iter().flatten().map(|name| format!(", `{name}`"));
            // Writing to a string does not fail.
            let _ = write!(
                page,
                "\n## {}\n`apiVersion: {}/{}`; for kubectl `{}`{}.\n",
                names.kind,
                definition.spec.group,
                version.name,
                names.plural,
                short.collect::<String>()
            );
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            for part in ["spec", "status"] {
                let Some(schema) = schema.and_then(|whole| whole.properties.as_ref()?.get(part)) else {
                    continue;
                };
                let _ = write!(page, "\n### {} `{part}`\n", names.kind);
                if let Some(text) = &schema.description {
                    let _ = write!(page, "{text}\n\n");
                }
                page.push_str("| field | type | meaning |\n|---|---|---|\n");
                rows(&mut page, schema, part);
                for message in refusals(schema) {
                    let _ = write!(page, "\n`{part}` is refused with: {message}.\n");
                }
            }
        }
    }
    page
}

/// A row for each field under this one, each before what is in it.
fn rows(page: &mut String, schema: &JSONSchemaProps, path: &str) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let star = if required.contains(name) { "\\*" } else { "" };
        let mut meaning = field.description.clone().unwrap_or_default();
        for message in refusals(field).into_iter().chain(items(field).map(refusals).unwrap_or_default()) {
            let _ = write!(meaning, " Refused with: {message}.");
        }
        let _ = writeln!(page, "| `{path}`{star} | {} | {} |", kind(field), cell(&meaning));
        rows(page, field, &path);
        if let Some(items) = items(field) {
            rows(page, items, &format!("{path}[]"));
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &field.additional_properties {
            rows(page, values, &format!("{path}.<key>"));
        }
    }
}

fn items(field: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match field.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn kind(field: &JSONSchemaProps) -> String {
    let bounds = [
        field.minimum.map(|bound| format!("from {bound}")),
        field.maximum.map(|bound| format!("to {bound}")),
        field.min_length.filter(|bound| *bound > 1).map(|bound| format!("at least {bound} characters")),
        field.max_length.map(|bound| format!("at most {bound} characters")),
        field.max_items.map(|bound| format!("at most {bound}")),
        field.max_properties.map(|bound| format!("at most {bound}")),
    ];
    let name = match (field.type_.as_deref(), items(field), &field.additional_properties) {
        (Some("array"), Some(items), _) => format!("list of {}", kind(items)),
        (Some("object"), _, Some(JSONSchemaPropsOrBool::Schema(values))) => {
            format!("map of {}", kind(values))
        }
        (Some(name), ..) => name.to_owned(),
        (None, ..) => "any".to_owned(),
    };
    let choices: Vec<String> =
        field.enum_.iter().flatten().map(|choice| choice.0.to_string().replace('"', "`")).collect();
    let name = if choices.is_empty() { name } else { choices.join(", ") };
    std::iter::once(name).chain(bounds.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

fn refusals(schema: &JSONSchemaProps) -> Vec<&str> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    rules.filter_map(|rule| rule.message.as_deref()).collect()
}

/// Nothing in it may end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_these_types_and_tells_each_field_with_its_rules() {
        let page = reference();
        let there = include_str!("../../docs/crds.md");
        assert!(page == there, "run `make generate`: docs/crds.md is not what src/crd says");
        for words in [
            "## ManagedSecret",
            "| `spec.value`\\* | object |",
            "| `spec.access[].serviceAccount`",
            "write exactly one of generate, fromSecret, symmetricKey or external",
            "| `status.conditions[].reason`",
        ] {
            assert!(page.contains(words), "`{words}` is missing");
        }
        assert!(!page.contains("| |\n"), "a field without an explanation");
    }
}
