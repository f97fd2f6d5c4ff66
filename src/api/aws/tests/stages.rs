//! Random lives of a secret against a small model of versions and stages, written apart from the product's own.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LABELS: [&str; 4] = ["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "mine"];

#[derive(Debug, Clone)]
enum Step {
    Put { version: u8, value: u8, labels: Option<Vec<usize>> },
    Update { version: u8, value: u8 },
    Move { label: usize, to: Option<u8>, from: Option<u8> },
    Get { version: Option<u8>, label: Option<usize> },
}

fn step() -> impl Strategy<Value = Step> {
    let (version, value, label) = (0..6u8, 0..3u8, 0..LABELS.len());
    let labels = proptest::sample::subsequence(vec![0, 1, 3], 1..=3);
    let maybe = |of: std::ops::Range<u8>| proptest::option::of(of);
    prop_oneof![
        3 => (version.clone(), value.clone(), proptest::option::of(labels))
            .prop_map(|(version, value, labels)| Step::Put { version, value, labels }),
        1 => (version, value).prop_map(|(version, value)| Step::Update { version, value }),
        3 => (label.clone(), maybe(0..6), maybe(0..6))
            .prop_map(|(label, to, from)| Step::Move { label, to, from }),
        2 => (maybe(0..6), proptest::option::of(label))
            .prop_map(|(version, label)| Step::Get { version, label }),
    ]
}

/// Values by version, and versions by label. Each act gives what it reads, or the error's type.
#[derive(Default)]
struct Model {
    values: BTreeMap<u8, u8>,
    labels: BTreeMap<&'static str, u8>,
}

type Outcome = Result<Option<u8>, &'static str>;

impl Model {
    fn act(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Put { version, value, labels } => {
                let labels = labels.as_ref().map(|labels| labels.iter().map(|at| LABELS[*at]).collect());
                self.put(*version, *value, labels.unwrap_or_else(|| vec!["AWSCURRENT"]))
            }
            Step::Update { version, value } => self.put(*version, *value, vec!["AWSCURRENT"]),
            Step::Move { label, to, from } => self.relabel(LABELS[*label], *to, *from),
            Step::Get { version, label } => self.get(*version, label.map(|at| LABELS[at])),
        }
    }

    fn put(&mut self, version: u8, value: u8, mut labels: Vec<&'static str>) -> Outcome {
        match self.values.get(&version) {
            Some(held) if *held == value => return Ok(None),
            Some(_) => return Err("ResourceExistsException"),
            None => drop(self.values.insert(version, value)),
        }
        if !self.labels.contains_key("AWSCURRENT") {
            labels.push("AWSCURRENT");
        }
        if labels.contains(&"AWSCURRENT")
            && let Some(left) = self.labels.get("AWSCURRENT").copied()
        {
            self.labels.insert("AWSPREVIOUS", left);
            self.labels.retain(|label, holder| *label != "AWSPENDING" || *holder != left);
        }
        self.labels.extend(labels.into_iter().map(|label| (label, version)));
        Ok(None)
    }

    fn relabel(&mut self, label: &'static str, to: Option<u8>, from: Option<u8>) -> Outcome {
        if to.is_some_and(|to| !self.values.contains_key(&to)) {
            return Err("ResourceNotFoundException");
        }
        let holder = self.labels.get(label).copied();
        match (to, from) {
            (Some(_), _) if to == holder => return Ok(None),
            (None, None) => return Err("InvalidParameterException"),
            (None, _) if label == "AWSCURRENT" => return Err("InvalidParameterException"),
            _ if from != holder => return Err("InvalidParameterException"),
            (None, _) => drop(self.labels.remove(label)),
            (Some(to), _) => {
                if let (Some(left), "AWSCURRENT") = (holder, label) {
                    self.labels.insert("AWSPREVIOUS", left);
                }
                self.labels.insert(label, to);
            }
        }
        Ok(None)
    }

    fn get(&self, version: Option<u8>, label: Option<&str>) -> Outcome {
        let at = |label: &str| self.labels.get(label).copied();
        let version = match (version, label) {
            (Some(version), Some(label)) if at(label) != Some(version) => {
                return Err("InvalidRequestException");
            }
            (Some(version), _) => Some(version),
            (None, label) => at(label.unwrap_or("AWSCURRENT")),
        };
        let value = version.and_then(|version| self.values.get(&version));
        value.map(|value| Some(*value)).ok_or("ResourceNotFoundException")
    }

    fn stages(&self) -> Value {
        let mut stages: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (label, version) in &self.labels {
            stages.entry(token(*version)).or_default().push(label);
        }
        if stages.is_empty() { Value::Null } else { json!(stages) }
    }
}

async fn act(api: &Api, step: &Step) -> Answer {
    let mut body = json!({"SecretId": "shop/db"});
    let operation = match step {
        Step::Put { version, value, labels } => {
            (body["ClientRequestToken"], body["SecretString"]) =
                (json!(token(*version)), json!(value.to_string()));
            if let Some(labels) = labels {
                body["VersionStages"] = labels.iter().map(|at| json!(LABELS[*at])).collect();
            }
            "PutSecretValue"
        }
        Step::Update { version, value } => {
            (body["ClientRequestToken"], body["SecretString"]) =
                (json!(token(*version)), json!(value.to_string()));
            "UpdateSecret"
        }
        Step::Move { label, to, from } => {
            body["VersionStage"] = json!(LABELS[*label]);
            body["MoveToVersionId"] = json!(to.map(token));
            body["RemoveFromVersionId"] = json!(from.map(token));
            "UpdateSecretVersionStage"
        }
        Step::Get { version, label } => {
            body["VersionId"] = json!(version.map(token));
            body["VersionStage"] = json!(label.map(|at| LABELS[at]));
            "GetSecretValue"
        }
    };
    api.call(operation, body).await
}

async fn versions(api: &Api, deprecated: bool) -> BTreeSet<String> {
    let body = json!({"SecretId": "shop/db", "IncludeDeprecated": deprecated});
    let listed = api.ok("ListSecretVersionIds", body).await;
    let versions = listed["Versions"].as_array().unwrap().iter();
    versions.map(|version| version["VersionId"].as_str().unwrap().to_owned()).collect()
}

async fn lives_as_the_model(steps: Vec<Step>) {
    let api = api().await;
    api.ok("CreateSecret", json!({"Name": "shop/db", "ClientRequestToken": TOKEN})).await;
    let mut model = Model::default();
    for (at, step) in steps.iter().enumerate() {
        let wanted = model.act(step);
        let answer = act(&api, step).await;
        let told = match answer.status.is_success() {
            true => Ok(answer.json()["SecretString"].as_str().map(|text| text.parse().unwrap())),
            false => Err(answer.error().0),
        };
        let wanted = wanted.map_err(str::to_owned);
        let wanted = wanted.map(|read| read.filter(|_| matches!(step, Step::Get { .. })));
        assert_eq!(told, wanted, "step {at} of {steps:?}: {}", answer.text);
        let found = api.ok("DescribeSecret", json!({"SecretId": "shop/db"})).await;
        let stages = found.get("VersionIdsToStages").cloned().unwrap_or_default();
        assert_eq!(stages, model.stages(), "after step {at} of {steps:?}");
    }
    let known = model.values.keys().map(|version| token(*version)).collect();
    assert_eq!(versions(&api, true).await, known, "{steps:?}");
    let labelled = model.labels.values().map(|version| token(*version)).collect();
    assert_eq!(versions(&api, false).await, labelled, "{steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_acts_leaves_the_versions_and_stages_of_the_model(
        steps in proptest::collection::vec(step(), 1..16),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(lives_as_the_model(steps));
    }
}
