"""The pages that tell the world how a vessel is: /metrics, /healthz and /readyz, from a thread of their own."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from batos.vessel.errors import StartFailed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REQUEST_TIMEOUT_S = 5.0
"""How long a client may take to say its request; closing the server waits for as long at most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealthState:
    """How a vessel is at one moment.

    Attributes:
        alive: its event loop turns.
        ready: it can do its work.
        reason: why it is not alive or not ready, in words; of a ready one, what is wrong all the same.
    """

    alive: bool
    ready: bool
    reason: str = ""


class HealthPages:
    """The three pages as a WSGI application."""

    def __init__(self, registry: CollectorRegistry, look: Callable[[], HealthState]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._look = look

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD", "GET") not in {"GET", "HEAD"}:
            return _page(start_response, "405 Method Not Allowed", "these pages are only read")
        if path == "/metrics":
            metrics: Iterable[bytes] = self._metrics(environ, start_response)
            return metrics
        state = self._look()
        if path == "/healthz":
            return _verdict(start_response, good=state.alive, word="alive", reason="" if state.alive else state.reason)
        if path == "/readyz":
            return _verdict(start_response, good=state.alive and state.ready, word="ready", reason=state.reason)
        return _page(start_response, "404 Not Found", "pages: /metrics /healthz /readyz")


def _verdict(start_response: StartResponse, *, good: bool, word: str, reason: str) -> Iterable[bytes]:
    if good:
        return _page(start_response, "200 OK", f"{word}, but {reason}" if reason else word)
    return _page(start_response, "503 Service Unavailable", f"not {word}: {reason}")


def _page(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = False
    block_on_close = True

    def server_bind(self) -> None:
        """Bind without asking the name service for this machine's name."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Requests(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        _log.debug(format, *args)


class HealthServer:
    """Serves the pages until closed."""

    def __init__(self, pages: HealthPages, host: str, port: int) -> None:
        """Bind.

        Args:
            pages: what is served.
            host: address to listen on.
            port: 0 takes a free one.

        Raises:
            StartFailed: the address cannot be had.
        """
        try:
            self._server = _Server((host, port), _Requests)
        except OSError as error:
            raise StartFailed(
                "metrics_address",
                f"cannot serve /metrics on {host}:{port}: {error.strerror or error}",
                "set BATOS_METRICS_PORT to a free port or to 0, BATOS_METRICS_HOST to an address of this machine",
            ) from error
        self._server.set_app(pages)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)
        shown = socket.gethostname() if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        self.metrics_url = f"http://{shown}:{self._server.server_port}/metrics"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for answers under way (bounded by the request timeout)."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
