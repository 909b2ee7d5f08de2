"""The suite talks to no other host than loopback: whatever tries to is refused, put on record, and fails its test.

Python processes are watched from within, by an audit hook that `sitecustomize.py` beside this file installs in those
that tests start; other programs meet a proxy that refuses. All write to one file, which `loopback_plugin.py` reads.
"""

import os
import sys
from threading import Thread
from typing import Any

RECORD = "LOOPBACK_ONLY_RECORD"
"""Environment variable: a file with a line for each request that was refused."""
FOLDER = os.path.dirname(os.path.abspath(__file__))

_ADDRESSES = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getnameinfo": 0}
_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_watched = False


def start(record: str) -> None:
    """Watch this process and all that it starts.

    Args:
        record (`str`): the file for what is refused.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [FOLDER, *(path for path in given if path not in ("", FOLDER))]
    proxy = start_proxy(record)
    os.environ |= {
        RECORD: record,
        "PYTHONPATH": os.pathsep.join(paths),
        **{name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")},
        **{name: "127.0.0.1,localhost" for name in ("NO_PROXY", "no_proxy")},
    }
    watch()


def watch() -> None:
    """Watch this process; an audit hook stays as long as the process lives."""
    global _watched
    if not _watched:
        _watched = True
        sys.addaudithook(_look)


def _look(event: str, args: tuple) -> None:
    if event in _ADDRESSES:  # a path for Unix sockets, numbers for those of the kernel
        address = args[_ADDRESSES[event]]
        host = address[0] if isinstance(address, tuple) else None
    elif event in _NAMES:
        host = args[0]
    elif event == "subprocess.Popen" and args[3] is not None and RECORD in os.environ:
        if os.path.basename(str(args[0])).startswith("python"):
            _check_environment(args[1], args[3])
        return
    else:
        return
    if RECORD in os.environ and is_elsewhere(host):
        host = host.decode() if isinstance(host, bytes) else host
        write(os.environ[RECORD], f"{host} ({event})")
        raise ConnectionRefusedError(f"tests talk to no other host than loopback; asked for {host}")


def is_elsewhere(host: Any) -> bool:
    """Whether a host's name or address is that of another machine; what is neither is not."""
    from ipaddress import ip_address
    from socket import gethostname

    if not isinstance(host, (str, bytes)):
        return False
    name = (host.decode() if isinstance(host, bytes) else host).lower()
    try:
        address = ip_address(name)
    except ValueError:
        return name not in ("", "localhost", "localhost.localdomain", "ip6-localhost", gethostname().lower())
    address = getattr(address, "ipv4_mapped", None) or address
    return not (address.is_loopback or address.is_unspecified)


def _check_environment(command: Any, environment: Any) -> None:
    folders = str(environment.get("PYTHONPATH", "")).split(os.pathsep)
    if RECORD not in environment or FOLDER not in folders:
        write(os.environ[RECORD], f"{command!r} was started unwatched: pass on {RECORD} and PYTHONPATH of os.environ")


def write(record: str, line: str) -> None:
    """Add a line to the record."""
    with open(record, "a", encoding="utf-8") as file:
        file.write(line + "\n")


def start_proxy(record: str) -> str:
    """Start a proxy that refuses every request and puts it on record; its address."""
    from socketserver import StreamRequestHandler, ThreadingTCPServer

    class Refuse(StreamRequestHandler):
        def handle(self) -> None:
            asked = self.rfile.readline(1 << 16).decode(errors="replace").split()
            write(record, f"{' '.join(asked[:2])} (through the proxy)")
            while self.rfile.readline(1 << 16).strip():
                pass
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    server = ThreadingTCPServer(("127.0.0.1", 0), Refuse)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
