"""Run the trial of a film: its container and encoder with the first proven chunk, while the others are rendered."""

from collections.abc import Callable

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import JobPlan, TrialOrder
    from longtake.names import TRY_FILM
    from longtake.ranges import Range
    from workflows import options


class TrialRunner:
    """The trial of a job's films, begun once and anew after a pause.

    Args:
        job: The job as accepted.
        plan: The job as planned.
        on_ended: Called when the trial has ended.
        is_tried: Whether a run of the job before has tried the film.
    """

    def __init__(
        self, job: RenderJobSpec, plan: JobPlan, *, on_ended: Callable[[], None], is_tried: bool = False
    ) -> None:
        # The film of one chunk is made as soon as that is proven, and a command of the job's own takes all of them.
        self._is_wanted = bool(job.films) and job.merge_command is None and plan.chunk_count > 1 and not is_tried
        self._plan = plan
        self._on_ended = on_ended
        self._handle: workflow.ActivityHandle[RawValue] | None = None
        self._is_cancelled = False

    @property
    def is_tried(self) -> bool:
        """Whether no trial is to be begun any more."""
        return not self._is_wanted

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the trial runs."""
        return self._handle is None or self._handle.done()

    def start(self, done: tuple[Range, ...]) -> None:
        """Start the trial with the first chunk that is proven, unless it was started already."""
        if not self._is_wanted or self._handle is not None or not done:
            return
        if not workflow.patched("film-trial"):
            self._is_wanted = False
            return
        self._handle = workflow.start_activity(
            TRY_FILM,
            TrialOrder(ref=self._plan.ref, chunk=done[0][0]),
            result_type=RawValue,
            summary="try the film",
            **options.control_options(),
        )
        self._handle.add_done_callback(lambda _: self._on_ended())

    def cancel(self) -> None:
        """Stop the trial; it is idle when its processes have ended."""
        if self._handle is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._handle.cancel()

    def settle(self) -> None:
        """Take up how the trial has ended, if it has.

        Raises:
            ActivityError: No film of this kind can be made of the chunks.
        """
        if self._handle is None or not self._handle.done():
            return
        error = None if self._handle.cancelled() else self._handle.exception()
        if self._handle.cancelled() or (error is not None and self._was_interrupted(error)):
            self._handle = None
            self._is_cancelled = False
        elif error is not None:
            self._is_wanted = False
            raise error
        else:
            self._is_wanted = False

    def _was_interrupted(self, error: BaseException) -> bool:
        """Tell whether a trial was ended before it could say anything about the film."""
        if is_cancelled_exception(error):
            return True
        # Temporal does not retry an activity that was cancelled: where its worker was killed before the cancel reached
        # it, the timeout of its heartbeats failed a job whose chunks were all there.
        cause = error.cause if isinstance(error, ActivityError) else None
        is_verdict = isinstance(cause, ApplicationError) and cause.non_retryable
        return self._is_cancelled and not is_verdict and workflow.patched("trials-of-lost-workers")
