"""The explorer's server: it speaks to a browser on this machine, and only of what the explorer answers."""

import contextlib
import inspect
import json
import re
import socket
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assets.explorer.answers import Explorer
from assets.explorer.viewer import viewer_script
from store.schema import CounterstainError

HOST = "127.0.0.1"
# Chromium and Firefox refuse to speak to these (https://fetch.spec.whatwg.org/#port-blocking, those above 1023).
BLOCKED_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)
_THUMBNAIL = re.compile(r"/thumbnails/(?P<dataset>[A-Za-z0-9_.-]+)/(?P<row>[0-9]{1,9})")
_MAX_BODY_BYTES = 4 * 2**20
_PAGE = Path(__file__).parent / "page"
_HTML, _SCRIPT, _STYLE = "text/html; charset=utf-8", "text/javascript; charset=utf-8", "text/css; charset=utf-8"
# Nothing is loaded from elsewhere, whatever a label or a word read off an image may say. The viewer's workers are data.
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src data:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class ExplorerServer(ThreadingHTTPServer):
    """An explorer on a port of 127.0.0.1, once ``serve_forever`` is called.

    Parameters
    ----------
    port
        Port; 0 for a free one.
    open_explorer
        Returns what is served, given the server's address.

    Raises
    ------
    CounterstainError
        If the viewer is not installed, or the port is taken or one that browsers refuse; or as `open_explorer` says.
    """

    daemon_threads = False

    def __init__(self, port: int, open_explorer: Callable[[str], Explorer]):
        self.connections: set[socket.socket] = set()
        self.files = {
            "/": (_PAGE / "index.html", _HTML),
            "/explorer.js": (_PAGE / "explorer.js", _SCRIPT),
            "/explorer.css": (_PAGE / "explorer.css", _STYLE),
            "/viewer.js": (viewer_script(), _SCRIPT),
        }
        if port in BLOCKED_PORTS:
            raise CounterstainError(f"browsers refuse port {port}: choose another by --port.")
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise CounterstainError(f"port {port} cannot be had ({error}): choose another by --port.") from error
        self.address = f"http://{HOST}:{self.server_port}"
        try:
            self.explorer = open_explorer(self.address)
        except CounterstainError:
            self.server_close()
            raise
        self.calls: dict[str, Callable[..., object]] = {
            "/api/catalogue": self.explorer.catalogue,
            "/api/data-set": self.explorer.open_data_set,
            "/api/map": self.explorer.open_map,
            "/api/query": self.explorer.query,
            "/api/count": self.explorer.count,
            "/api/view": self.explorer.save_view,
        }

    def server_close(self) -> None:
        """Hang up on browsers, which keep their connections, and wait for what is being answered."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # gone by itself
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds a connection may idle
    server: ExplorerServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        if not self._from_here():
            return
        path = urlsplit(self.path).path
        if path in self.server.files:
            file, kind = self.server.files[path]
            self._send(HTTPStatus.OK, kind, file.read_bytes())
        elif found := _THUMBNAIL.fullmatch(path):
            thumbnail = self.server.explorer.thumbnail(found["dataset"], int(found["row"]))
            if thumbnail is None:
                self._refuse(HTTPStatus.NOT_FOUND, "no such image")
            else:
                self._send(HTTPStatus.OK, "image/jpeg", thumbnail)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        # A page from elsewhere cannot send JSON without asking first, and is not answered when it asks.
        if not self._from_here():
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and int(length) <= _MAX_BODY_BYTES):
            self.close_connection = True  # its body was not read
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has {_MAX_BODY_BYTES} bytes at most")
            return
        body = self.rfile.read(int(length))
        call = self.server.calls.get(urlsplit(self.path).path)
        if call is None or self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.NOT_FOUND, "no such call")
            return
        try:
            answer = call(**_arguments(call, body))
        except CounterstainError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        if isinstance(answer, bytes):
            self._send(HTTPStatus.OK, "application/octet-stream", answer)
        else:
            self._send(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def _from_here(self) -> bool:
        """Whether a page of this server asks; a foreign name that resolves to this machine is no excuse."""
        address = self.server.address
        host = self.headers.get("Host", "")
        if host == f"localhost:{self.server.server_port}" and self.command == "GET":
            self._send(HTTPStatus.TEMPORARY_REDIRECT, "text/plain", b"", {"Location": f"{address}/"})
            return False
        if f"http://{host}" != address or self.headers.get("Origin", address) != address:
            self.close_connection = True  # its body was not read
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this is {address}, and speaks to no page but its own")
            return False
        return True

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._send(status, "application/json", json.dumps({"error": message}).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the terminal."""


def _arguments(call: Callable[..., object], body: bytes) -> dict[str, str]:
    """Return the arguments of a call out of a JSON object of texts.

    Raises
    ------
    CounterstainError
        If they are not those of the call.
    """
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError):
        arguments = None
    names = inspect.signature(call).parameters.keys()
    if not isinstance(arguments, dict) or arguments.keys() != names:
        raise CounterstainError(f"a call takes one JSON object with: {', '.join(names)}.")
    if not all(isinstance(value, str) for value in arguments.values()):
        raise CounterstainError("every argument of a call is text.")
    return arguments
