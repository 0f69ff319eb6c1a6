"""Routes to log in and out, and to ask who one is; what each route needs of who asks."""

from importlib.metadata import version
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from longtake.handle import user_identity
from longtake.web.authentication import COOKIE, Authenticator, TooManyGuessesError
from longtake.web.gateway import Shared
from longtake.web.problems import ProblemError
from longtake.web.security import refuse_guesses
from longtake.web.tokens import Caller, Role

router = APIRouter(tags=["sessions"])

# A working day; the token behind a session can be removed at any time.
_SESSION_SECONDS = 12 * 3600


async def find_caller(request: Request) -> Caller:
    """Return who asks, as the guard has found out."""
    return cast(Caller, request.state.caller)


async def name_caller(request: Request) -> str | None:
    """Return the name of who asks, for what a job tells of requests; None leaves the identity of the server."""
    return (await find_caller(request)).name or None


By = Annotated[str | None, Depends(name_caller)]
Asking = Annotated[Caller, Depends(find_caller)]


def _need(role: Role) -> Any:
    async def check(caller: Asking) -> None:
        if role not in caller.role.can:
            raise ProblemError(403, f"{caller.name} may {caller.role}, and this needs {role}", kind="not-allowed")

    return Depends(check)


MAY_STEER = _need(Role.STEER)
MAY_SUBMIT = _need(Role.SUBMIT)


class Login(BaseModel):
    """Token of somebody who logs in."""

    token: str = Field(max_length=200)


class TemporalPlace(BaseModel):
    """Where the farm's Temporal is."""

    address: str
    namespace: str
    ui: str | None = Field(description="address of Temporal's own page, where it is known")


class Me(BaseModel):
    """Who asks, what they may do, and which farm this is."""

    name: str
    by: str = Field(description="whom jobs name that this session submits: the name, or user@host of an open server")
    role: Role
    can: tuple[Role, ...]
    temporal: TemporalPlace
    version: str
    login: bool = Field(description="whether there is anything to log out of")


@router.get("/me")
async def tell_caller(caller: Asking, shared: Shared) -> Me:
    """Tell who asks, what they may do, and which farm this is."""
    client = shared.farm.temporal
    farm = TemporalPlace(
        address=client.service_client.config.target_host, namespace=client.namespace, ui=shared.settings.ui
    )
    return Me(
        name=caller.name,
        by=caller.name or user_identity(),
        role=caller.role,
        can=caller.role.can,
        temporal=farm,
        version=version("longtake"),
        login=not shared.authenticator.is_open,
    )


@router.post("/session", status_code=204)
async def log_in(login: Login, request: Request, shared: Shared) -> Response:
    """Begin a session: the cookie that is set is good for what the token is good for."""
    authenticator: Authenticator = shared.authenticator
    peer = request.client.host if request.client else ""
    try:
        caller = authenticator.check(login.token.strip(), peer)
    except TooManyGuessesError as error:
        raise refuse_guesses(error) from error
    if caller is None:
        raise ProblemError(401, "this is no token of this server", kind="wrong-token")
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        login.token.strip(),
        max_age=_SESSION_SECONDS,
        path="/",
        httponly=True,
        samesite="strict",
        # Behind a proxy that speaks TLS the page's own address says so.
        secure=request.headers.get("origin", "").startswith("https://") or request.url.scheme == "https",
    )
    return answer


@router.delete("/session", status_code=204)
async def log_out() -> Response:
    """End a session."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer
