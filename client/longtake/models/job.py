"""The job: model of a job file, argument of `RenderClient.submit`, and input of the RenderJob workflow."""

from typing import Self

from pydantic import model_validator

from longtake.models.job_fields import JobFields
from longtake.models.job_rules import check_job


class RenderJobSpec(JobFields):
    """A render job: frames or chunks, the command that renders a chunk, and the outputs."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        check_job(self)
        return self
