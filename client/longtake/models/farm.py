"""Model what jobs tell the workers of their farm."""

from pydantic import Field

from longtake.models.fields import Contract


class FarmOrder(Contract):
    """RenderJob to FarmControl, whose history all workers of the farm follow: the job's orders have changed."""

    job: str = Field(description="id of the job")
    run: str = Field(description="run of its workflow")
    control: str = Field(description="what its memo says under `longtake_control`")
    freeze: int = Field(default=0, description="what its memo says under `longtake_freeze`")
