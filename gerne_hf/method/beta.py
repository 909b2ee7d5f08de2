"""The extrapolation factor beta: its schedules over the training, and the check against its bounds.

Imports no other room, and nothing heavy. The bounds themselves are computed in
[`distributions`](gerne_hf.method.distributions); which plans can change beta during training says
[`plans`](gerne_hf.method.plans).
"""

BETA_SCHEDULES = ("constant", "linear")
"""Names of the schedules, as `GerneConfig.beta_schedule` takes them."""


def scheduled_beta(schedule: str, beta: float, progress: float, ramp: float = 0.5) -> float:
    """Return the extrapolation factor at one point of the training.

    Args:
        schedule (`str`): one of `BETA_SCHEDULES`. "constant" gives `beta` throughout; "linear" rises from -1, which is
            class-balanced ERM, to `beta` over the first part of the training, which `ramp` sets.
        beta (`float`): extrapolation factor at the end of the schedule.
        progress (`float`): share of the training that is done, in [0, 1].
        ramp (`float`, defaults to `0.5`): length of the ramp as a share of the training, in (0, 1].

    Returns:
        `float`: between -1 and `beta`.

    Raises:
        ValueError: for an unknown schedule.

    Example:

    ```python
    >>> [scheduled_beta("linear", 1.0, progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    [-1.0, 0.0, 1.0, 1.0]

    ```
    """
    if schedule == "constant":
        return beta
    if schedule == "linear":
        if progress >= ramp:
            return beta
        value = -1.0 + (beta + 1.0) * progress / ramp
        return value if beta < -1.0 else min(value, beta)  # rounding may lift it above beta
    raise ValueError(f"unknown beta_schedule {schedule!r}; the schedules are {', '.join(BETA_SCHEDULES)}")


def check_beta(beta: float, bounds: tuple[float, float], c: float, rule: str) -> None:
    """Refuse an extrapolation factor outside its bounds (Eq. 9), or warn about it once, or accept it.

    Args:
        beta (`float`): extrapolation factor.
        bounds (`tuple[float, float]`): lower and upper bound, as [`beta_bounds`] returns them.
        c (`float`): degree of bias reduction that the bounds belong to, for the message.
        rule (`str`): what to do about a beta outside: "error", "warn" or "ignore".

    Raises:
        ValueError: for a beta outside its bounds, if the rule is "error".

    Example:

    ```python
    >>> check_beta(1.0, (-1.0, 3.5), c=0.5, rule="error")
    >>> check_beta(4.0, (-1.0, 3.5), c=0.5, rule="ignore")

    ```
    """
    lower, upper = bounds
    if lower - 1e-9 <= beta <= upper + 1e-9 or rule == "ignore":
        return
    message = (
        f"beta={beta:g} lies outside its bounds [{lower:g}, {upper:.4g}] for this data and c={c:g} (Eq. 9): some "
        "group would get negative weight, and training may diverge. Choose beta inside them, or a smaller c, which "
        "widens them"
    )
    if rule == "error":
        raise ValueError(message + "; beta_out_of_bounds='warn' trains all the same")
    from transformers.utils import logging  # takes seconds to import; needed for a warning alone

    logging.get_logger(__name__).warning_once(message)
