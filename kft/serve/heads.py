"""uvicorn's HTTP protocol with what it lacks: a limit of time and size for a request's head."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
_ANSWER = (
    b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
)


def protocol(timeout_seconds: float) -> type[HttpToolsProtocol]:
    """A protocol that gives up a connection whose head is too slow or beyond MAX_HEAD_BYTES."""

    class Protocol(HttpToolsProtocol):
        _waiting: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._begin()

        def connection_lost(self, exc) -> None:
            self._end()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._waiting:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._give_up(b"431 Request Header Fields Too Large", "the head is too long")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._begin()

        def on_headers_complete(self) -> None:
            self._end()
            super().on_headers_complete()

        def _begin(self) -> None:
            self._end()
            self._waiting = self.loop.call_later(
                timeout_seconds, self._give_up, b"408 Request Timeout", "the head did not come in time"
            )

        def _end(self) -> None:
            if self._waiting:
                self._waiting.cancel()
            self._waiting, self._head_bytes = None, 0

        def _give_up(self, status: bytes, message: str) -> None:
            self._end()
            body = b'{"error": "%s"}' % message.encode()
            self.transport.write(_ANSWER % (status, len(body), body))
            self.transport.close()

    return Protocol
