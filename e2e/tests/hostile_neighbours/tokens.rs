//! Attacks with tokens: of another audience, another pod, another ServiceAccount; forged, unbound, and after their pod.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidelock_e2e::caller::Caller;
use tidelock_e2e::shop::{NAMESPACE, PATIENCE};

use super::{MALLORY, Stage, audience};

const UNRECOGNISED: &str = "UnrecognizedClientException";
const TOKEN: &str = "00000000-0000-0000-0000-00000000000b";
const DENIED: &str = "AccessDeniedException";

/// Sent early: the node takes its time.
pub fn pods(stage: &Stage<'_>, stolen: &str) -> Vec<Value> {
    let tokens = json!({audience("node"): {"token": stolen, "expirationTimestamp": "2099-01-01T00:00:00Z"}});
    let forged = json!({"driver": "csi.tidelock.dev", "readOnly": true, "volumeAttributes": {
        "secret": "shop/orders-db",
        "csi.storage.k8s.io/serviceAccount.tokens": tokens.to_string(),
        "csi.storage.k8s.io/serviceAccount.name": "orders-db",
        "csi.storage.k8s.io/pod.namespace": NAMESPACE,
        "csi.storage.k8s.io/pod.name": "app",
    }});
    let own =
        json!({"driver": "csi.tidelock.dev", "readOnly": true, "volumeAttributes": {"secret": "neighbour"}});
    vec![stage.pod("forged-token", MALLORY, forged), stage.pod("brief", "neighbour", own)]
}

/// The token that kubelet gets for the victim's pod, as if it had been stolen.
pub async fn stolen(stage: &Stage<'_>) -> String {
    let words = ["-n", NAMESPACE, "create", "token", "orders-db", "--audience", &audience("node")];
    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", "app"];
    stage.shop.cluster.kubectl(&[&words[..], &bound].concat()).await.unwrap().trim().to_owned()
}

pub async fn are_worth_what_their_own_pod_may(stage: &Stage<'_>) {
    let (shop, mallory) = (stage.shop, &stage.mallory);
    // The victim's own token is good for what it was made for, or the refusals below would prove nothing.
    for (end, good) in [("api", true), ("node", false), ("stream", false)] {
        let answer = Caller::new(shop, "orders-db", &audience(end))
            .await
            .unwrap()
            .reveals("shop/orders-db")
            .await
            .unwrap();
        match good {
            true => assert_eq!(answer.0, 200, "{}", answer.1["__type"]),
            false => stage.denied(
                &format!("the victim's token for {end}, at the API"),
                "whoever stole it",
                answer,
                UNRECOGNISED,
            ),
        }
    }
    for end in ["node", "stream", "https://kubernetes.default.svc"] {
        let name = if end.starts_with("http") { end.to_owned() } else { audience(end) };
        let token = mallory.token(MALLORY, &name, None).await.unwrap();
        let answer = Caller::bearing(shop, &token).await.unwrap().reveals("mallory/mine").await.unwrap();
        stage.denied(&format!("a token for {end}, at the API"), &mallory.user, answer, UNRECOGNISED);
    }
    tokens_of_his_own_accounts(stage).await;
    let attack = "tokens, names and namespace of the victim in volumeAttributes";
    let told = stage
        .event_says("forged-token", "ServiceAccount mallory/mallory may not have the secret shop/orders-db")
        .await;
    stage.harmless(attack, &mallory.user, "refused: NotAllowed, for the pod's true ServiceAccount", told);
    a_token_ends_with_its_pod(stage).await;
}

async fn tokens_of_his_own_accounts(stage: &Stage<'_>) {
    let mallory = &stage.mallory;
    let unbound = stage.caller(MALLORY, None).await;
    let own = unbound.reveals("mallory/mine").await.unwrap();
    assert_eq!(own.0, 200, "{}", own.1["__type"]);
    let bound = stage.caller(MALLORY, Some("planter")).await;
    for (how, caller) in [("bound to no pod", &unbound), ("bound to a pod of his", &bound)] {
        for victim in ["shop/orders-db", "mallory/neighbour", "mallory/unshared"] {
            let answer = caller.reveals(victim).await.unwrap();
            stage.denied(&format!("a token {how}, for {victim}"), &mallory.user, answer, DENIED);
        }
        let all = json!({"SecretIdList": ["shop/orders-db", "mallory/neighbour", "mallory/unshared"]});
        stage.hears(&caller.call("BatchGetSecretValue", all).await.unwrap().1.to_string());
        for (operation, more) in [
            ("PutSecretValue", json!({"SecretString": "mallory's", "ClientRequestToken": TOKEN})),
            ("UpdateSecretVersionStage", json!({"VersionStage": "AWSPENDING"})),
            ("RotateSecret", json!({"ClientRequestToken": TOKEN})),
            ("CancelRotateSecret", json!({})),
            ("DeleteSecret", json!({"ForceDeleteWithoutRecovery": true})),
        ] {
            let mut asks = json!({"SecretId": "shop/orders-db"});
            asks.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = caller.call(operation, asks).await.unwrap();
            stage.denied(&format!("a token {how}, for {operation}"), &mallory.user, answer, DENIED);
        }
        let made = json!({"Name": "shop/planted", "SecretString": "mallory's", "ClientRequestToken": TOKEN});
        let answer = caller.call("CreateSecret", made).await.unwrap();
        stage.denied(&format!("a token {how}, to make shop/planted"), &mallory.user, answer, DENIED);
    }
    // Kubernetes' own guards.
    let words = ["-n", NAMESPACE, "create", "token", "orders-db", "--audience", &audience("api")];
    stage.refused(
        "TokenRequest for the victim's ServiceAccount",
        mallory,
        mallory.kubectl(&words).await,
        "is forbidden",
    );
    let other = mallory.token(MALLORY, &audience("api"), Some("brief")).await;
    stage.refused(
        "TokenRequest bound to another ServiceAccount's pod",
        mallory,
        other,
        "different serviceaccount name",
    );
    let absent = mallory.token(MALLORY, &audience("api"), Some("app")).await;
    stage.refused("TokenRequest bound to the victim's pod", mallory, absent, "not found");
    let neighbour = stage.caller("neighbour", None).await.reveals("mallory/neighbour").await.unwrap();
    assert_eq!(neighbour.0, 200, "{}", neighbour.1["__type"]);
    stage.row(
        "TokenRequest for his neighbour's ServiceAccount",
        &mallory.user,
        "what that ServiceAccount has, as SECURITY.md says",
    );

    let token = mallory.token(MALLORY, &audience("api"), None).await.unwrap();
    let (status, said) =
        unbound.assumes("arn:aws:iam::000000000000:role/shop/orders-db", &token).await.unwrap();
    stage.hears(&said);
    let refused = status == 403 && said.contains("<Code>AccessDenied</Code>");
    let proof = if refused { Ok(()) } else { Err(anyhow::anyhow!("{status}")) };
    stage.harmless(
        "AssumeRoleWithWebIdentity for the victim's role",
        &mallory.user,
        "refused: AccessDenied",
        proof,
    );
}

/// Also when another pod has taken the name.
async fn a_token_ends_with_its_pod(stage: &Stage<'_>) {
    stage.is_running("brief").await.unwrap();
    let caller = stage.caller("neighbour", Some("brief")).await;
    assert_eq!(caller.reveals("mallory/neighbour").await.unwrap().0, 200, "good while its pod runs");
    stage.mallory.kubectl(&["delete", "pod", "brief"]).await.unwrap();
    let mut last = (0, Value::Null);
    let ended = async || {
        last = caller.reveals("mallory/neighbour").await.ok()?;
        (last.0 != 200).then_some(())
    };
    let proof: Result<()> =
        stage.shop.cluster.wait_for("the token of a deleted pod to be refused", PATIENCE, ended).await;
    proof.unwrap();
    stage.denied("a token after its pod's end", &stage.mallory.user, last, UNRECOGNISED);
    let mut again = stage.pod("brief", "neighbour", json!({}));
    again["spec"]["volumes"] = json!([]);
    again["spec"]["containers"][0]["volumeMounts"] = json!([]);
    stage.mallory.creates(&again).await.unwrap();
    let answer = caller.reveals("mallory/neighbour").await.unwrap();
    stage.denied("a token under a new pod of the same name", &stage.mallory.user, answer, UNRECOGNISED);
    let proof = async {
        let status = stage.shop.status("orders-db").await?;
        ensure!(status["consumers"]["total"] == 1, "{status}");
        anyhow::Ok(())
    };
    stage.harmless("all of these", &stage.mallory.user, "the victim has its one consumer", proof.await);
}
