"""A client of HTTP/2 that reads an answer before its whole body is sent, as browsers do (RFC 9113, 8.1)."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset


@dataclass
class Answer2:
    """An answer over HTTP/2."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    done: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.headers = {name.decode(): value.decode() for name, value in event.headers}
            self.status = int(self.headers.pop(":status"))
        elif isinstance(event, DataReceived):
            self.body += event.data
        self.done = self.done or isinstance(event, StreamEnded | StreamReset)


async def ask_http2(
    port: int,
    trust: ssl.SSLContext,
    authority: str,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    length: bool = True,
    headers: Mapping[str, str] | None = None,
) -> Answer2:
    """Send a request on a new connection. With `length`, the request has a Content-Length."""
    trust.set_alpn_protocols(["h2"])
    host = authority.partition(":")[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=host)
    connection, answer = H2Connection(), Answer2()
    connection.initiate_connection()
    fields = {":method": method, ":scheme": "https", ":authority": authority, ":path": path}
    fields |= {"content-length": str(len(body))} if body and length else {}
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    connection.send_headers(1, list(fields.items()), end_stream=not body)
    try:
        async with asyncio.timeout(30):
            while not answer.done:
                while body and (room := _room(connection)):
                    piece, body = body[:room], body[room:]
                    connection.send_data(1, piece, end_stream=not body)
                writer.write(connection.data_to_send())
                octets = await reader.read(65_536)
                assert octets, "the connection ended without an answer"
                for event in connection.receive_data(octets):
                    answer.take(event)
    finally:
        writer.close()
    return answer


def _room(connection: H2Connection) -> int:
    """The number of bytes of a body that may be sent now."""
    return min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)
