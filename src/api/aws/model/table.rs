//! Written by `make generate` from the service model of botocore 1.44.5, API version 2017-10-17.
//! Must not be edited: `e2e/src/service_model.rs` says how it comes about.

use super::{Member, Operation, Shape};

pub(in crate::api::aws) const OPERATIONS: [Operation; 26] = [
    Operation {
        name: "AssociateCrossAccountReplica",
        members: &[
            Member::required("CrossAccountReplicaARN", SECRET_ARNTYPE),
            Member::optional("ReplicaRestriction", REPLICA_RESTRICTION_TYPE),
            Member::optional("ReplicationRoleARN", ROLE_ARNTYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "BatchGetSecretValue",
        members: &[
            Member::optional("Filters", FILTERS_LIST_TYPE),
            Member::optional("MaxResults", MAX_RESULTS_BATCH_TYPE),
            Member::optional("NextToken", NEXT_TOKEN_TYPE),
            Member::optional("SecretIdList", SECRET_ID_LIST_TYPE),
        ],
    },
    Operation { name: "CancelRotateSecret", members: &[Member::required("SecretId", SECRET_ID_TYPE)] },
    Operation {
        name: "CreateSecret",
        members: &[
            Member::optional("AddReplicaRegions", ADD_REPLICA_REGION_LIST_TYPE),
            Member::optional("ClientRequestToken", CLIENT_REQUEST_TOKEN_TYPE),
            Member::optional("CrossAccountPrimaryARN", SECRET_ARNTYPE),
            Member::optional("Description", DESCRIPTION_TYPE),
            Member::optional("ForceOverwriteReplicaSecret", BOOLEAN_TYPE),
            Member::optional("KmsKeyId", KMS_KEY_ID_TYPE),
            Member::required("Name", NAME_TYPE),
            Member::optional("SecretBinary", SECRET_BINARY_TYPE),
            Member::optional("SecretString", SECRET_STRING_TYPE),
            Member::optional("Tags", TAG_LIST_TYPE),
            Member::optional("Type", MEDEA_TYPE_TYPE),
        ],
    },
    Operation {
        name: "DeleteResourcePolicy",
        members: &[
            Member::optional("PolicyName", RESOURCE_POLICY_NAME_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "DeleteSecret",
        members: &[
            Member::optional("ForceDeleteWithoutRecovery", BOOLEAN_TYPE),
            Member::optional("RecoveryWindowInDays", RECOVERY_WINDOW_IN_DAYS_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation { name: "DescribeSecret", members: &[Member::required("SecretId", SECRET_ID_TYPE)] },
    Operation {
        name: "DisassociateCrossAccountReplica",
        members: &[
            Member::required("CrossAccountReplicaARN", SECRET_ARNTYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "GetRandomPassword",
        members: &[
            Member::optional("ExcludeCharacters", EXCLUDE_CHARACTERS_TYPE),
            Member::optional("ExcludeLowercase", EXCLUDE_LOWERCASE_TYPE),
            Member::optional("ExcludeNumbers", EXCLUDE_NUMBERS_TYPE),
            Member::optional("ExcludePunctuation", EXCLUDE_PUNCTUATION_TYPE),
            Member::optional("ExcludeUppercase", EXCLUDE_UPPERCASE_TYPE),
            Member::optional("IncludeSpace", INCLUDE_SPACE_TYPE),
            Member::optional("PasswordLength", PASSWORD_LENGTH_TYPE),
            Member::optional("RequireEachIncludedType", REQUIRE_EACH_INCLUDED_TYPE_TYPE),
        ],
    },
    Operation {
        name: "GetResourcePolicy",
        members: &[
            Member::optional("PolicyName", RESOURCE_POLICY_NAME_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "GetSecretValue",
        members: &[
            Member::required("SecretId", SECRET_ID_TYPE),
            Member::optional("VersionId", SECRET_VERSION_ID_TYPE),
            Member::optional("VersionStage", SECRET_VERSION_STAGE_TYPE),
        ],
    },
    Operation {
        name: "ListResourcePolicies",
        members: &[
            Member::optional("MaxResults", MAX_RESULTS_TYPE),
            Member::optional("NextToken", NEXT_TOKEN_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "ListSecretVersionIds",
        members: &[
            Member::optional("IncludeDeprecated", BOOLEAN_TYPE),
            Member::optional("MaxResults", MAX_RESULTS_TYPE),
            Member::optional("NextToken", NEXT_TOKEN_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "ListSecrets",
        members: &[
            Member::optional("Filters", FILTERS_LIST_TYPE),
            Member::optional("IncludePlannedDeletion", BOOLEAN_TYPE),
            Member::optional("MaxResults", MAX_RESULTS_TYPE),
            Member::optional("NextToken", NEXT_TOKEN_TYPE),
            Member::optional("SortBy", SORT_BY_TYPE),
            Member::optional("SortOrder", SORT_ORDER_TYPE),
        ],
    },
    Operation {
        name: "PutResourcePolicy",
        members: &[
            Member::optional("BlockPublicPolicy", BOOLEAN_TYPE),
            Member::optional("PolicyName", RESOURCE_POLICY_NAME_TYPE),
            Member::required("ResourcePolicy", NON_EMPTY_RESOURCE_POLICY_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "PutSecretValue",
        members: &[
            Member::optional("ClientRequestToken", CLIENT_REQUEST_TOKEN_TYPE),
            Member::optional("RotationToken", ROTATION_TOKEN_TYPE),
            Member::optional("SecretBinary", SECRET_BINARY_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
            Member::optional("SecretString", SECRET_STRING_TYPE),
            Member::optional("VersionStages", SECRET_VERSION_STAGES_TYPE),
        ],
    },
    Operation {
        name: "RemoveRegionsFromReplication",
        members: &[
            Member::required("RemoveReplicaRegions", REMOVE_REPLICA_REGION_LIST_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation {
        name: "ReplicateSecretToRegions",
        members: &[
            Member::required("AddReplicaRegions", ADD_REPLICA_REGION_LIST_TYPE),
            Member::optional("ForceOverwriteReplicaSecret", BOOLEAN_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation { name: "RestoreSecret", members: &[Member::required("SecretId", SECRET_ID_TYPE)] },
    Operation {
        name: "RotateSecret",
        members: &[
            Member::optional("ClientRequestToken", CLIENT_REQUEST_TOKEN_TYPE),
            Member::optional("ExternalSecretRotationMetadata", EXTERNAL_SECRET_ROTATION_METADATA_TYPE),
            Member::optional("ExternalSecretRotationRoleArn", ROLE_ARNTYPE),
            Member::optional("RotateImmediately", BOOLEAN_TYPE),
            Member::optional("RotationLambdaARN", ROTATION_LAMBDA_ARNTYPE),
            Member::optional("RotationRules", ROTATION_RULES_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
        ],
    },
    Operation { name: "StopReplicationToReplica", members: &[Member::required("SecretId", SECRET_ID_TYPE)] },
    Operation {
        name: "TagResource",
        members: &[Member::required("SecretId", SECRET_ID_TYPE), Member::required("Tags", TAG_LIST_TYPE)],
    },
    Operation {
        name: "UntagResource",
        members: &[
            Member::required("SecretId", SECRET_ID_TYPE),
            Member::required("TagKeys", TAG_KEY_LIST_TYPE),
        ],
    },
    Operation {
        name: "UpdateSecret",
        members: &[
            Member::optional("ClientRequestToken", CLIENT_REQUEST_TOKEN_TYPE),
            Member::optional("Description", DESCRIPTION_TYPE),
            Member::optional("KmsKeyId", KMS_KEY_ID_TYPE),
            Member::optional("SecretBinary", SECRET_BINARY_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
            Member::optional("SecretString", SECRET_STRING_TYPE),
            Member::optional("Type", MEDEA_TYPE_TYPE),
        ],
    },
    Operation {
        name: "UpdateSecretVersionStage",
        members: &[
            Member::optional("MoveToVersionId", SECRET_VERSION_ID_TYPE),
            Member::optional("RemoveFromVersionId", SECRET_VERSION_ID_TYPE),
            Member::required("SecretId", SECRET_ID_TYPE),
            Member::required("VersionStage", SECRET_VERSION_STAGE_TYPE),
        ],
    },
    Operation {
        name: "ValidateResourcePolicy",
        members: &[
            Member::required("ResourcePolicy", NON_EMPTY_RESOURCE_POLICY_TYPE),
            Member::optional("SecretId", SECRET_ID_TYPE),
        ],
    },
];

const ADD_REPLICA_REGION_LIST_TYPE: Shape = Shape::List { min: 1, max: usize::MAX, of: &REPLICA_REGION_TYPE };
const AUTOMATICALLY_ROTATE_AFTER_DAYS_TYPE: Shape = Shape::Whole { min: 1, max: 1000 };
const BOOLEAN_TYPE: Shape = Shape::Flag;
const CLIENT_REQUEST_TOKEN_TYPE: Shape = Shape::Text { min: 32, max: 64, pattern: None, sensitive: false };
const DESCRIPTION_TYPE: Shape = Shape::Text { min: 0, max: 2048, pattern: None, sensitive: false };
const DURATION_TYPE: Shape = Shape::Text { min: 2, max: 3, pattern: Some(r"[0-9]+h"), sensitive: false };
const EXCLUDE_CHARACTERS_TYPE: Shape = Shape::Text { min: 0, max: 4096, pattern: None, sensitive: false };
const EXCLUDE_LOWERCASE_TYPE: Shape = Shape::Flag;
const EXCLUDE_NUMBERS_TYPE: Shape = Shape::Flag;
const EXCLUDE_PUNCTUATION_TYPE: Shape = Shape::Flag;
const EXCLUDE_UPPERCASE_TYPE: Shape = Shape::Flag;
const EXTERNAL_SECRET_ROTATION_METADATA_ITEM: Shape = Shape::Structure(&[
    Member::optional("Key", EXTERNAL_SECRET_ROTATION_METADATA_ITEM_KEY_TYPE),
    Member::optional("Value", EXTERNAL_SECRET_ROTATION_METADATA_ITEM_VALUE_TYPE),
]);
const EXTERNAL_SECRET_ROTATION_METADATA_ITEM_KEY_TYPE: Shape =
    Shape::Text { min: 1, max: 256, pattern: None, sensitive: false };
const EXTERNAL_SECRET_ROTATION_METADATA_ITEM_VALUE_TYPE: Shape =
    Shape::Text { min: 1, max: 2048, pattern: None, sensitive: false };
const EXTERNAL_SECRET_ROTATION_METADATA_TYPE: Shape =
    Shape::List { min: 0, max: usize::MAX, of: &EXTERNAL_SECRET_ROTATION_METADATA_ITEM };
const FILTER: Shape = Shape::Structure(&[
    Member::optional("Key", FILTER_NAME_STRING_TYPE),
    Member::optional("Values", FILTER_VALUES_STRING_LIST),
]);
const FILTERS_LIST_TYPE: Shape = Shape::List { min: 0, max: 10, of: &FILTER };
const FILTER_NAME_STRING_TYPE: Shape = Shape::Choice(&[
    "description",
    "name",
    "tag-key",
    "tag-value",
    "primary-region",
    "owning-service",
    "all",
]);
const FILTER_VALUES_STRING_LIST: Shape = Shape::List { min: 1, max: 10, of: &FILTER_VALUE_STRING_TYPE };
const FILTER_VALUE_STRING_TYPE: Shape =
    Shape::Text { min: 0, max: 512, pattern: Some(r"^\!?[a-zA-Z0-9 :_@\/\+\=\.\-\!]*$"), sensitive: false };
const INCLUDE_SPACE_TYPE: Shape = Shape::Flag;
const KMS_KEY_ID_TYPE: Shape = Shape::Text { min: 0, max: 2048, pattern: None, sensitive: false };
const MAX_RESULTS_BATCH_TYPE: Shape = Shape::Whole { min: 1, max: 20 };
const MAX_RESULTS_TYPE: Shape = Shape::Whole { min: 1, max: 100 };
const MEDEA_TYPE_TYPE: Shape = Shape::Text { min: 0, max: 256, pattern: None, sensitive: false };
const NAME_TYPE: Shape = Shape::Text { min: 1, max: 512, pattern: None, sensitive: false };
const NEXT_TOKEN_TYPE: Shape = Shape::Text { min: 1, max: 4096, pattern: None, sensitive: false };
const NON_EMPTY_RESOURCE_POLICY_TYPE: Shape =
    Shape::Text { min: 1, max: 20480, pattern: None, sensitive: false };
const PASSWORD_LENGTH_TYPE: Shape = Shape::Whole { min: 1, max: 4096 };
const RECOVERY_WINDOW_IN_DAYS_TYPE: Shape = Shape::Whole { min: i64::MIN, max: i64::MAX };
const REGION_TYPE: Shape =
    Shape::Text { min: 1, max: 128, pattern: Some(r"^([a-z]+-)+\d+$"), sensitive: false };
const REMOVE_REPLICA_REGION_LIST_TYPE: Shape = Shape::List { min: 1, max: usize::MAX, of: &REGION_TYPE };
const REPLICA_REGION_TYPE: Shape = Shape::Structure(&[
    Member::optional("KmsKeyId", KMS_KEY_ID_TYPE),
    Member::optional("Region", REGION_TYPE),
]);
const REPLICA_RESTRICTION_TYPE: Shape = Shape::Choice(&["SameOrg", "NoRestriction"]);
const REQUIRE_EACH_INCLUDED_TYPE_TYPE: Shape = Shape::Flag;
const RESOURCE_POLICY_NAME_TYPE: Shape =
    Shape::Text { min: 1, max: 64, pattern: Some(r"[0-9A-Za-z\-\_]+"), sensitive: false };
const ROLE_ARNTYPE: Shape = Shape::Text { min: 20, max: 2048, pattern: None, sensitive: false };
const ROTATION_LAMBDA_ARNTYPE: Shape = Shape::Text { min: 0, max: 2048, pattern: None, sensitive: false };
const ROTATION_RULES_TYPE: Shape = Shape::Structure(&[
    Member::optional("AutomaticallyAfterDays", AUTOMATICALLY_ROTATE_AFTER_DAYS_TYPE),
    Member::optional("Duration", DURATION_TYPE),
    Member::optional("ScheduleExpression", SCHEDULE_EXPRESSION_TYPE),
]);
const ROTATION_TOKEN_TYPE: Shape =
    Shape::Text { min: 36, max: 256, pattern: Some(r"^[a-zA-Z0-9\-]+$"), sensitive: true };
const SCHEDULE_EXPRESSION_TYPE: Shape =
    Shape::Text { min: 1, max: 256, pattern: Some(r"[0-9A-Za-z\(\)#\?\*\-\/, ]+"), sensitive: false };
const SECRET_ARNTYPE: Shape = Shape::Text { min: 20, max: 2048, pattern: None, sensitive: false };
const SECRET_BINARY_TYPE: Shape = Shape::SensitiveBlob { min: 1, max: 65536 };
const SECRET_ID_LIST_TYPE: Shape = Shape::List { min: 1, max: 20, of: &SECRET_ID_TYPE };
const SECRET_ID_TYPE: Shape = Shape::Text { min: 1, max: 2048, pattern: None, sensitive: false };
const SECRET_STRING_TYPE: Shape = Shape::Text { min: 1, max: 65536, pattern: None, sensitive: true };
const SECRET_VERSION_ID_TYPE: Shape = Shape::Text { min: 32, max: 64, pattern: None, sensitive: false };
const SECRET_VERSION_STAGES_TYPE: Shape = Shape::List { min: 1, max: 20, of: &SECRET_VERSION_STAGE_TYPE };
const SECRET_VERSION_STAGE_TYPE: Shape = Shape::Text { min: 1, max: 256, pattern: None, sensitive: false };
const SORT_BY_TYPE: Shape =
    Shape::Choice(&["created-date", "last-accessed-date", "last-changed-date", "name"]);
const SORT_ORDER_TYPE: Shape = Shape::Choice(&["asc", "desc"]);
const TAG: Shape =
    Shape::Structure(&[Member::optional("Key", TAG_KEY_TYPE), Member::optional("Value", TAG_VALUE_TYPE)]);
const TAG_KEY_LIST_TYPE: Shape = Shape::List { min: 0, max: usize::MAX, of: &TAG_KEY_TYPE };
const TAG_KEY_TYPE: Shape = Shape::Text { min: 1, max: 128, pattern: None, sensitive: false };
const TAG_LIST_TYPE: Shape = Shape::List { min: 0, max: usize::MAX, of: &TAG };
const TAG_VALUE_TYPE: Shape = Shape::Text { min: 0, max: 256, pattern: None, sensitive: false };
