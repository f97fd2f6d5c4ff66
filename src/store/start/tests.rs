//! Every observation and its plan.

use super::*;

fn installation(state: InstallationState) -> Installation {
    let root_key = (state == InstallationState::Ready).then(|| KeyId::new("file:1".into()));
    Installation {
        id: "mine".into(),
        state,
        region: "local-1".into(),
        account: "000000000000".into(),
        cluster_id: String::new(),
        crd_uid: String::new(),
        root_key,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn plan(observed: &Observed) -> String {
    match decide_start(observed) {
        StartPlan::BeginInitialising { adopt: None } => "begin".into(),
        StartPlan::BeginInitialising { adopt: Some(id) } => format!("begin as {id}"),
        StartPlan::CreateKey { installation } => format!("create key for {installation}"),
        StartPlan::FinishReady { key } => format!("finish with {key}"),
        StartPlan::Serve => "serve".into(),
        StartPlan::Refuse(refusal) => refusal.reason.into(),
    }
}

/// Every combination of store, records, key, custom resources and accepted loss, each with its plan.
#[test]
fn every_observation_has_its_plan() {
    use InstallationState::{Initialising, Ready};
    let stores = [None, Some(Initialising), Some(Ready)];
    let keys = ["absent", "malformed", "mine", "other", "mine, another key"];
    let losses = [None, Some("mine"), Some("other"), Some("unknown")];
    let mut seen = 0;
    for store in stores {
        for records in [false, true] {
            for key in keys {
                for arns in [false, true] {
                    for loss in losses {
                        let present = |installation: &str, key: &str| KeySeen::Present {
                            installation: installation.into(),
                            key: KeyId::new(key.into()),
                        };
                        let observed = Observed {
                            installation: store.map(installation),
                            store_has_records: records,
                            key: match key {
                                "absent" => KeySeen::Absent,
                                "malformed" => KeySeen::Malformed("it is empty".into()),
                                "mine" => present("mine", "file:1"),
                                "other" => present("other", "file:2"),
                                _ => present("mine", "file:2"),
                            },
                            custom_resource_has_arn: arns,
                            loss: loss.map(|id| LossAccepted { installation: id.into() }),
                            region: "local-1".into(),
                            account: "000000000000".into(),
                        };
                        let wanted = match (store, records, key, arns, loss) {
                            (_, _, "malformed", _, _) => "RootKeyMalformed",
                            (Some(Ready), _, "mine", _, _) => "serve",
                            (Some(Ready), _, "absent", _, _) => "RootKeyLost",
                            (Some(Ready), _, _, _, _) => "RootKeyMismatch",
                            (_, true, _, _, _) => "StoreTampered",
                            (Some(Initialising), _, "absent", _, _) => "create key for mine",
                            (Some(Initialising), _, "mine", _, _) => "finish with file:1",
                            (Some(Initialising), _, "mine, another key", _, _) => "finish with file:2",
                            (_, _, "other", _, Some("other")) => "begin as other",
                            (_, _, "other", _, _) => "StoreLost",
                            (None, _, "mine" | "mine, another key", _, Some("mine")) => "begin as mine",
                            (None, _, "mine" | "mine, another key", _, _) => "StoreLost",
                            (None, _, "absent", false, _) => "begin",
                            (None, _, "absent", true, Some("unknown")) => "begin",
                            (None, _, "absent", true, _) => "StoreLost",
                            other => panic!("{other:?} has no row in this table"),
                        };
                        assert_eq!(plan(&observed), wanted, "{observed:?}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert_eq!(seen, 3 * 2 * 5 * 2 * 4);
}

#[test]
fn a_store_of_another_region_or_account_is_refused_whatever_else_is_found() {
    for state in [InstallationState::Initialising, InstallationState::Ready] {
        for (region, account) in [("local-2", "000000000000"), ("local-1", "111111111111")] {
            let observed = Observed {
                installation: Some(installation(state)),
                store_has_records: true,
                key: KeySeen::Present { installation: "mine".into(), key: KeyId::new("file:1".into()) },
                custom_resource_has_arn: true,
                loss: None,
                region: region.into(),
                account: account.into(),
            };
            assert_eq!(plan(&observed), "StoreOfOtherRegion");
        }
    }
}

#[test]
fn a_lost_store_says_what_to_restore_and_what_to_run() {
    let observed = Observed {
        installation: None,
        store_has_records: false,
        key: KeySeen::Present { installation: "0190".into(), key: KeyId::new("file:1".into()) },
        custom_resource_has_arn: true,
        loss: None,
        region: "local-1".into(),
        account: "000000000000".into(),
    };
    let StartPlan::Refuse(refusal) = decide_start(&observed) else { panic!("a lost store was not noticed") };
    assert!(refusal.message.contains("restore the store's volume"), "{refusal}");
    assert!(refusal.message.contains("tidelock init --accept-loss=0190"), "{refusal}");
}

/// Walks a first start to its end, killed after each step, in every order in which a kill can fall.
#[test]
fn a_first_start_that_is_killed_between_any_two_steps_resumes() {
    let mut observed = Observed {
        installation: None,
        store_has_records: false,
        key: KeySeen::Absent,
        custom_resource_has_arn: false,
        loss: None,
        region: "local-1".into(),
        account: "000000000000".into(),
    };
    let mut walked = Vec::new();
    loop {
        let next = decide_start(&observed);
        assert_eq!(next, decide_start(&observed), "a step that was decided but not done is decided again");
        walked.push(plan(&observed));
        match next {
            StartPlan::BeginInitialising { .. } => {
                observed.installation = Some(installation(InstallationState::Initialising));
            }
            StartPlan::CreateKey { installation } => {
                observed.key = KeySeen::Present { installation, key: KeyId::new("file:1".into()) };
            }
            StartPlan::FinishReady { .. } => {
                observed.installation = Some(installation(InstallationState::Ready));
            }
            StartPlan::Serve => break,
            StartPlan::Refuse(refusal) => panic!("{refusal}"),
        }
    }
    assert_eq!(walked, ["begin", "create key for mine", "finish with file:1", "serve"]);
}

#[test]
fn a_store_behind_its_noted_position_was_put_back() {
    let position = |epoch, commit| Position { epoch: crate::store::Epoch(epoch), commit };
    let noted = position(3, 70);
    for (store, good) in [
        (position(3, 70), true),
        (position(3, 71), true),
        (position(4, 70), true),
        (position(3, 69), false),
        (position(2, 90), false),
    ] {
        let checked = check_position(noted, store).map_err(|refusal| refusal.reason);
        assert_eq!(checked, if good { Ok(()) } else { Err("StoreRolledBack") }, "{store:?}");
    }
}

#[test]
fn a_clock_may_lag_five_minutes_behind_the_newest_record() {
    let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let check = |seconds| {
        let newest = now + SignedDuration::from_secs(seconds);
        check_clock(Some(newest), now).map_err(|refusal| refusal.reason)
    };
    assert_eq!(check_clock(None, now), Ok(()));
    assert_eq!((check(-1_000_000), check(0), check(300)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(check(301), Err("ClockBehindStore"));
}
