"""Whether the training rows are evaluated for the card: where that costs little beside the training.

Imports nothing of this package. `GerneTrainer.evaluate_training_rows_if_cheap` asks it.
"""

TRAINING_ACCURACIES = ("auto", "always", "never")
"""Values of the setting `training_accuracies`."""

MOST_SHARE = 0.1
"""With "auto", the evaluation may take so much of the time of the training."""


def why_left_out(choice: str, rows: int, seconds_a_row: float | None, training_seconds: float | None) -> str | None:
    """Return why the training rows are not evaluated, in words; None if they are.

    Args:
        choice (`str`): one of [`TRAINING_ACCURACIES`].
        rows (`int`): training rows.
        seconds_a_row (`float`, *optional*): seconds that an evaluation takes a row; None if nothing was evaluated yet.
        training_seconds (`float`, *optional*): seconds that the training took; None if nothing was trained.

    Returns:
        `str`, *optional*

    Example:

    ```python
    >>> print(why_left_out("auto", 50_000, seconds_a_row=0.001, training_seconds=25.0))
    evaluating the 50,000 training rows would take about 50 s, more than a tenth of the 25 s of training
    >>> why_left_out("auto", 50_000, seconds_a_row=0.001, training_seconds=900.0) is None
    True

    ```
    """
    if choice == "never":
        return "the run was told never to evaluate its training rows"
    if choice == "always" or seconds_a_row is None or training_seconds is None:
        return None
    seconds = rows * seconds_a_row
    if seconds <= MOST_SHARE * training_seconds:
        return None
    return (
        f"evaluating the {rows:,} training rows would take about {_short(seconds)} s, more than a tenth of the "
        f"{_short(training_seconds)} s of training"
    )


def _short(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"
