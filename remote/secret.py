"""The secret that workers and agents share, from where it is kept."""

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from agent.settings import AgentSettings
from longtake.errors import LongtakeError


def shared_secret(settings: AgentSettings) -> str:
    """Return what orders must be signed with; empty where the platform alone decides who may call. Blocking.

    Raises:
        LongtakeError: AWS Secrets Manager does not give it.
    """
    if settings.remote_auth == "iam":
        return ""
    if settings.remote_secret or not settings.remote_secret_arn:
        return settings.remote_secret.get_secret_value()
    try:
        # With a full ARN its region is known.
        region = next(iter(settings.remote_secret_arn.split(":")[3:4]), None)
        client = boto3.client("secretsmanager", region_name=region or None)
        secret = str(client.get_secret_value(SecretId=settings.remote_secret_arn).get("SecretString", "")).strip()
    except (BotoCoreError, ClientError) as error:
        why = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise LongtakeError(
            f"LONGTAKE_REMOTE_SECRET_ARN: Secrets Manager does not give the secret ({why}); allow the role of this "
            "function secretsmanager:GetSecretValue on it"
        ) from error
    if not secret:
        raise LongtakeError("LONGTAKE_REMOTE_SECRET_ARN: that secret holds no text; store one of 32 random bytes there")
    return secret
