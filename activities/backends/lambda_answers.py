"""What functions answer: our own agent's result, a Helios worker's, or what Lambda says of a function that crashed."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from activities.errors import AttemptError
from activities.remote.protocol import RemoteResult
from activities.remote.service import Answer, HeliosResult
from longtake.plaintext import short_line

# A function that cannot even be loaded stays so until it is deployed again; what the agent refuses it refuses again.
_FATAL = frozenset({
    "Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.MalformedHandlerName",
    "Runtime.UserCodeSyntaxError", "Runtime.InvalidEntrypoint", "Runtime.BuiltInModuleConflict",
    "RefusedOrderError",
})  # fmt: skip

# Parts of Lambda's sentences, and what to do.
_HINTS = {
    "Task timed out": "give the function a longer timeout (at most 900 s), or the job smaller chunks",
    "signal: killed": "it ran out of memory, most likely: give the function more",
    "Unable to import module": "deploy the function again from deploy/",
}

_TOO_LARGE = "Function.ResponseSizeTooLarge"
_LONGEST_MESSAGE = 2000


def agents_result(where: str, answer: Answer) -> bytes:
    """Return the JSON of the `RemoteResult` in an answer.

    Raises:
        AttemptError: The function crashed, was ended by Lambda, refused the order, or is no agent of Longtake.
    """
    if "x-amz-function-error" in answer.headers:
        kind, message = _function_error(answer.body)
        hint = next((f"; {hint}" for part, hint in _HINTS.items() if part in message), "")
        named = f"{kind}: {message}" if kind and kind not in message else message
        said = f"{where} failed: {short_line(named, _LONGEST_MESSAGE)}{hint}"
        raise AttemptError(said, fatal=kind in _FATAL)
    try:
        RemoteResult.model_validate_json(answer.body)
    except ValidationError as error:
        if refused := _refused(answer.body):
            raise AttemptError(f"{where} refused the order: {short_line(refused, 600)}", fatal=True) from error
        beginning = short_line(_text(answer.body[:200]), 200)
        said = (
            f"{where} is no agent of Longtake, or of another version: it answered {beginning!r}; deploy remote/ there"
        )
        raise AttemptError(said, fatal=True) from error
    return answer.body


def _refused(body: bytes) -> str:
    """Return why our agent does not carry out an order; empty where it says no such thing."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return _first(fields, "refused") if isinstance(fields, dict) else ""


def helios_result(answer: Answer, *, lenient: bool) -> HeliosResult:
    """Return what a Helios worker says in an answer.

    Where Helios' own adapter loses the exit code and stderr of its worker, or takes an answer without an exit code
    for success, this does not: success is said by an exit code of 0.

    Args:
        answer: The answer.
        lenient: Whether an empty answer, one without a `body`, and the one of the handler that `helios deploy aws`
            writes count as success; none of them has an exit code.
    """
    raw = _text(answer.body)
    if "x-amz-function-error" in answer.headers:
        kind, message = _function_error(answer.body)
        # The handler has returned, so that its command has ended: the outputs tell how.
        is_lost = kind == _TOO_LARGE
        return HeliosResult(0 if is_lost else 1, "", f"Lambda execution failed: {message}", answer_was_lost=is_lost)
    if not answer.body:
        return HeliosResult(0 if lenient else 1, "", "" if lenient else "the answer is empty: no exit code")
    try:
        payload = json.loads(answer.body)
        if payload is None:
            raise ValueError("it is null")
        body = payload.get("body") if isinstance(payload, dict) else None
        if not body and body != {}:
            return HeliosResult(0 if lenient else 1, raw, "" if lenient else "the answer holds no exit code")
        fields = json.loads(body) if isinstance(body, str) else body
        if not isinstance(fields, dict):
            raise ValueError("its body is no object")
    except (ValueError, RecursionError) as error:
        return HeliosResult(1, raw, f"Failed to parse Lambda response: {error}")
    return _of_body(payload.get("statusCode"), fields, lenient=lenient)


def _of_body(status: object, body: Mapping[str, Any], *, lenient: bool) -> HeliosResult:
    code = _exit_code(body.get("exitCode"))
    stdout = _first(body, "output", "stdout")
    if status != 200:
        told = _first(body, "stderr") or _reason(body) or "Lambda returned non-200 status code"
        return HeliosResult(code or 1, stdout, told)
    if code is not None:
        return HeliosResult(code, stdout, _first(body, "stderr") or (_reason(body) if code else ""))
    if lenient and {"message", "chunkIndex", "output"} <= body.keys():
        return HeliosResult(0, stdout, _first(body, "stderr"))
    return HeliosResult(1, stdout, _first(body, "stderr") or _reason(body) or "the answer holds no exit code")


def _reason(body: Mapping[str, Any]) -> str:
    """Return why it failed; the handler of `helios deploy aws` says what went wrong in `error` only."""
    return ": ".join(filter(None, (_first(body, "message"), _first(body, "error"))))


def _exit_code(value: object) -> int | None:
    """Return a JSON number as an exit code; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def _first(body: Mapping[str, Any], *names: str) -> str:
    return next((value for name in names if isinstance(value := body.get(name), str) and value), "")


def _function_error(body: bytes) -> tuple[str, str]:
    """Return type and message of a function error; the message is the raw payload where it holds none."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        fields = {}
    return str(fields.get("errorType") or ""), str(fields.get("errorMessage") or _text(body) or "Unknown Lambda Error")


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
