"""JSON that is sent page by page while it is made, so that a long answer needs no more memory than a short one."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

import orjson
from aiohttp import HttpVersion11, hdrs, web

from nextarget import telemetry
from nextarget.errors import NexTargetError
from nextarget.web.boundary import finish

log = telemetry.get_logger()


async def stream_object(request: web.Request, members: Mapping[str, object], *, filename: str) -> web.StreamResponse:
    """Answer with a JSON object, as a file to keep. A member that is an asynchronous iterator of lists is sent as one
    array, page by page.

    HEAD gets the headers only. An error before the first page is raised. After a later error the connection is cut, so
    that the client does not take a part for the whole answer.
    """
    async with aclosing(_pieces(members)) as pieces:
        first = await anext(pieces)
        response = web.StreamResponse()
        response.content_type = "application/json"
        response.headers[hdrs.CONTENT_DISPOSITION] = f'attachment; filename="{filename}"'
        if request.version < HttpVersion11:
            response.force_close()  # without chunks, only the end of the connection shows the end of the answer
        finish(request, response)
        try:
            await response.prepare(request)
            if request.method != hdrs.METH_HEAD:
                await response.write(first)
                async for piece in pieces:
                    await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            _cut(request)  # the client has left
        except Exception as error:  # noqa: BLE001 - too late for an error answer, whatever the error is
            _log_cut(error)
            _cut(request)
    return response


async def _pieces(members: Mapping[str, object]) -> AsyncGenerator[bytes, None]:
    """The JSON text of the object, in pieces. A piece holds one page at most."""
    text, comma = b"{", b""
    for name, member in members.items():
        text += comma + orjson.dumps(name) + b":"
        comma = b","
        if not isinstance(member, AsyncIterator):
            text += orjson.dumps(member)
            continue
        text += b"["
        between = b""
        async for page in member:
            if page:
                yield text + between + orjson.dumps(page)[1:-1]
                text, between = b"", b","
        text += b"]"
    yield text + b"}"


def _log_cut(error: Exception) -> None:
    if isinstance(error, NexTargetError):
        log.error("answer_cut_short", reason=error.note or error.detail)
    else:
        log.error("answer_cut_short", exc_info=error)


def _cut(request: web.Request) -> None:
    """Abort the connection. aiohttp would end the answer as if it were complete."""
    if request.transport is not None:
        request.transport.abort()
