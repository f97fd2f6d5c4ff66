// AWS's SDK for JavaScript: the story of ../python/story.py. Must take nothing but its environment.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-secrets-manager";

const client = new sdk.SecretsManagerClient({});
// Under the namespace and name of our ServiceAccount.
const place = process.env.AWS_ROLE_ARN.split(":role/")[1];
const namespace = place.split("/")[0];
const id = `${place}/db`;
const bytes = `${place}/bytes`;
const none = `${place}/none`;
const TEXT = '{"username": "admin", "password": "a\\"b\\\\c\u00e4\u20ac\u{1f600}"}';
const BYTES = Uint8Array.from({ length: 256 }, (_, index) => index);
const POLICY = JSON.stringify({
  Version: "2012-10-17",
  Statement: [
    {
      Effect: "Deny",
      Principal: { AWS: `arn:aws:iam::000000000000:role/${namespace}/nobody` },
      Action: "secretsmanager:GetSecretValue",
      Resource: "*",
    },
  ],
});
const versions = [];

const call = (operation, members = {}) => client.send(new sdk[`${operation}Command`](members));
const on = (operation, members = {}) => call(operation, { SecretId: id, ...members });
const value = async (which = {}) => (await on("GetSecretValue", which)).SecretString;
const tags = async () =>
  Object.fromEntries((await on("DescribeSecret")).Tags.map(({ Key, Value }) => [Key, Value]));

/** The act must end with this error: by its class, where the model has one. */
async function refused(code, text, act) {
  await assert.rejects(act, (error) => {
    assert.equal(error.name, code);
    assert.ok(error instanceof (sdk[code] ?? sdk.SecretsManagerServiceException), `${error} is of another class`);
    assert.ok(error.message.includes(text), `${error.message} does not say: ${text}`);
    return true;
  });
}

async function pages(paginate, key, members) {
  const found = [];
  for await (const page of paginate({ client, pageSize: 1 }, members)) found.push(page[key]);
  assert.ok(found.length > 1, "one page");
  return found.flat();
}

const replication = (operation, members) =>
  refused("InvalidRequestException", "Replication is not supported by this version of Tidelock.", () =>
    on(operation, members),
  );

const story = {
  async GetRandomPassword() {
    const drawn = await call("GetRandomPassword", { PasswordLength: 24, ExcludePunctuation: true });
    assert.match(drawn.RandomPassword, /^[A-Za-z0-9]{24}$/);
  },
  async CreateSecret() {
    const Tags = [{ Key: "team", Value: "shop" }];
    const made = await call("CreateSecret", { Name: id, SecretString: TEXT, Description: "of orders", Tags });
    assert.equal(made.Name, id);
    versions.push(made.VersionId);
    await call("CreateSecret", { Name: bytes, SecretBinary: BYTES });
    await refused("ResourceExistsException", id, () => call("CreateSecret", { Name: id, SecretString: "x" }));
  },
  async GetSecretValue() {
    const found = await on("GetSecretValue");
    assert.deepEqual([found.SecretString, found.VersionStages], [TEXT, ["AWSCURRENT"]]);
    assert.equal((await call("GetSecretValue", { SecretId: found.ARN })).VersionId, versions[0]);
    assert.deepEqual(
      Uint8Array.from((await call("GetSecretValue", { SecretId: bytes })).SecretBinary),
      BYTES,
    );
    await refused("ResourceNotFoundException", "can't find the specified secret", () =>
      call("GetSecretValue", { SecretId: none }),
    );
  },
  async DescribeSecret() {
    const found = await on("DescribeSecret");
    assert.equal(found.Description, "of orders");
    assert.deepEqual(found.VersionIdsToStages, { [versions[0]]: ["AWSCURRENT"] });
    assert.ok(Math.abs(Date.now() - found.CreatedDate.getTime()) < 3_600_000, `created ${found.CreatedDate}`);
    assert.deepEqual(await tags(), { team: "shop" });
  },
  async PutSecretValue() {
    versions.push((await on("PutSecretValue", { SecretString: "second" })).VersionId);
    assert.deepEqual([await value(), await value({ VersionStage: "AWSPREVIOUS" })], ["second", TEXT]);
    assert.equal(await value({ VersionId: versions[0] }), TEXT);
  },
  async UpdateSecretVersionStage() {
    const [MoveToVersionId, RemoveFromVersionId] = versions;
    await on("UpdateSecretVersionStage", { VersionStage: "AWSCURRENT", MoveToVersionId, RemoveFromVersionId });
    assert.deepEqual([await value(), await value({ VersionStage: "AWSPREVIOUS" })], [TEXT, "second"]);
  },
  async ListSecretVersionIds() {
    const found = await pages(sdk.paginateListSecretVersionIds, "Versions", { SecretId: id });
    assert.deepEqual(found.map(({ VersionId }) => VersionId).sort(), [...versions].sort());
  },
  async UpdateSecret() {
    await on("UpdateSecret", { SecretString: "third", Description: "of all orders" });
    assert.equal(await value(), "third");
    assert.equal((await on("DescribeSecret")).Description, "of all orders");
  },
  async TagResource() {
    await on("TagResource", { Tags: [{ Key: "tier", Value: "gold" }] });
    assert.deepEqual(await tags(), { team: "shop", tier: "gold" });
  },
  async UntagResource() {
    await on("UntagResource", { TagKeys: ["team"] });
    assert.deepEqual(await tags(), { tier: "gold" });
  },
  async BatchGetSecretValue() {
    const found = await call("BatchGetSecretValue", { SecretIdList: [id, bytes, none] });
    const byName = Object.fromEntries(found.SecretValues.map((each) => [each.Name, each]));
    assert.equal(byName[id].SecretString, "third");
    assert.deepEqual(Uint8Array.from(byName[bytes].SecretBinary), BYTES);
    assert.deepEqual(
      found.Errors.map(({ ErrorCode }) => ErrorCode),
      ["ResourceNotFoundException"],
    );
  },
  async ListSecrets() {
    const Filters = [{ Key: "name", Values: [`${place}/`] }];
    const found = await pages(sdk.paginateListSecrets, "SecretList", { Filters });
    assert.deepEqual(found.map(({ Name }) => Name).sort(), [bytes, id]);
  },
  async PutResourcePolicy() {
    await on("PutResourcePolicy", { ResourcePolicy: POLICY, BlockPublicPolicy: true });
    await refused("MalformedPolicyDocumentException", "Statement", () =>
      on("PutResourcePolicy", { ResourcePolicy: '{"Statement": 1}' }),
    );
  },
  async GetResourcePolicy() {
    assert.equal((await on("GetResourcePolicy")).ResourcePolicy, POLICY);
  },
  async ValidateResourcePolicy() {
    assert.equal((await on("ValidateResourcePolicy", { ResourcePolicy: POLICY })).PolicyValidationPassed, true);
    const ResourcePolicy = '{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}';
    const found = await on("ValidateResourcePolicy", { ResourcePolicy });
    assert.equal(found.ValidationErrors[0].CheckName, "BROAD_ACCESS");
  },
  async DeleteResourcePolicy() {
    await on("DeleteResourcePolicy");
    assert.equal((await on("GetResourcePolicy")).ResourcePolicy, undefined);
  },
  async RotateSecret() {
    await refused("AccessDeniedException", "cannot invoke the specified Lambda function", () =>
      on("RotateSecret", { RotationLambdaARN: "nobody" }),
    );
    const RotationRules = { AutomaticallyAfterDays: 30 };
    const rotating = await on("RotateSecret", { RotationLambdaARN: "generate", RotationRules });
    const found = await on("DescribeSecret");
    assert.deepEqual([found.RotationEnabled, found.RotationLambdaARN], [true, "generate"]);
    assert.deepEqual(found.RotationRules, RotationRules);
    assert.deepEqual(found.VersionIdsToStages[rotating.VersionId], ["AWSPENDING"]);
    await refused("InvalidRequestException", "A previous rotation isn't complete.", () => on("RotateSecret"));
  },
  async CancelRotateSecret() {
    await on("CancelRotateSecret");
    assert.equal((await on("DescribeSecret")).RotationEnabled, false);
  },
  ReplicateSecretToRegions: () =>
    replication("ReplicateSecretToRegions", { AddReplicaRegions: [{ Region: "eu-west-1" }] }),
  RemoveRegionsFromReplication: () =>
    replication("RemoveRegionsFromReplication", { RemoveReplicaRegions: ["eu-west-1"] }),
  StopReplicationToReplica: () => replication("StopReplicationToReplica"),
  async DeleteSecret() {
    await call("DeleteSecret", { SecretId: bytes, ForceDeleteWithoutRecovery: true });
    await refused("ResourceNotFoundException", "can't find the specified secret", () =>
      call("DescribeSecret", { SecretId: bytes }),
    );
    const { DeletionDate } = await on("DeleteSecret", { RecoveryWindowInDays: 7 });
    assert.ok(Math.abs((DeletionDate - Date.now()) / 86_400_000 - 7) < 0.1, `deleted ${DeletionDate}`);
    await refused("InvalidRequestException", "marked for deletion", value);
  },
  async RestoreSecret() {
    await on("RestoreSecret");
    assert.equal(await value(), "third");
  },
};

// What a newer version brings has to be told as well.
const has = Object.keys(sdk).filter((name) => /^[A-Z].*Command$/.test(name) && name !== "$Command");
const untold = has.map((name) => name.replace(/Command$/, "")).filter((operation) => !(operation in story));
for (const operation of untold) {
  console.log(operation, "failed: it is not in the story");
  process.exit(1);
}
for (const [operation, step] of Object.entries(story)) {
  try {
    await step();
  } catch (error) {
    // Nothing after the first that fails.
    console.log(operation, "failed", `${error.code ?? ""} ${error}`.replaceAll("\n", " "));
    process.exit(1);
  }
  console.log(operation, "ok");
}
