"""AWS's cache for Python, `aws-secretsmanager-caching`: what it asks the server for, and when it asks again."""

import collections
import os
import time

import botocore.session
from aws_secretsmanager_caching import SecretCache, SecretCacheConfig

from story import BYTES, TEXT, equal, expect, tell

client = botocore.session.get_session().create_client("secretsmanager")
place = os.environ["AWS_ROLE_ARN"].partition(":role/")[2]
text, binary = f"{place}/db", f"{place}/bytes"

# How often the client asked for each operation.
asked = collections.Counter()
client.meta.events.register("before-call.secrets-manager.*", lambda model, **_: asked.update([model.name]))


def value():
    cache = SecretCache(client=client)
    client.create_secret(Name=text, SecretString=TEXT)
    client.create_secret(Name=binary, SecretBinary=BYTES)
    equal((cache.get_secret_string(text), cache.get_secret_binary(binary)), (TEXT, BYTES))
    once = dict(asked)
    equal((once["DescribeSecret"], once["GetSecretValue"]), (2, 2))
    equal((cache.get_secret_string(text), dict(asked)), (TEXT, once))


def description():
    # Old after a second: then it asks which version is current.
    cache = SecretCache(config=SecretCacheConfig(secret_refresh_interval=1), client=client)
    equal(cache.get_secret_string(text), TEXT)
    client.put_secret_value(SecretId=text, SecretString="second")
    deadline = time.monotonic() + 30
    while cache.get_secret_string(text) != "second":
        expect(time.monotonic() < deadline, "the new value is not seen")
        time.sleep(0.2)
    equal(cache.get_secret_string(text, "AWSPREVIOUS"), TEXT)


tell([("GetSecretValue", value), ("DescribeSecret", description)])
