//! A hundred pods of one ServiceAccount on one node, with one secret: how often is what asked, opened and written. Counts
//! work, never time.

use super::*;

const NODE: &str = "node-1";
const PODS: usize = 100;

/// With what its token says of it alone.
fn pod(number: usize) -> Principal {
    let Principal::ServiceAccount { account, uid, groups, .. } = app() else { unreachable!() };
    let extra = BTreeMap::from([("pod-name".to_owned(), vec![format!("pod-{number}")])]).into();
    Principal::ServiceAccount { account, uid, groups, extra, pod: None, via: Box::default() }
}

fn mount_id(number: usize) -> String {
    format!("pod-{number}/tidelock")
}

impl Bench {
    async fn hundred(&self) -> VersionId {
        let mut version = None;
        for number in 0..PODS {
            let request = MountRequest {
                mount_id: mount_id(number),
                pod_namespace: "shop".into(),
                pod_name: format!("pod-{number}"),
                pod_uid: format!("pod-{number}"),
                attributes: BTreeMap::from([("secret".to_owned(), "orders-db".to_owned())]),
            };
            version = Some(self.keeper.attach(&pod(number), NODE, request).await.unwrap().version);
        }
        self.asked();
        version.unwrap()
    }

    /// The different questions since the last time, by what is told of the pod.
    fn asked(&self) -> BTreeSet<Vec<String>> {
        let asked = std::mem::take(&mut *self.answers.asked.lock().unwrap());
        asked.iter().map(told_of_the_pod).collect()
    }

    fn receipts(&self, arn: &Arn, version: &VersionId) -> Vec<Receipt> {
        let came_at = self.clock.monotonic();
        let receipt = |number| Receipt {
            mount_id: mount_id(number),
            arn: arn.clone(),
            version: version.clone(),
            came_at,
        };
        (0..PODS).map(receipt).collect()
    }
}

fn told_of_the_pod(who: &Principal) -> Vec<String> {
    let Principal::ServiceAccount { extra, .. } = who else { return Vec::new() };
    extra.values().flatten().cloned().collect()
}

fn placed(refreshed: &[(String, Refreshed)]) -> Vec<&Arc<Payload>> {
    let payloads = refreshed.iter().filter_map(|(_, what)| match what {
        Refreshed::Place(projected) => Some(&projected.payload),
        _ => None,
    });
    payloads.collect()
}

#[tokio::test]
async fn a_new_value_is_opened_once_and_asked_about_once_for_each_account() {
    let bench = bench().await;
    let arn = bench.resource(Some("one"), vec![grant_of(None)]).await.arn;
    bench.hundred().await;
    bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("two"), None).await.unwrap();
    bench.asked();
    let refreshed = bench.keeper.refresh(NODE, &arn).await;
    assert_eq!(bench.asked(), BTreeSet::from([Vec::new()]), "one question, which tells nothing of a pod");
    let payloads = placed(&refreshed);
    assert_eq!(payloads.len(), PODS);
    assert!(payloads.iter().all(|payload| Arc::ptr_eq(payload, payloads[0])), "it is opened once");

    // Now and then each pod is asked about with all that its token said.
    bench.keeper.refresh_node(NODE).await;
    assert_eq!(bench.asked().len(), PODS);
}

#[tokio::test]
async fn a_right_that_only_pods_tell_of_is_asked_about_each_pod() {
    let bench = bench().await;
    let arn = bench.resource(Some("one"), Vec::new()).await.arn;
    bench.answers.allow(&app(), Operation::Project);
    bench.hundred().await;
    // An authorizer that looks at more than the account.
    *bench.answers.only_by_pod.lock().unwrap() = true;
    bench.keeper.put(&Principal::Controller, &id(), &v(2), &text("two"), None).await.unwrap();
    bench.asked();
    assert_eq!(placed(&bench.keeper.refresh(NODE, &arn).await).len(), PODS, "what was allowed stays so");
    assert_eq!(bench.asked().len(), PODS + 1);

    bench.answers.disallow(&app(), Operation::Project);
    bench.keeper.put(&Principal::Controller, &id(), &v(3), &text("three"), None).await.unwrap();
    let refreshed = bench.keeper.refresh(NODE, &arn).await;
    assert!(placed(&refreshed).is_empty(), "nobody gets a value whom the cluster does not allow it any more");
    let withdrawn = |what: &Refreshed| matches!(what, Refreshed::Withdraw { reason: "AccessDenied", .. });
    assert!(refreshed.iter().all(|(_, what)| withdrawn(what)));
}

#[tokio::test]
async fn receipts_that_come_together_are_one_write() {
    let bench = bench().await;
    let arn = bench.resource(Some("one"), vec![grant_of(None)]).await.arn;
    let first = bench.hundred().await;
    let commits = async || bench.keeper.ports.store.position().await.unwrap().commit;
    let before = commits().await;
    let mut receipts = bench.receipts(&arn, &first);
    receipts.push(Receipt { mount_id: "gone/tidelock".into(), ..receipts[0].clone() });
    bench.keeper.receipts(NODE, &receipts).await.unwrap();
    assert_eq!(commits().await - before, 1);
    assert_eq!(bench.keeper.consumers(&arn).await.unwrap().current, PODS);
    let noted = bench.audit().await.into_iter().filter(|(_, verb, _)| verb == "receipt").count();
    assert_eq!(noted, PODS, "each has its row");

    bench.keeper.receipts(NODE, &receipts).await.unwrap();
    assert_eq!(commits().await - before, 1, "what is known is not written again");
}
