"""The suite's guard: requests to other hosts fail the test that made them, on whichever way; loopback is free."""

import os
import subprocess
import sys
import time
from xml.etree import ElementTree

import loopback_only
import pytest
from places import ROOT

CONFTEST, HOOK = str(ROOT / "tests" / "conftest.py"), "pytest_runtest_makereport"
INNER = """
import os, socket, subprocess, sys, threading, urllib.request
import pytest

RAW = "import socket; s = socket.socket(); s.settimeout(5); s.connect_ex(('192.0.2.3', 80))"

def run(code, **options):
    subprocess.run([sys.executable, "-c", code], timeout=60, **options)

def test_library():
    try:
        urllib.request.urlopen("https://library.invalid/x")
    except OSError:
        pass  # as libraries do

def test_name():
    try:
        socket.create_connection(("name.invalid", 80), timeout=5)
    except OSError:
        pass

def test_datagram():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        try:
            opened.sendto(b"x", ("2001:db8::7", 53))
        except OSError:
            pass

def test_process():
    run(RAW)

def test_process_of_a_process():
    run(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {RAW!r}])")

def test_forked():
    if os.fork() == 0:
        try:
            socket.socket().connect_ex(("192.0.2.4", 80))
        finally:
            os._exit(0)
    os.wait()

def test_other_program():  # unwatched from within, as other programs are
    run("import urllib.request as r; r.urlopen('http://program.invalid/')", env={**os.environ, "PYTHONPATH": ""})

@pytest.fixture
def asking():
    yield
    try:
        socket.socket().connect_ex(("192.0.2.5", 80))
    except OSError:
        pass

def test_teardown(asking):
    pass

@pytest.mark.parametrize("host, family", [("127.0.0.1", socket.AF_INET), ("localhost", socket.AF_INET)])
def test_loopback(host, family):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
        found = socket.getaddrinfo(socket.gethostname(), None) and server.accept()
        run(f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)")

def test_unix_sockets(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        socket.socket(socket.AF_UNIX).connect(str(tmp_path / "s"))
    left, right = socket.socketpair()
    left.sendall(b"x")
"""
EXPECTED = {
    "test_library": "CONNECT library.invalid:443",
    "test_name": "name.invalid (socket.getaddrinfo)",
    "test_datagram": "2001:db8::7 (socket.sendto)",
    "test_process": "192.0.2.3 (socket.connect)",
    "test_process_of_a_process": "192.0.2.3 (socket.connect)",
    "test_forked": "192.0.2.4 (socket.connect)",
    "test_other_program": "GET http://program.invalid/",
    "test_teardown": "192.0.2.5 (socket.connect)",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What a suite under the same guard said, by test."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "test_inner.py").write_text(INNER)
    command = [sys.executable, "-m", "pytest", "-p", "loopback_plugin", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--junitxml", str(folder / "report.xml"), str(folder)]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    cases = ElementTree.parse(folder / "report.xml").getroot().iter("testcase")
    return {case.get("name"): " ".join("".join(case.itertext()).split()) for case in cases}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_request_to_another_host_fails_its_test(outcomes, name):
    assert "requests to other hosts than loopback: " in outcomes[name]
    assert EXPECTED[name] in outcomes[name]


def test_a_process_that_would_be_unwatched_is_told(outcomes):
    assert "was started unwatched: pass on LOOPBACK_ONLY_RECORD and PYTHONPATH" in outcomes["test_other_program"]


def test_loopback_is_free(outcomes):
    free = [name for name in outcomes if name not in EXPECTED]
    assert len(free) == 3 and not any(outcomes[name] for name in free)


def test_this_suite_is_under_guard(request):
    assert loopback_only.RECORD in os.environ and loopback_only._watched
    plugins = request.config.pluginmanager.get_plugins()
    assert any(getattr(plugin, "__file__", "") == CONFTEST and hasattr(plugin, HOOK) for plugin in plugins)


@pytest.mark.parametrize("host", ["", "localhost", b"localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", None])
def test_hosts_of_this_machine(host):
    assert not loopback_only.is_elsewhere(host)
    assert not loopback_only.is_elsewhere("::ffff:127.0.0.1")


@pytest.mark.parametrize("host", ["hf.co", b"example.com", "8.8.8.8", "10.0.0.1", "fe80::1", "::ffff:8.8.8.8"])
def test_hosts_elsewhere(host):
    assert loopback_only.is_elsewhere(host)


def test_watching_costs_nothing_to_speak_of():
    """The hook is called for each import, open and the like: some thousand times a second at most."""
    began = time.perf_counter()
    for _ in range(10_000):
        sys.audit("tests.nothing")
    assert (time.perf_counter() - began) / 10_000 < 1e-5
