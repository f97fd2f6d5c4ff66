"""What each client does, told once for those of Python: every operation of the service model, and whether the answer is
right. The programs of the other languages tell the same story. Must not know how a request gets to the server.

A client is something with `call(operation, **members)` and `pages(operation, key, **members)`, which raises `Refused`."""

import os
import sys

TEXT = '{"username": "admin", "password": "a\\"b\\\\c\u00e4\u20ac\U0001f600"}'
BYTES = bytes(range(256))
OTHER = "arn:aws:iam::000000000000:role/%s"


class Refused(Exception):
    """An error that the server answered, as the client tells it: by the class that it made of it."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def expect(true, what):
    if not true:
        raise AssertionError(what)


def equal(found, wanted):
    expect(found == wanted, f"{found!r} is not {wanted!r}")


def refused(code, text, act):
    """The act must end with this error."""
    try:
        answer = act()
    except Refused as error:
        expect(error.code == code and text in error.message, f"{error} is not {code}: {text}")
        return
    raise AssertionError(f"no {code}, but {answer}")


def tell(steps):
    """Each step under the name of its operation; nothing after the first that fails."""
    for operation, step in steps:
        try:
            step()
        except Exception as error:
            print(operation, "failed", f"{type(error).__name__}: {error}".replace("\n", " "))
            sys.exit(1)
        print(operation, "ok", flush=True)


class Story:
    def __init__(self, call, pages, has):
        """With the names of the operations that the client has."""
        self.call, self.pages, self.has = call, pages, has
        # Under the namespace and name of our ServiceAccount.
        self.place = os.environ["AWS_ROLE_ARN"].partition(":role/")[2]
        self.id, self.bytes = f"{self.place}/db", f"{self.place}/bytes"
        self.versions = []

    def tell(self):
        names = """GetRandomPassword CreateSecret GetSecretValue DescribeSecret PutSecretValue UpdateSecretVersionStage
            ListSecretVersionIds UpdateSecret TagResource UntagResource BatchGetSecretValue ListSecrets PutResourcePolicy
            GetResourcePolicy ListResourcePolicies ValidateResourcePolicy DeleteResourcePolicy RotateSecret
            CancelRotateSecret ReplicateSecretToRegions RemoveRegionsFromReplication StopReplicationToReplica
            AssociateCrossAccountReplica DisassociateCrossAccountReplica DeleteSecret RestoreSecret""".split()
        for name in self.has:
            # What a newer version brings has to be told as well.
            if name not in names:
                print(name, "failed: it is not in the story")
                sys.exit(1)
        tell([(name, getattr(self, name)) for name in names if name in self.has])

    def on(self, operation, **members):
        return self.call(operation, SecretId=self.id, **members)

    def value(self, **which):
        return self.on("GetSecretValue", **which)["SecretString"]

    def GetRandomPassword(self):
        drawn = self.call("GetRandomPassword", PasswordLength=24, ExcludePunctuation=True)["RandomPassword"]
        expect(len(drawn) == 24 and drawn.isalnum(), "not 24 letters and digits")

    def CreateSecret(self):
        tags = [{"Key": "team", "Value": "shop"}]
        made = self.call("CreateSecret", Name=self.id, SecretString=TEXT, Description="of orders", Tags=tags)
        equal(made["Name"], self.id)
        self.versions.append(made["VersionId"])
        self.call("CreateSecret", Name=self.bytes, SecretBinary=BYTES)
        refused("ResourceExistsException", self.id, lambda: self.call("CreateSecret", Name=self.id, SecretString="x"))

    def GetSecretValue(self):
        found = self.on("GetSecretValue")
        equal((found["SecretString"], found["VersionStages"]), (TEXT, ["AWSCURRENT"]))
        equal(self.call("GetSecretValue", SecretId=found["ARN"])["VersionId"], self.versions[0])
        equal(self.call("GetSecretValue", SecretId=self.bytes)["SecretBinary"], BYTES)
        none = lambda: self.call("GetSecretValue", SecretId=f"{self.place}/none")
        refused("ResourceNotFoundException", "can't find the specified secret", none)

    def DescribeSecret(self):
        found = self.on("DescribeSecret")
        equal((found["Description"], found["Tags"]), ("of orders", [{"Key": "team", "Value": "shop"}]))
        equal(found["VersionIdsToStages"], {self.versions[0]: ["AWSCURRENT"]})
        expect("CreatedDate" in found, "no CreatedDate")

    def PutSecretValue(self):
        put = self.on("PutSecretValue", SecretString="second")
        self.versions.append(put["VersionId"])
        equal((self.value(), self.value(VersionStage="AWSPREVIOUS")), ("second", TEXT))
        equal(self.value(VersionId=self.versions[0]), TEXT)

    def UpdateSecretVersionStage(self):
        first, second = self.versions
        self.on("UpdateSecretVersionStage", VersionStage="AWSCURRENT", MoveToVersionId=first, RemoveFromVersionId=second)
        equal((self.value(), self.value(VersionStage="AWSPREVIOUS")), (TEXT, "second"))

    def ListSecretVersionIds(self):
        found = self.pages("ListSecretVersionIds", "Versions", SecretId=self.id)
        equal({version["VersionId"] for version in found}, set(self.versions))

    def UpdateSecret(self):
        self.on("UpdateSecret", SecretString="third", Description="of all orders")
        equal((self.value(), self.on("DescribeSecret")["Description"]), ("third", "of all orders"))

    def TagResource(self):
        self.on("TagResource", Tags=[{"Key": "tier", "Value": "gold"}])
        tags = {tag["Key"]: tag["Value"] for tag in self.on("DescribeSecret")["Tags"]}
        equal(tags, {"team": "shop", "tier": "gold"})

    def UntagResource(self):
        self.on("UntagResource", TagKeys=["team"])
        equal(self.on("DescribeSecret")["Tags"], [{"Key": "tier", "Value": "gold"}])

    def BatchGetSecretValue(self):
        ids = [self.id, self.bytes, f"{self.place}/none"]
        found = self.call("BatchGetSecretValue", SecretIdList=ids)
        by_name = {each["Name"]: each for each in found["SecretValues"]}
        equal((by_name[self.id]["SecretString"], by_name[self.bytes]["SecretBinary"]), ("third", BYTES))
        equal([each["ErrorCode"] for each in found["Errors"]], ["ResourceNotFoundException"])

    def ListSecrets(self):
        ours = [{"Key": "name", "Values": [f"{self.place}/"]}]
        found = self.pages("ListSecrets", "SecretList", Filters=ours)
        equal({each["Name"] for each in found}, {self.id, self.bytes})

    def PutResourcePolicy(self):
        namespace = self.place.partition("/")[0]
        self.policy = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"%s"},'
            '"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}' % (OTHER % f"{namespace}/nobody")
        )
        self.on("PutResourcePolicy", ResourcePolicy=self.policy, BlockPublicPolicy=True)
        malformed = lambda: self.on("PutResourcePolicy", ResourcePolicy='{"Statement": 1}')
        refused("MalformedPolicyDocumentException", "Statement", malformed)

    def GetResourcePolicy(self):
        equal(self.on("GetResourcePolicy")["ResourcePolicy"], self.policy)

    def ListResourcePolicies(self):
        equal(self.on("ListResourcePolicies")["ResourcePolicies"], [{"PolicyName": "default"}])

    def ValidateResourcePolicy(self):
        equal(self.on("ValidateResourcePolicy", ResourcePolicy=self.policy)["PolicyValidationPassed"], True)
        public = '{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}'
        found = self.on("ValidateResourcePolicy", ResourcePolicy=public)
        equal(found["ValidationErrors"][0]["CheckName"], "BROAD_ACCESS")

    def DeleteResourcePolicy(self):
        self.on("DeleteResourcePolicy")
        expect("ResourcePolicy" not in self.on("GetResourcePolicy"), "the policy is still there")

    def RotateSecret(self):
        unknown = lambda: self.on("RotateSecret", RotationLambdaARN="nobody")
        refused("AccessDeniedException", "cannot invoke the specified Lambda function", unknown)
        rules = {"AutomaticallyAfterDays": 30}
        rotating = self.on("RotateSecret", RotationLambdaARN="generate", RotationRules=rules)["VersionId"]
        found = self.on("DescribeSecret")
        equal((found["RotationEnabled"], found["RotationLambdaARN"]), (True, "generate"))
        equal((found["RotationRules"], found["VersionIdsToStages"][rotating]), (rules, ["AWSPENDING"]))
        again = lambda: self.on("RotateSecret")
        refused("InvalidRequestException", "A previous rotation isn't complete.", again)

    def CancelRotateSecret(self):
        self.on("CancelRotateSecret")
        equal(self.on("DescribeSecret")["RotationEnabled"], False)

    def replication(self, operation, **members):
        text = "Replication is not supported by this version of Tidelock."
        refused("InvalidRequestException", text, lambda: self.on(operation, **members))

    def ReplicateSecretToRegions(self):
        self.replication("ReplicateSecretToRegions", AddReplicaRegions=[{"Region": "eu-west-1"}])

    def RemoveRegionsFromReplication(self):
        self.replication("RemoveRegionsFromReplication", RemoveReplicaRegions=["eu-west-1"])

    def StopReplicationToReplica(self):
        self.replication("StopReplicationToReplica")

    def across_accounts(self, operation, **members):
        text = "Replication across accounts is not supported by this version of Tidelock."
        replica = "arn:aws:secretsmanager:local-1:111111111111:secret:shop/db-AbCdEf"
        refused("InvalidRequestException", text, lambda: self.on(operation, CrossAccountReplicaARN=replica, **members))

    def AssociateCrossAccountReplica(self):
        self.across_accounts("AssociateCrossAccountReplica", ReplicationRoleARN=OTHER % "shop/replicator")

    def DisassociateCrossAccountReplica(self):
        self.across_accounts("DisassociateCrossAccountReplica")

    def DeleteSecret(self):
        self.call("DeleteSecret", SecretId=self.bytes, ForceDeleteWithoutRecovery=True)
        gone = lambda: self.call("DescribeSecret", SecretId=self.bytes)
        refused("ResourceNotFoundException", "can't find the specified secret", gone)
        expect("DeletionDate" in self.on("DeleteSecret", RecoveryWindowInDays=7), "no DeletionDate")
        refused("InvalidRequestException", "marked for deletion", self.value)

    def RestoreSecret(self):
        self.on("RestoreSecret")
        equal(self.value(), "third")
