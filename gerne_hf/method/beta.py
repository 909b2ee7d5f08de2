"""Schedules of the extrapolation factor over training."""

BETA_SCHEDULES = ("constant", "linear")
"""Names of the schedules, as `GerneConfig.beta_schedule` takes them."""


def scheduled_beta(schedule: str, beta: float, progress: float, ramp: float = 0.5) -> float:
    """The extrapolation factor at one point of the training.

    Args:
        schedule (`str`): "constant", or "linear": from -1, which is class-balanced ERM, to `beta` over the first
            `ramp` of the training.
        beta (`float`): the factor at the end of the ramp.
        progress (`float`): share of the training that is done, in [0, 1].
        ramp (`float`, defaults to `0.5`): length of the ramp as a share of the training, in (0, 1].

    Returns:
        `float`: between -1 and `beta`.

    Raises:
        ValueError: for an unknown schedule.
    """
    if schedule == "constant":
        return beta
    if schedule == "linear":
        if progress >= ramp:
            return beta
        value = -1.0 + (beta + 1.0) * progress / ramp
        return value if beta < -1.0 else min(value, beta)  # which rounding may take it beyond
    raise ValueError(f"unknown beta_schedule {schedule!r}; the schedules are {', '.join(BETA_SCHEDULES)}")


def check_beta(beta: float, bounds: tuple[float, float], c: float, rule: str) -> None:
    """Refuse a beta outside its bounds (Eq. 9), or warn about it, or accept it (`rule`: "error", "warn", "ignore").

    Raises:
        ValueError: if the rule is "error".
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
    from transformers.utils import logging  # slow to import, and few runs have anything to warn of

    logging.get_logger(__name__).warning_once(message)
