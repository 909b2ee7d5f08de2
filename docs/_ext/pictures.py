"""Draws the pictures of the page about the method, from the functions of the package, for light and dark pages.

They lie in `docs/_pictures/`, `NAME-light.svg` and `NAME-dark.svg`, are drawn at every build, and are not committed.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from gerne_hf import GerneTrainer  # noqa: E402
from gerne_hf.method import (  # noqa: E402
    beta_bounds,
    biased_distribution,
    extrapolated_distribution,
    less_biased_distribution,
)

ROOT = Path(__file__).parents[2]
ALPHA = np.array([[0.95, 0.05], [0.05, 0.95]])
"""Shares of two attribute values in two classes: of each class 5 % are a minority."""
INK = {"light": "#24292f", "dark": "#d0d5db"}
MAJORITY, MINORITY, THIRD = "#4c78a8", "#f58518", "#54a24b"


def batches() -> plt.Figure:
    """Draw the shares of majority and minority in both batches, and in what training follows."""
    figure, axes = plt.subplots(figsize=(6.4, 2.6))
    shares = {
        "biased batch\n(as the data are)": biased_distribution(ALPHA)[0, 1],
        "less biased batch\n(c = 0.5)": less_biased_distribution(ALPHA, 0.5)[0, 1],
        "what training follows\n(c = 0.5, beta = 1)": extrapolated_distribution(ALPHA, 0.5, 1.0)[0, 1],
        "further\n(c = 0.5, beta = 1.6)": extrapolated_distribution(ALPHA, 0.5, 1.6)[0, 1],
    }
    for row, share in enumerate(shares.values()):
        axes.barh(row, 1 - share, color=MAJORITY, label="majority of the class" if row == 0 else None)
        axes.barh(row, share, left=1 - share, color=MINORITY, label="minority" if row == 0 else None)
        axes.text(1.01, row, f"{100 * share:.1f} %", va="center")
    axes.set_yticks(range(len(shares)), list(shares))
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def shares_over_beta() -> plt.Figure:
    """Draw the minority's share in what training follows over beta, for several c, within the bounds of beta."""
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for c, color in ((0.25, THIRD), (0.5, MAJORITY), (1.0, MINORITY)):
        upper = beta_bounds(ALPHA, c)[1]
        betas = np.linspace(-1, min(upper, 3.3), 200)
        shares = [extrapolated_distribution(ALPHA, c, beta)[0, 1] for beta in betas]
        axes.plot(betas, shares, color=color, label=f"c = {c:g}")
        if upper <= 3.3:
            axes.plot([upper], [extrapolated_distribution(ALPHA, c, upper)[0, 1]], "o", color=color)
    axes.axhline(0.5, color="gray", lw=1, ls=":")
    axes.annotate("groups balanced", (-1.1, 0.5), ha="left", va="bottom", fontsize=9)
    axes.annotate("beta = -1: class-balanced ERM", (-1, 0.05), (-0.55, 0.03), va="center", fontsize=9)
    axes.annotate("a dot: the bound of beta", (1.25, 0.97), va="center", fontsize=9)
    axes.set(xlabel="beta", ylabel="minority's share", ylim=(0, 1.04))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def gradient() -> plt.Figure:
    """Sketch the gradients of both batches and the extrapolated one."""
    figure, axes = plt.subplots(figsize=(6.4, 2.9))
    biased, less_biased, beta = np.array([3.0, 0.35]), np.array([2.6, 1.1]), 1.0
    extrapolated = less_biased + beta * (less_biased - biased)
    for tip, color, text in (
        (biased, MAJORITY, "gradient of the biased batch"),
        (less_biased, THIRD, "gradient of the less biased batch"),
        (extrapolated, MINORITY, "the extrapolated one: as far again (beta = 1)"),
    ):
        axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.2})
        axes.text(*(tip + [0.12, 0.0]), text, color=color, va="center", fontsize=9)
    axes.plot(*np.stack([biased, extrapolated]).T, color="gray", ls=":", lw=1.2)
    axes.plot([0], [0], "o", color="gray")
    axes.text(-0.1, -0.14, "the model", va="top", fontsize=9)
    axes.set(xlim=(-0.4, 6.6), ylim=(-0.45, 2.25))
    axes.axis("off")
    return figure


def bounds() -> plt.Figure:
    """Draw the largest beta over the minority's share, for few and many attribute values."""
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    shares = np.linspace(0.002, 0.3, 200)
    for values, style in ((2, "-"), (10, "--")):
        for c, color in ((0.5, MAJORITY), (1.0, MINORITY)):
            alphas = [np.array([[1 - s, *[s / (values - 1)] * (values - 1)]]) for s in shares]
            upper = [beta_bounds(alpha, c)[1] for alpha in alphas]
            axes.plot(100 * shares, upper, style, color=color, label=f"{values} attribute values, c = {c:g}")
    axes.set(xlabel="rows of a class that are not of its most frequent attribute value, %", ylabel="largest beta")
    axes.set_ylim(0, 9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def house() -> plt.Figure:
    """Draw the rooms in their order, from the table in CONTRIBUTING.md."""
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("### Rooms")[1].split("### ")[0]
    rooms = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    columns = 5
    figure, axes = plt.subplots(figsize=(6.4, 0.62 * -(-len(rooms) // columns)))
    for at, room in enumerate(rooms):
        row, column = divmod(at, columns)
        color = (MAJORITY, THIRD, MINORITY)[min(2, 3 * at // len(rooms))]
        axes.add_patch(plt.Rectangle((column + 0.03, -row), 0.94, 0.7, facecolor="none", edgecolor=color, lw=1.6))
        axes.text(column + 0.5, 0.35 - row, room, ha="center", va="center", fontsize=8.5)
    axes.set(xlim=(0, columns), ylim=(-((len(rooms) - 1) // columns) - 0.1, 0.8))
    axes.axis("off")
    return figure


def ladder() -> plt.Figure:
    """Draw the classes between `Trainer` and `GerneTrainer`, as they are."""
    rungs = [one for one in GerneTrainer.__mro__ if one.__module__.startswith("gerne_hf")][::-1]
    figure, axes = plt.subplots(figsize=(6.4, 0.42 * (len(rungs) + 1)))
    adds = {
        "PublishingTrainer": "pushes that are watched",
        "ResumableTrainer": "sealed checkpoints, exact resume",
        "GroupTrainer": "rows that carry their group",
        "EvaluatingTrainer": "evaluations that report every group",
        "SamplingTrainer": "batches laid out by a plan",
        "PlanTrainer": "the plan's loss",
        "SearchingTrainer": "searches that outlive the process",
        "InferringTrainer": "groups that are inferred",
        "GerneTrainer": "what a run tells people",
    }
    for row, name in enumerate(["Trainer", *(one.__name__ for one in rungs)]):
        color = "gray" if row == 0 else MINORITY if row == len(rungs) else MAJORITY
        axes.add_patch(plt.Rectangle((0, -row), 1, 0.72, facecolor="none", edgecolor=color, lw=1.6))
        axes.text(0.5, 0.36 - row, name, ha="center", va="center", fontsize=9)
        axes.text(1.06, 0.36 - row, adds.get(name, "the training loop of transformers"), va="center", fontsize=9)
    axes.set(xlim=(-0.02, 2.6), ylim=(-len(rungs) - 0.1, 0.8))
    axes.axis("off")
    return figure


PICTURES: dict[str, Callable[[], plt.Figure]] = {
    "batches": batches,
    "shares_over_beta": shares_over_beta,
    "gradient": gradient,
    "bounds": bounds,
    "house": house,
    "ladder": ladder,
}


def draw(folder: Path) -> None:
    """Draw all pictures.

    Args:
        folder (`Path`): where they go.
    """
    folder.mkdir(exist_ok=True)
    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    for theme, ink in INK.items():
        look = {name: ink for name in names} | {"svg.hashsalt": "gerne_hf", "figure.constrained_layout.use": True}
        with plt.rc_context(look):
            for name, picture in PICTURES.items():
                figure = picture()
                figure.savefig(folder / f"{name}-{theme}.svg", transparent=True, metadata={"Date": None})
                plt.close(figure)


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx call the function above.

    Args:
        app (`sphinx.application.Sphinx`): the application.
    """
    app.connect("builder-inited", lambda app: draw(Path(app.srcdir) / "_pictures"))
    return {"parallel_read_safe": True}
