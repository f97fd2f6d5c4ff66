"""AWS's command line, version 1: each call a process of its own, as a person would type it."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile

import awscli

from story import Refused, Story

AWS = os.path.join(os.path.dirname(sys.executable), "aws")


def dashed(name):
    """`SecretId` as `secret-id`."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "-", name).lower()


def words(member, value):
    flag = "--" + dashed(member)
    if value is True:
        return [flag]
    if isinstance(value, bytes):
        file = tempfile.NamedTemporaryFile(delete=False)
        file.write(value)
        file.close()
        return [flag, f"fileb://{file.name}"]
    if isinstance(value, (list, dict)):
        return [flag, json.dumps(value)]
    return [flag, str(value)]


def run(operation, members, more=()):
    given = [word for member, value in members.items() for word in words(member, value)]
    ended = subprocess.run([AWS, "secretsmanager", dashed(operation), *given, *more], capture_output=True, encoding="utf-8")
    if ended.returncode == 0:
        return unpacked(json.loads(ended.stdout or "{}"))
    told = re.search(r"An error occurred \((\w+)\) when calling the \w+ operation[^:]*: (.*)", ended.stderr, re.DOTALL)
    raise Refused(*told.groups()) if told else RuntimeError(ended.stderr)


def unpacked(answer):
    """Bytes are printed as base64."""
    for each in [answer, *answer.get("SecretValues", [])]:
        if "SecretBinary" in each:
            each["SecretBinary"] = base64.b64decode(each["SecretBinary"])
    return answer


def call(operation, **members):
    return run(operation, members)


def pages(operation, key, **members):
    """The command follows the pages of what it knows to have some; of the rest, who types does."""
    if operation == "ListSecrets":
        return run(operation, members, ["--page-size", "1"])[key]
    page = call(operation, **members, MaxResults=1)
    found = page[key]
    while "NextToken" in page:
        page = call(operation, **members, MaxResults=1, NextToken=page["NextToken"])
        found += page[key]
    return found


def operations():
    """Those of the model that the command is made from."""
    models = os.path.join(os.path.dirname(awscli.__file__), "botocore", "data", "secretsmanager", "2017-10-17")
    with open(os.path.join(models, "service-2.json"), encoding="utf-8") as model:
        return list(json.load(model)["operations"])


Story(call, pages, operations()).tell()
