"""The base of everything that crosses the wire between a client, a workflow and a worker."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen message that an older or a newer Longtake can still read.

    Unknown keys are ignored here, because a newer peer may send more; job *files* are read strictly, by
    `longtake.jobfile.loader`. New fields always have defaults and none is ever renamed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
