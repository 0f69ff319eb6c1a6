"""The job: model of a job file, argument of `RenderClient.submit`, and input of the RenderJob workflow."""

from typing import Self

from pydantic import model_validator

from longtake.models.fields import check_keys
from longtake.models.job_fields import JobFields
from longtake.models.job_rules import check_job


class CheckedJob(JobFields):
    """A render job whose fields fit together."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        check_job(self)
        return self


class RenderJobSpec(CheckedJob):
    """A render job: frames or chunks, the command that renders a chunk, and the outputs.

    Keys that do not exist are refused, by the constructor and by `model_validate`. Only what Longtake itself has
    written, its records and what has the key `contract`, may hold more: it may come from a newer version.
    """

    @model_validator(mode="before")
    @classmethod
    def _knows_its_keys(cls, value: object) -> object:
        # Behind this, strict validation of JSON takes no lists for tuples: `jobfile.loader.read_job` checks by itself.
        if isinstance(value, dict) and "contract" not in value:
            check_keys(value, cls)
        return value

    @classmethod
    def from_json(cls, raw: bytes, *, strict: bool = False) -> "RenderJobSpec":
        """Return the job that JSON holds, as of a record of Longtake; keys of a newer version are passed over.

        Args:
            raw: The JSON.
            strict: Whether to refuse text in place of numbers, and the like.

        Raises:
            ValidationError: It is no job that this version knows.
        """
        checked = CheckedJob.model_validate_json(raw, strict=strict)
        return cls.model_construct(checked.model_fields_set, **dict(checked))
