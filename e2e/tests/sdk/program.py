"""What a program with boto3 does, one word at a time; every answer is a line of JSON."""
import json, os, socket, ssl, sys, time

SECRET = "shop/orders-db"
CONFIG = "/run/tidelock-aws/identity/config"
BUNDLE = "/run/tidelock-aws/trust/ca-bundle.crt"


def session(how):
    import boto3, botocore.session
    if how == "environment":
        return boto3.Session()
    if how == "profile":
        os.environ["AWS_CONFIG_FILE"] = CONFIG
        return boto3.Session(profile_name="tidelock")
    core = botocore.session.Session(profile="tidelock")
    core.set_config_variable("config_file", CONFIG)
    return boto3.Session(botocore_session=core)


def refusal(error):
    return {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}


def read(how):
    from botocore.exceptions import ClientError
    opened = session(how)
    who = opened.client("sts").get_caller_identity()["Arn"]
    try:
        value = opened.client("secretsmanager").get_secret_value(SecretId=SECRET)["SecretString"]
        return {"who": who, "value": value}
    except ClientError as error:
        return {"who": who} | refusal(error)


def keys():
    frozen = session("environment").get_credentials().get_frozen_credentials()
    return {"id": frozen.access_key, "secret": frozen.secret_key, "token": frozen.token}


def stolen():
    """A client with the keys of another pod, which come by the environment of this process."""
    import boto3
    keys = json.loads(sys.argv[2])
    return boto3.client(
        "secretsmanager", endpoint_url=sys.argv[3], verify=BUNDLE, region_name="local-1", aws_access_key_id=keys["id"],
        aws_secret_access_key=keys["secret"], aws_session_token=keys["token"])


def steal():
    return {"value": stolen().get_secret_value(SecretId=SECRET)["SecretString"]}


def exchange():
    """A token of another issuer for keys of that role, and with them the secret."""
    import boto3
    from botocore.exceptions import ClientError
    try:
        got = boto3.client("sts").assume_role_with_web_identity(
            WebIdentityToken=sys.argv[2], RoleArn=sys.argv[3], RoleSessionName="run-1")
    except ClientError as error:
        return refusal(error)
    keys = got["Credentials"]
    client = boto3.client(
        "secretsmanager", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"])
    return {"provider": got["Provider"], "subject": got["SubjectFromWebIdentityToken"],
            "value": client.get_secret_value(SecretId=SECRET)["SecretString"]}


def until_refused():
    from botocore.exceptions import ClientError
    client, begun = stolen(), time.monotonic()
    while time.monotonic() < begun + 30:
        try:
            client.get_secret_value(SecretId=SECRET)
        except ClientError as error:
            return refusal(error) | {"seconds": time.monotonic() - begun}
        time.sleep(0.1)
    return {"code": "", "message": "the keys were good for 30 s"}


def trust():
    context = ssl.create_default_context(cafile=BUNDLE)
    text = open(BUNDLE).read()
    return {"authorities": len(context.get_ca_certs()), "bytes": len(text), "text": text,
            "link": os.readlink("/run/tidelock-aws/trust/..data")}


def elsewhere():
    """Whether anything but the server and DNS can be reached."""
    reached = []
    for place in sys.argv[2:]:
        host, port = place.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            reached.append(place)
        except OSError:
            pass
    return {"reached": reached}


def environment():
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_") or "CERT" in name}


words = {"file": lambda: {"text": open(sys.argv[2]).read()},
         "read": lambda: read(sys.argv[2]), "keys": keys, "steal": steal, "until-refused": until_refused,
         "exchange": exchange,
         "trust": trust, "elsewhere": elsewhere, "environment": environment}
print(json.dumps(words[sys.argv[1]]()))
