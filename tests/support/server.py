"""A small Hub on 127.0.0.1 that unmodified clients talk to, with faults on order and an eye on stray traffic."""

import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from endpoints import ORGANIZATION, ROUTES, USER, Endpoints
from store import Blob, HubError, Repository

ANY = -1
"""For [`Hub.fault`]: every request."""


@dataclass
class Request:
    """A request that the server saw, and its answer."""

    method: str
    path: str
    headers: dict[str, str]
    status: int | str = "unanswered"
    fault: bool = False


@dataclass
class Fault:
    """What to do to requests instead of answering them as ever."""

    path: re.Pattern
    method: str | None
    status: int | None
    drop: bool
    delay: float
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        due = self.times == ANY or self.hits < self.times
        return due and self.method in (None, method) and self.path.search(path) is not None


@dataclass
class Hub:
    """The state of the server. `with Hub() as hub:` starts and stops it."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    owners: set[str] = field(default_factory=lambda: {USER, ORGANIZATION})
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> "Hub":
        handler = type("Handler", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self) -> dict[str, str]:
        """What a client's process needs before it imports anything from Hugging Face, HF_HOME and the token aside."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",  # there is no fall-back from xet to LFS
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "DISABLE_SAFETENSORS_CONVERSION": "1",
            **{name: self.endpoint for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")},
            **{name: "127.0.0.1" for name in ("NO_PROXY", "no_proxy")},
        }

    def fault(
        self,
        path: str,
        status: int | None = None,
        *,
        method: str | None = None,
        drop: bool = False,
        delay: float = 0.0,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> Fault:
        """Treat the next `times` requests whose path matches a regular expression: answer `status` (with `headers`),
        drop the connection in the middle of the upload (of the download, if the request has no body), or answer
        late. A client may order faults for itself by `POST /tests/faults`, which take the place of all others."""
        fault = Fault(re.compile(path), method, status, drop, delay, times, headers or {})
        with self.lock:
            self.faults.append(fault)
        return fault

    def check(self) -> None:
        """Fail on traffic to other hosts and on requests that the server could not make sense of."""
        stray, errors = list(self.stray), list(self.errors)
        self.stray.clear()
        self.errors.clear()
        assert not stray, f"requests to other hosts: {stray}"
        assert not errors, f"requests that the server does not know: {errors}"

    def seen(self, path: str, method: str | None = None) -> list[Request]:
        """Requests whose path matches a regular expression."""
        return [r for r in list(self.requests) if re.search(path, r.path) and method in (None, r.method)]

    def repository(self, name: str, kind: str = "model") -> Repository:
        return self.repositories[kind, name]

    def files(self, name: str, kind: str = "model", revision: str = "main") -> dict[str, Blob]:
        """The files of a repository, without the one that it begins with."""
        files = self.repository(name, kind).at(revision).files
        return {path: blob for path, blob in files.items() if path != ".gitattributes"}


class Handler(Endpoints, BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def do_CONNECT(self) -> None:
        self._refuse_stray()

    def _refuse_stray(self) -> None:
        self.hub.stray.append(f"{self.command} {self.path}")
        self.close_connection = True
        self._send(403, b"the tests talk to no other host")

    def _answer(self) -> None:
        if not self.path.startswith("/"):  # asked as a proxy
            own = self.path.startswith(self.hub.endpoint.replace("://", "://datasets-server.") + "/")
            self._send(404, {"error": "nothing was exported"}) if own else self._refuse_stray()
            return
        url, self.request_seen = urlsplit(self.path), Request(self.command, self.path, dict(self.headers))
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        with self.hub.lock:
            self.hub.requests.append(self.request_seen)
            fault = next((f for f in self.hub.faults if f.takes(self.command, self.path)), None)
            if fault is not None:
                fault.hits += 1
        self.request_seen.fault, self.cut = fault is not None, False
        if fault is not None and fault.drop:
            if int(self.headers.get("Content-Length") or 0) or "Transfer-Encoding" in self.headers:
                self._read_body(half=True)
                self._hang_up()
                return
            self.cut = True
        self.body = self._read_body()
        if fault is not None:
            time.sleep(fault.delay)
        try:
            if fault is not None and fault.status is not None:
                raise HubError(fault.status, f"ordered fault {fault.status}", headers=fault.headers)
            self._dispatch(url.path)
        except HubError as error:
            self._fail(error)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:  # a 5xx would be retried, and may be hidden by a cache
            self.hub.errors.append(f"{self.command} {self.path}: {type(error).__name__}: {error}")
            self._fail(HubError(400, f"error in the test server: {error}"))

    def _dispatch(self, path: str) -> None:
        method = "GET" if self.command == "HEAD" else self.command
        for wanted, pattern, name in ROUTES:
            match = pattern.fullmatch(path)
            if match is None or wanted != method:
                continue
            self.parts = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
            self.user_rights = self._rights()
            with self.hub.lock:
                status, body, headers = getattr(self, "_" + name)()
            self._send(status, body, headers)
            return
        self.hub.errors.append(f"{self.command} {self.path}: no such endpoint")
        raise HubError(400, f"the test server has no {self.command} {path}")

    def _read_body(self, half: bool = False) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
                if half:
                    return b"".join(chunks)
            self.rfile.readline()
            return b"".join(chunks)
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length // 2 if half else length)

    def _hang_up(self) -> None:
        """Close with a reset, as a broken line looks to the client."""
        self.request_seen.status = "dropped"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _send(self, status: int, body: bytes | dict | list = b"", headers: dict[str, str] | None = None) -> None:
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        if hasattr(self, "request_seen"):
            self.request_seen.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = getattr(self, "cut", False)
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _fail(self, error: HubError) -> None:
        headers = {"X-Error-Message": error.message, **error.headers}
        if error.code is not None:
            headers["X-Error-Code"] = error.code
        if error.commit is not None:
            headers["X-Repo-Commit"] = error.commit
        self._send(error.status, {"error": error.message, **error.body}, headers)
