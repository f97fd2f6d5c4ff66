//! The published model of AWS Secrets Manager, as the pinned botocore of PyPI carries it, and the table of it that the
//! server validates requests by: names, types, limits, errors. Must not copy the model's prose, nor guess: a shape or a
//! constraint that is not known here is an error, so that no newer model is taken on without a look at it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::{cache, prerequisites, program};

const VERSION: &str = "1.44.5";
/// Of the wheel, as PyPI publishes it. pip refuses any other.
const SHA256: &str = "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921";
const API_VERSION: &str = "2017-10-17";

/// Prints the model that lies compressed in the wheel.
const UNPACK: &str = "import gzip, sys, zipfile; \
    sys.stdout.buffer.write(gzip.decompress(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2])))";

/// What the model may say. A word that is not here fails the reading.
#[derive(Deserialize)]
struct Model {
    metadata: Metadata,
    operations: BTreeMap<String, Operation>,
    shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    api_version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read so that every other word is refused")]
struct Operation {
    name: String,
    http: serde_json::Value,
    documentation: Option<String>,
    input: Reference,
    output: Option<Reference>,
    #[serde(default)]
    errors: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read so that every other word is refused")]
struct Reference {
    shape: String,
    documentation: Option<String>,
    #[serde(default, rename = "box")]
    boxed: bool,
    #[serde(default, rename = "idempotencyToken")]
    idempotency_token: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read so that every other word is refused")]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    documentation: Option<String>,
    min: Option<i64>,
    max: Option<i64>,
    pattern: Option<String>,
    #[serde(rename = "enum")]
    choices: Option<Vec<String>>,
    #[serde(default)]
    sensitive: bool,
    #[serde(default, rename = "box")]
    boxed: bool,
    member: Option<Reference>,
    key: Option<Reference>,
    value: Option<Reference>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    exception: bool,
    #[serde(default)]
    fault: bool,
    #[serde(default)]
    deprecated: bool,
    #[serde(rename = "deprecatedMessage")]
    deprecated_message: Option<String>,
    error: Option<serde_json::Value>,
}

/// Two files of the server's source.
pub struct Tables {
    /// What requests are validated by.
    pub requests: String,
    /// What may come back, which the tests hold answers against.
    pub answers: String,
}

pub async fn tables() -> Result<Tables> {
    let model: Model = serde_json::from_str(&published().await?)
        .context("the service model says something that the generator does not know")?;
    ensure!(model.metadata.api_version == API_VERSION, "the model is of another version of the API");
    let written = Writer { model, constants: BTreeMap::new() }.tables()?;
    Ok(Tables { requests: formatted(&written.requests).await?, answers: formatted(&written.answers).await? })
}

/// The model's JSON. The wheel is fetched once; each time pip compares it with the checksum.
async fn published() -> Result<String> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).stdout(Stdio::null()).status().await;
    if !pip.is_ok_and(|status| status.success()) {
        prerequisites::install(&["python3-pip"]).await?;
    }
    let _alone = cache::lock("service-model").await?;
    let folder = cache::folder()?.join("service-model");
    fs::create_dir_all(&folder)?;
    let wanted = folder.join(format!("botocore-{VERSION}.txt"));
    fs::write(&wanted, format!("botocore=={VERSION} --hash=sha256:{SHA256}\n"))?;
    let wheel = folder.join(format!("botocore-{VERSION}-py3-none-any.whl"));
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-cache-dir",
    ]);
    pip.args(["--require-hashes", "--only-binary", ":all:", "--find-links"]).arg(&folder);
    if wheel.exists() {
        pip.arg("--no-index");
    }
    program::run(pip.arg("--dest").arg(&folder).arg("--requirement").arg(&wanted)).await?;
    let inside = format!("botocore/data/secretsmanager/{API_VERSION}/service-2.json.gz");
    program::run(Command::new("python3").args(["-c", UNPACK]).arg(&wheel).arg(&inside)).await
}

async fn formatted(source: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("table.rs");
    fs::write(&file, source)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut rustfmt = Command::new("rustfmt");
    program::run(rustfmt.args(["--edition", "2024", "--config-path"]).arg(root).arg(&file)).await?;
    Ok(fs::read_to_string(&file)?)
}

struct Writer {
    model: Model,
    /// Name and expression of each shape that is used.
    constants: BTreeMap<String, String>,
}

impl Writer {
    fn tables(mut self) -> Result<Tables> {
        let head = format!(
            "//! Written by `make generate` from the service model of botocore {VERSION}, API version {API_VERSION}.\n\
             //! Must not be edited: `e2e/src/service_model.rs` says how it comes about.\n\n"
        );
        let inputs =
            self.model.operations.iter().map(|(name, known)| (name.clone(), known.input.shape.clone()));
        let inputs: Vec<_> = inputs.collect();
        let count = inputs.len();
        let mut requests = format!(
            "{head}use super::{{Member, Operation, Shape}};\n\n\
             pub(in crate::api::aws) const OPERATIONS: [Operation; {count}] = [\n"
        );
        for (name, input) in &inputs {
            let members = self.members(input)?;
            writeln!(requests, "Operation {{ name: {name:?}, members: {members} }},")?;
        }
        requests.push_str("];\n\n");
        for (name, expression) in &self.constants {
            writeln!(requests, "const {name}: Shape = {expression};")?;
        }
        Ok(Tables { requests, answers: head + &self.declared()? })
    }

    fn declared(&self) -> Result<String> {
        let count = self.model.operations.len();
        let mut declared = format!("pub const DECLARED: [super::Declared; {count}] = [\n");
        for (name, operation) in &self.model.operations {
            let errors: Vec<_> = operation.errors.iter().map(|error| &error.shape).collect();
            let answer: Vec<_> = match &operation.output {
                Some(output) => self.shape(&output.shape)?.members.keys().collect(),
                None => Vec::new(),
            };
            writeln!(
                declared,
                "super::Declared {{ name: {name:?}, errors: &{errors:?}, answer: &{answer:?} }},"
            )?;
        }
        Ok(declared + "];\n")
    }

    fn shape(&self, name: &str) -> Result<&Shape> {
        self.model.shapes.get(name).with_context(|| format!("the model has no shape {name}"))
    }

    fn members(&mut self, name: &str) -> Result<String> {
        let shape = self.shape(name)?;
        ensure!(shape.kind == "structure", "{name} is a {}, not a structure", shape.kind);
        let required = shape.required.clone();
        let members = shape.members.clone();
        let mut written = String::from("&[");
        for (member, reference) in members {
            let reference: Reference = serde_json::from_value(reference)
                .with_context(|| format!("{name}.{member} says something that is not known"))?;
            let constant = self.constant(&reference.shape)?;
            let how = if required.contains(&member) { "required" } else { "optional" };
            write!(written, "Member::{how}({member:?}, {constant}), ")?;
        }
        Ok(written + "]")
    }

    /// The constant that stands for a shape; made when it is first asked for.
    fn constant(&mut self, name: &str) -> Result<String> {
        let constant = upper_snake(name);
        if !self.constants.contains_key(&constant) {
            let expression = self.expression(name)?;
            self.constants.insert(constant.clone(), expression);
        }
        Ok(constant)
    }

    fn expression(&mut self, name: &str) -> Result<String> {
        let shape = self.shape(name)?;
        let (min, max) = (shape.min, shape.max);
        let items = (min.unwrap_or(0), max.map_or("usize::MAX".to_owned(), |max| max.to_string()));
        Ok(match shape.kind.as_str() {
            "string" => match (&shape.choices, &shape.pattern) {
                (Some(choices), None) => format!("Shape::Choice(&{choices:?})"),
                (None, pattern) => {
                    let pattern =
                        pattern.as_ref().map_or("None".to_owned(), |text| format!("Some(r{text:?})"));
                    // A raw string takes what the pattern says as it stands.
                    let pattern = pattern.replace("\\\\", "\\");
                    let (min, max, sensitive) = (items.0, items.1, shape.sensitive);
                    format!(
                        "Shape::Text {{ min: {min}, max: {max}, pattern: {pattern}, sensitive: {sensitive} }}"
                    )
                }
                (Some(_), Some(_)) => bail!("{name} has both an enum and a pattern"),
            },
            "blob" => {
                ensure!(shape.sensitive, "{name} is a blob that is not sensitive");
                format!("Shape::SensitiveBlob {{ min: {}, max: {} }}", items.0, items.1)
            }
            "boolean" => "Shape::Flag".to_owned(),
            "long" | "integer" => {
                let (min, max) = (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX));
                format!("Shape::Whole {{ min: {min}, max: {max} }}")
                    .replace(&i64::MIN.to_string(), "i64::MIN")
                    .replace(&i64::MAX.to_string(), "i64::MAX")
            }
            "list" => {
                let of =
                    shape.member.as_ref().with_context(|| format!("{name} lists nothing"))?.shape.clone();
                let of = self.constant(&of)?;
                format!("Shape::List {{ min: {}, max: {}, of: &{of} }}", items.0, items.1)
            }
            "structure" => format!("Shape::Structure({})", self.members(name)?),
            other => bail!("{name} is a {other}: the server cannot read one in a request"),
        })
    }
}

/// `SecretIdType` -> `SECRET_ID_TYPE`.
fn upper_snake(name: &str) -> String {
    let mut written = String::new();
    let mut before_is_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && before_is_lower {
            written.push('_');
        }
        before_is_lower = !c.is_uppercase();
        written.push(c.to_ascii_uppercase());
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shapes: &str) -> Result<Tables> {
        let text = format!(
            r#"{{"metadata": {{"apiVersion": "2017-10-17"}}, "operations": {{"Ask": {{"name": "Ask", "http": {{}},
                "input": {{"shape": "In"}}, "errors": [{{"shape": "No"}}]}}}}, "shapes": {shapes}}}"#
        );
        Writer { model: serde_json::from_str(&text)?, constants: BTreeMap::new() }.tables()
    }

    #[test]
    fn the_table_says_what_the_model_says() {
        let shapes = r#"{"In": {"type": "structure", "required": ["Id"], "members": {"Id": {"shape": "IdType"}}},
            "IdType": {"type": "string", "min": 1, "max": 9, "pattern": "^\\!?[a-z]*$"}}"#;
        let tables = written(shapes).unwrap();
        let source = tables.requests + &tables.answers;
        for part in [
            r#"Operation { name: "Ask", members: &[Member::required("Id", ID_TYPE), ] }"#,
            r#"super::Declared { name: "Ask", errors: &["No"], answer: &[] }"#,
            r#"const ID_TYPE: Shape = Shape::Text { min: 1, max: 9, pattern: Some(r"^\!?[a-z]*$"), sensitive: false };"#,
        ] {
            assert!(source.contains(part), "{source}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let check = |id: &str, because: &str| {
            let shapes = format!(
                r#"{{"In": {{"type": "structure", "members": {{"Id": {{"shape": "IdType"}}}}}}, "IdType": {id}}}"#
            );
            let error = format!("{:#}", written(&shapes).err().unwrap());
            assert!(error.contains(because), "{error}");
        };
        check(r#"{"type": "string", "unheardOf": 1}"#, "unheardOf");
        check(r#"{"type": "double"}"#, "cannot read one");
        check(r#"{"type": "blob"}"#, "not sensitive");
        check(r#"{"type": "list"}"#, "lists nothing");
    }
}
