"""A way through an HTTP proxy: https://www.rfc-editor.org/rfc/rfc9110#name-connect."""

import asyncio
import base64

import httpx

from longtake.plaintext import short_line

# A status line and a few headers; more comes from no proxy.
_LONGEST_ANSWER = 16_384


async def tunnel(proxy: httpx.URL, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection on which the proxy passes all bytes on to that host.

    Raises:
        OSError: The proxy is not there, or does not let it through; its own words are in the message.
    """
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port or 80, limit=_LONGEST_ANSWER)
    try:
        writer.write(_request(proxy, f"{host}:{port}"))
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise OSError("the proxy does not answer as proxies do") from error
        status = answer.partition(b"\r\n")[0].decode("latin-1")
        if status.split(" ")[1:2] != ["200"]:
            raise OSError(f"the proxy answers {short_line(status, 200)!r}")
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _request(proxy: httpx.URL, target: str) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.userinfo:
        named = f"{proxy.username}:{proxy.password}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(named).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
