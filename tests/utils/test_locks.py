"""Locks on folders: who is told what, and that no kill leaves one behind."""

import errno
import json
import logging as python_logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from places import python_path

from gerne_hf.utils import locks
from gerne_hf.utils.locks import LOCK_FILE, FolderInUseError, locked

WAY_OUT = "Choose another folder"

HOLD = f"""
import sys, time
from gerne_hf.utils.locks import locked
with locked(sys.argv[1], "training", "{WAY_OUT}"):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which holds the folder until it is killed."""
    environment = {**os.environ, "PYTHONPATH": python_path()}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def lock(folder, purpose="training"):
    return locked(str(folder), purpose, WAY_OUT)


def test_the_second_process_is_told_of_the_first_and_takes_over_when_it_was_killed(tmp_path, other, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    with pytest.raises(FolderInUseError) as caught, lock(tmp_path):
        pass
    message = str(caught.value)
    assert f"{tmp_path} is in use: process {other.pid} on {socket.gethostname()} has been training there" in message
    assert f"since {time.strftime('%Y-', time.gmtime())}" in message and f"{WAY_OUT}. If that process" in message
    assert f"delete {tmp_path / LOCK_FILE}" in message
    other.send_signal(signal.SIGKILL)
    monkeypatch.setattr(locks, "PATIENCE", 3.0)
    with lock(tmp_path):  # at once, while it is still ending
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_deleted_locks_no_more(tmp_path, other):
    """The way out where a lock server keeps the lock of a machine that is gone."""
    (tmp_path / LOCK_FILE).unlink()
    with lock(tmp_path):
        pass


def test_one_after_the_other_in_one_process(tmp_path):
    for _ in range(2):
        with lock(tmp_path / "new" / "folder"):
            assert (tmp_path / "new" / "folder" / LOCK_FILE).exists()
    with pytest.raises(KeyboardInterrupt), lock(tmp_path):
        raise KeyboardInterrupt
    with lock(tmp_path):
        pass


def test_one_within_the_other_is_refused_but_for_other_folders(tmp_path):
    with lock(tmp_path), lock(tmp_path / "search" / "run-0"):
        begin = time.monotonic()
        message = rf"process {os.getpid()} on .*, which is this one, has been training there since .*\. {WAY_OUT}$"
        with pytest.raises(FolderInUseError, match=message), lock(tmp_path):
            pass
        assert time.monotonic() - begin < 1
        assert (tmp_path / LOCK_FILE).exists()


def sleep_on():
    time.sleep(100)


def test_a_worker_that_outlives_its_process_holds_nothing(tmp_path):
    """Workers of a DataLoader look for their parent every few seconds."""

    def hold(pipe):
        with lock(tmp_path):
            worker = multiprocessing.get_context("fork").Process(target=sleep_on)
            worker.start()
            pipe.send(worker.pid)
            time.sleep(100)

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(theirs,))
    process.start()
    worker = ours.recv()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    try:
        with lock(tmp_path):
            os.kill(worker, 0)  # it still runs
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_fork_does_not_end_the_lock(tmp_path, monkeypatch):
    with lock(tmp_path):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(FolderInUseError), lock(tmp_path):
            pass


# ---- file systems without locks -----------------------------------------------------------------------------------


@pytest.fixture
def without_locks(monkeypatch, caplog):
    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    monkeypatch.setattr(python_logging.getLogger("gerne_hf"), "propagate", True)
    caplog.set_level("INFO")
    return caplog


def left_behind(folder, **entries):
    record = {"pid": os.getpid(), "host": socket.gethostname(), "started": "2026-01-01T00:00:00+00:00"}
    (folder / LOCK_FILE).write_text(json.dumps({**record, "ticks": "1", "purpose": "training", **entries}))


def test_without_locks_a_process_that_runs_here_is_noticed(tmp_path, other, without_locks):
    with pytest.raises(FolderInUseError, match=f"process {other.pid} on "), lock(tmp_path):
        pass
    other.kill()
    other.wait()
    with lock(tmp_path):
        pass
    assert "has no locks: a second process that writes there from another machine" in without_locks.text


def test_without_locks_a_number_that_has_passed_to_another_process_does_not_matter(tmp_path, without_locks):
    """In a container every run may have the number 1."""
    left_behind(tmp_path)
    with lock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "[1", "[1]", '{"pid": null}'])
def test_a_file_that_says_nothing_is_taken_over(tmp_path, content):
    (tmp_path / LOCK_FILE).write_text(content)
    with lock(tmp_path):
        pass


def test_one_that_was_left_on_another_machine_is_taken_over_and_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(python_logging.getLogger("gerne_hf"), "propagate", True)
    left_behind(tmp_path, host="elsewhere", pid=77)
    with lock(tmp_path):
        pass
    assert "was last used by process 77 on elsewhere, since 2026-01-01" in caplog.text
