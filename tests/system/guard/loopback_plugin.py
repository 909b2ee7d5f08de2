"""The guard's part in pytest: starts it, and fails the test during which a request to another host was made."""

import tempfile

import loopback_only
import pytest

_stray = tempfile.NamedTemporaryFile("r", prefix="requests_to_other_hosts_", encoding="utf-8")
loopback_only.start(_stray.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Fail the test, its set-up or its tear-down if it, or a process that it started, asked for another host."""
    report = yield
    stray = _stray.read()
    if stray:
        told = f"requests to other hosts than loopback:\n{stray}"
        report.sections.append(("requests to other hosts", told))
        if report.outcome != "failed":
            report.outcome, report.longrepr = "failed", told
    return report
