"""What errors of the Hub mean: which refuse, which pass, how long to wait, and what people are told to do."""

import time
from email.utils import formatdate

import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import hf_raise_for_status, httpx

from gerne_hf.hub.failures import advice, is_unknown_route, passes, patiently, reason, refuses, seconds_to_wait


def answered(status, headers=None, path="/api/models/me/birds/commit/main"):
    """The error that `huggingface_hub` makes of an answer."""
    request = httpx.Request("POST", "http://127.0.0.1" + path)
    response = httpx.Response(status, headers={"X-Error-Message": "because", **(headers or {})}, request=request)
    with pytest.raises(HfHubHTTPError) as found:
        hf_raise_for_status(response)
    return found.value


def broken_upload(cause):
    error = RuntimeError("Error while uploading 'model.safetensors' to the Hub.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 412, 413, 422, 429, 500, 502, 503, 504])
def test_which_statuses_refuse_and_which_pass(status):
    error = answered(status)
    assert refuses(error) == (status in (401, 403))
    assert passes(error) == passes(broken_upload(error)) == (status in (409, 412, 429, 500, 502, 503, 504))


@pytest.mark.parametrize(
    "error, expected",
    [
        (httpx.ConnectError("no route"), True),
        (httpx.ReadTimeout("slow"), True),
        (broken_upload(httpx.WriteError("reset")), True),
        (OfflineModeIsEnabled("offline"), False),
        (FileNotFoundError("model.safetensors"), False),
        (PermissionError("disk"), False),
        (RuntimeError("a bug"), False),
    ],
    ids=repr,
)
def test_which_errors_without_an_answer_pass(error, expected):
    assert passes(error) == expected and not refuses(error)


def test_how_long_the_hub_asks_to_wait():
    assert seconds_to_wait(answered(429, {"Retry-After": "7"})) == 7
    assert seconds_to_wait(broken_upload(answered(503, {"Retry-After": " 30 "}))) == 30
    assert seconds_to_wait(answered(503, {"Retry-After": formatdate(time.time() + 100)})) == pytest.approx(100, abs=5)
    assert seconds_to_wait(answered(503, {"Retry-After": formatdate(time.time() - 100)})) == 0
    assert seconds_to_wait(answered(429, {"ratelimit": '"api";r=0;t=55'})) == 55
    for error in (answered(429), answered(429, {"Retry-After": "soon"}), ConnectionError(), None):
        assert seconds_to_wait(error) is None


@pytest.mark.parametrize(
    "error, words",
    [
        (answered(401), "HF_TOKEN"),
        (answered(403), "write access"),
        (answered(404), "HF_ENDPOINT"),
        (answered(404, {"X-Error-Code": "RepoNotFound"}), "no such repository"),
        (answered(409), "at the same time"),
        (answered(412), "at the same time"),
        (answered(422), "refused the request itself"),
        (answered(429, {"Retry-After": "7"}), "too many requests from here: wait 7 s"),
        (answered(500), "fault of its own"),
        (answered(503), "fault of its own"),
        (httpx.ConnectError("no route"), "check the network"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
        (FileNotFoundError("x"), "no error of the Hub"),
    ],
)
def test_advice_names_the_true_reason(error, words):
    text = advice(error)
    assert words in text and not text.endswith(".")
    assert ("write access" in text) == (words == "write access")


def test_an_unknown_route_is_told_from_an_unknown_repository():
    assert is_unknown_route(answered(404)) and not is_unknown_route(answered(404, {"X-Error-Code": "RepoNotFound"}))
    assert not is_unknown_route(answered(401)) and not is_unknown_route(ConnectionError())


class Clock:
    def __init__(self, *answers):
        self.answers, self.now, self.slept, self.told = list(answers), 0.0, [], []

    def call(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def run(self, patience):
        return patiently(self.call, patience, self.told.append, self.sleep, lambda: self.now)


def test_waits_grow_and_the_hub_has_the_last_word():
    errors = [answered(500), httpx.ReadError("cut"), answered(429, {"Retry-After": "20"}), answered(412)]
    clock = Clock(*errors, "commit")
    assert clock.run(100) == "commit"
    assert clock.slept == [1, 2, 20, 8] and len(clock.told) == 4 and "429" in clock.told[2] and "20 s" in clock.told[2]


@pytest.mark.parametrize(
    "answers, patience, slept",
    [
        ([answered(403)], 100, []),
        ([answered(500)], 0, []),
        ([answered(500)] * 4, 6, [1, 2]),
        ([answered(503, {"Retry-After": "3600"})], 100, []),
        ([answered(500), answered(403)], 100, [1]),
    ],
    ids=["refused", "no patience", "patience ends", "too long", "then refused"],
)
def test_when_it_gives_up(answers, patience, slept):
    clock, last = Clock(*answers), answers[len(slept)]
    with pytest.raises(HfHubHTTPError) as found:
        clock.run(patience)
    assert found.value is last and clock.slept == slept


def test_the_reason_names_the_cause():
    assert reason(broken_upload(ConnectionError("reset by peer"))) == (
        "RuntimeError: Error while uploading 'model.safetensors' to the Hub.; caused by ConnectionError: reset by peer"
    )
    assert reason(None) == ""
