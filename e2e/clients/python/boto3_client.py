"""AWS's SDK for Python."""

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError

from story import Refused, Story

client = boto3.client("secretsmanager")


def told(error):
    """By the class of the exception, which the client makes of its model; others have the general one."""
    kind = type(error).__name__
    return Refused(error.response["Error"]["Code"] if kind == "ClientError" else kind, error.response["Error"]["Message"])


def call(operation, **members):
    try:
        return getattr(client, xform_name(operation))(**members)
    except ClientError as error:
        raise told(error) from error


def pages(operation, key, **members):
    """One at a time, so that there is more than one page: by the client's own paginator, where it has one."""
    name = xform_name(operation)
    if client.can_paginate(name):
        each = client.get_paginator(name).paginate(**members, PaginationConfig={"PageSize": 1})
        found = [page[key] for page in each]
    else:
        found = by_hand(operation, key, members)
    if len(found) < 2:
        raise AssertionError(f"{operation}: one page")
    return sum(found, [])


def by_hand(operation, key, members):
    page = call(operation, **members, MaxResults=1)
    found = [page[key]]
    while "NextToken" in page:
        page = call(operation, **members, MaxResults=1, NextToken=page["NextToken"])
        found.append(page[key])
    return found


Story(call, pages, client.meta.service_model.operation_names).tell()
