"""Model the backends of a job: workers' own hosts, or services that are paid by the second."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer

from longtake.models.fields import Contract


class BackendKind(StrEnum):
    """Kinds of places that render; each has a task queue of its own."""

    LOCAL = "local"
    LAMBDA = "lambda"
    CLOUD_RUN = "cloud_run"


class RemoteProtocol(StrEnum):
    """Protocols between workers and remote renderers."""

    LONGTAKE = "longtake"
    HELIOS = "helios"


class _Remote(Contract):
    protocol: RemoteProtocol = Field(default=RemoteProtocol.LONGTAKE, description="longtake, or helios for its workers")
    job_url: str | None = Field(default=None, description="with helios: http(s) URL of the job.json its workers read")
    lenient: bool = Field(default=False, description="with helios: also take answers without exit code for success")
    memory_mb: int = Field(
        default=2048, ge=128, le=131_072, description="memory of one instance, for estimates of cost"
    )

    @model_serializer(mode="wrap")
    def _with_type(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Add the type, which tells the backends apart, also where defaults are left out."""
        return {"type": getattr(self, "type", ""), **serialize(self)}


class LambdaBackend(_Remote):
    """Backend on AWS Lambda: one synchronous invocation renders one chunk."""

    type: Literal["lambda"] = "lambda"
    function: str | None = Field(default=None, description="name or ARN; default: the first that the worker may call")
    region: str | None = Field(default=None, description="region of the function; default: the worker's")


class CloudRunBackend(_Remote):
    """Backend on Google Cloud Run: one request renders one chunk."""

    type: Literal["cloud_run"] = "cloud_run"
    url: str | None = Field(default=None, description="the service; default: the first that the worker may call")
    vcpus: float = Field(default=1, gt=0, le=64, description="vCPUs of one instance, for estimates of cost")


RemoteBackend = LambdaBackend | CloudRunBackend


def _form(value: object) -> str:
    form = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    # Other values are validated as names, so that the error lists the names.
    return form if form in ("lambda", "cloud_run") else "[name]"


Backend = Annotated[
    Annotated[Literal["local", "lambda", "cloud_run"], Tag("[name]")]
    | Annotated[LambdaBackend, Tag("lambda")]
    | Annotated[CloudRunBackend, Tag("cloud_run")],
    Discriminator(_form),
]


def backend_kind(backend: Backend) -> BackendKind:
    """Return the kind of a backend."""
    return BackendKind(backend if isinstance(backend, str) else backend.type)


def remote_backend(backend: Backend) -> RemoteBackend | None:
    """Return the settings of a remote backend, the defaults for a mere name; None for the local backend."""
    match backend:
        case "local":
            return None
        case "lambda":
            return LambdaBackend()
        case "cloud_run":
            return CloudRunBackend()
        case _:
            return backend


# Longest time that one call may render: a Lambda function lives 900 s and a Cloud Run request 3,600 s; the last 30 s
# are kept for publishing.
LONGEST_CHUNK_SECONDS = {BackendKind.LAMBDA: 870.0, BackendKind.CLOUD_RUN: 3570.0}


def count_frames_within(limit_seconds: float, *, frames: int, seconds: float) -> int:
    """Return the number of frames that can be rendered within a time limit; at least 1.

    A tenth of the time is left for chunks that are harder than others.

    Args:
        limit_seconds: The time limit.
        frames: Number of frames that were rendered for a measurement.
        seconds: Time that those took.
    """
    return max(1, int(frames * 0.9 * limit_seconds / seconds)) if seconds > 0 else frames
