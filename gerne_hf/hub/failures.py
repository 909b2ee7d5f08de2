"""What an error of the Hub means: its reason in a line, what to do about it, and whether it passes by waiting.

Imports no other module of this package. [`uploads`](gerne_hf.hub.uploads) waits and tries again by these functions.
"""

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import httpx, parse_ratelimit_headers

_Result = TypeVar("_Result")

REFUSING = (401, 403)
"""Statuses by which the Hub says that the token may not do this: waiting does not help."""

PASSING = (408, 409, 412, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others a while later. 409 and 412: something else was written at the same time."""

LONGEST_PAUSE = 60.0
"""Seconds; pauses double from one second up to this, unless the Hub itself says how long to wait."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it, such as the broken connection below a failed upload."""
    while error is not None:
        yield error
        error = error.__cause__


def status_of(error: BaseException | None) -> int | None:
    """Return the HTTP status that an error or its cause comes from; None where the Hub has not answered.

    Args:
        error (`BaseException`, *optional*): what was raised.
    """
    found = [one.response.status_code for one in _chain(error) if isinstance(one, HfHubHTTPError)]
    return found[0] if found else None


def is_of_the_hub(error: BaseException) -> bool:
    """Return whether an error comes from the Hub or from the way to it, rather than from the disk or from a bug.

    Args:
        error (`BaseException`): what was raised.
    """
    kinds = (httpx.HTTPError, ConnectionError, TimeoutError)
    return any(isinstance(one, kinds) or type(one).__module__.startswith("hf_xet") for one in _chain(error))


def refuses(error: BaseException) -> bool:
    """Return whether the Hub has said that the token may not do this: statuses 401 and 403.

    Args:
        error (`BaseException`): what was raised.
    """
    return status_of(error) in REFUSING


def is_unknown_route(error: BaseException) -> bool:
    """Return whether a server does not know the address that was asked, as a mirror that can only be read.

    Args:
        error (`BaseException`): what was raised.
    """
    return status_of(error) == 404 and not any(isinstance(one, RepositoryNotFoundError) for one in _chain(error))


def passes(error: BaseException) -> bool:
    """Return whether the same request may succeed a while later: a busy Hub, or a broken connection.

    Args:
        error (`BaseException`): what was raised.

    Example:

    ```python
    >>> passes(ConnectionResetError("reset by peer")), passes(ValueError("no such branch"))
    (True, False)

    ```
    """
    status = status_of(error)
    if status is not None:
        return status in PASSING
    return is_of_the_hub(error) and not isinstance(error, OfflineModeIsEnabled)


def seconds_to_wait(error: BaseException | None) -> float | None:
    """Return how long the Hub asks to wait, from `Retry-After` or the limits of rate; None if it does not say.

    Args:
        error (`BaseException`, *optional*): what was raised.
    """
    for one in _chain(error):
        if not isinstance(one, HfHubHTTPError):
            continue
        headers = one.response.headers
        limit = parse_ratelimit_headers(headers)
        if status_of(one) == 429 and limit is not None and limit.remaining == 0:
            return float(limit.reset_in_seconds)
        value = headers.get("Retry-After", "").strip()
        if value.isdigit():
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time()) if value else None
        except ValueError:
            return None
    return None


def reason(error: BaseException | None) -> str:
    """Return an error and its cause in one line, without tracebacks; empty where there is no error.

    Args:
        error (`BaseException`, *optional*): what was raised.
    """
    reasons = list[str]()
    while error is not None and len(reasons) < 2:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reasons.append(": ".join([type(error).__name__, " ".join(lines[:2])]))
        error = error.__cause__ if not isinstance(error, HfHubHTTPError) else None
    return "; caused by ".join(reasons)


def advice(error: BaseException | None) -> str:
    """Return what to do about an error, by its true reason: one or two sentences without the last full stop.

    Args:
        error (`BaseException`, *optional*): what was raised.

    Example:

    ```python
    >>> print(advice(ConnectionResetError("reset by peer")))
    The Hub could not be reached, or the connection broke: check the network and proxies, and try again

    ```
    """
    status, offline = status_of(error), any(isinstance(one, OfflineModeIsEnabled) for one in _chain(error))
    wait = seconds_to_wait(error)
    later = f"wait {wait:.0f} s, as the Hub asks" if wait else "wait a while"
    if status == 401:
        return "The Hub does not know the token, or was given none: set HF_TOKEN, or run `hf auth login`"
    if status == 403:
        return (
            "The token may not write there. It needs a token with write access: set HF_TOKEN, or run `hf auth "
            "login`; or choose a repository that is yours"
        )
    if status == 404 and error is not None and is_unknown_route(error):
        return (
            "The server does not know this address. A mirror that can only be read is no place to push to: "
            "HF_ENDPOINT must name the Hub itself"
        )
    if status == 404:
        return "There is no such repository, or the token may not see it: check its name and HF_TOKEN"
    if status in (409, 412):
        return "Something else was written to the repository at the same time: try again"
    if status == 429:
        return f"The Hub has had too many requests from here: {later}, and try again"
    if status is not None and status >= 500:
        return f"The Hub has a fault of its own, which is not yours to mend: {later}, and try again"
    if status is not None:
        return "The Hub has refused the request itself, for the reason it gives"
    if offline:
        return "HF_HUB_OFFLINE is set, so nothing is pushed: unset it"
    if error is not None and is_of_the_hub(error):
        return "The Hub could not be reached, or the connection broke: check the network and proxies, and try again"
    return "It is no error of the Hub: see the reason"


def patiently(
    call: Callable[[], _Result],
    patience: float,
    told: Callable[[str], None] = lambda message: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> _Result:
    """Call a function; where the Hub is busy or away, wait and call it again.

    It waits as long as the Hub asks, and else 1, 2, 4 s and so on. Requests that `huggingface_hub` repeats by itself
    are repeated inside of each call.

    Args:
        call (`Callable`): what is done, which may be done twice without harm.
        patience (`float`): seconds after which it is not called again; 0 for a single call.
        told (`Callable`, *optional*): is given a message before each wait.
        sleep, clock (`Callable`, *optional*): for tests.

    Returns:
        What the function returns.

    Raises:
        Exception: the last error, if it does not pass by itself, or if the next call would come too late.

    Example:

    ```python
    >>> answers = iter([ConnectionResetError("reset"), "commit"])
    >>> def call():
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> patiently(call, 10, told=print, sleep=lambda seconds: None)
    ConnectionResetError: reset. The next try is in 1 s
    'commit'

    ```
    """
    end, pause = clock() + patience, 1.0
    while True:
        try:
            return call()
        except Exception as error:
            asked = seconds_to_wait(error)
            wait = pause if asked is None else asked
            if not passes(error) or clock() + wait > end:
                raise
            told(f"{reason(error)}. The next try is in {wait:.0f} s")
        sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)
