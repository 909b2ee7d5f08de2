"""`gerne-report OUTPUT_DIR` writes one HTML file about a run, which needs no network and no other file.

Imports neither torch nor Transformers nor `datasets`, so that the command starts at once: the record and the texts of
this room, and below them `evaluation/` and `method/`. Next: [`page_parts`](gerne_hf.reports.page_parts) for what the
page says, `templates/report.html` for how it looks.
"""

import argparse
import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from .page_inferred import inferred_part, shows_inferred, training_example_parts
from .page_parts import (
    comparison_part,
    evaluation_parts,
    example_parts,
    headline,
    method_rows,
    recovery_rows,
    search_rows,
    settings_rows,
    train_counts,
)
from .record import (
    COMPARISON_FILE,
    COMPARISON_PICTURE_FILE,
    EXAMPLES_FILE,
    EXAMPLES_FOLDER,
    GROUP_METRICS_FILE,
    INFERRED_FILE,
    INFERRED_FOLDER,
    RECOVERY_PICTURE_FILE,
    SEARCH_FILE,
    SEARCH_FOLDER,
    SEARCH_PICTURE_FILE,
    TRAINING_PICTURE_FILE,
    RunRecord,
)

REPORT_FILE = "_report.html"
"""No push of the Trainer takes names that begin with an underscore: the page shows examples, which are data."""

_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}

_MAX_LISTED = 10


class ReportError(ValueError):
    """Raised for a folder that no page can be made of."""


def write_report(output_dir: str | os.PathLike, output: str | os.PathLike | None = None) -> str:
    """Write the page about a run: group tables, pictures, worst examples, settings.

    Args:
        output_dir (`str`): the run's folder; holds `group_metrics.json`.
        output (`str`, *optional*): the page's file; `_report.html` in `output_dir` if not given.

    Returns:
        `str`: the page's path.

    Raises:
        ReportError: for a folder without `group_metrics.json`, files that cannot be read or were not written by
            gerne_hf, and a page that cannot be written.
    """
    folder = Path(output_dir)
    path = Path(output) if output is not None else folder / REPORT_FILE
    page = render(folder)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ReportError(
            f"the page cannot be written to {path}: {error.strerror or error}. Choose another file with --output"
        ) from error
    return str(path)


def render(folder: Path) -> str:
    """Return the page about a run as HTML.

    Args:
        folder (`Path`): the run's folder; holds `group_metrics.json`.

    Raises:
        ReportError: as [`write_report`], but for what it says of writing.
    """
    metrics = folder / GROUP_METRICS_FILE
    if not metrics.is_file():
        raise ReportError(_nothing_to_report(folder))
    with _written_by_us(metrics):
        record = RunRecord.from_json(_read(metrics))
        context: dict[str, Any] = {
            "title": folder.resolve().name,
            "headline": headline(record),
            "evaluations": evaluation_parts(record),
            "method": method_rows(record),
            "train_counts": train_counts(record),
            "recovery": recovery_rows(record),
            "settings": settings_rows(record),
        }
    context["training_picture"] = _picture(folder / TRAINING_PICTURE_FILE)
    context["recovery_picture"] = _picture(folder / RECOVERY_PICTURE_FILE)
    context["comparison"] = context["examples"] = context["search"] = context["inferred"] = None
    context["training_examples"] = []
    if (path := folder / COMPARISON_FILE).is_file():
        with _written_by_us(path):
            context["comparison"] = comparison_part(_read(path))
    context["comparison_picture"] = _picture(folder / COMPARISON_PICTURE_FILE)
    if (path := folder / EXAMPLES_FOLDER / EXAMPLES_FILE).is_file():
        with _written_by_us(path):
            context["examples"] = example_parts(_read(path), lambda name: _example(path.parent, name))
    if shows_inferred(record) and (path := folder / INFERRED_FILE).is_file():
        with _written_by_us(path):
            context["inferred"] = inferred_part(_read(path))
        if (path := folder / EXAMPLES_FOLDER / INFERRED_FOLDER / EXAMPLES_FILE).is_file():
            with _written_by_us(path):
                embedded = training_example_parts(_read(path), lambda name: _example(path.parent, name))
                context["training_examples"] = embedded
    if (path := folder / SEARCH_FOLDER / SEARCH_FILE).is_file():
        with _written_by_us(path):
            context["search"] = search_rows(_read(path))
    context["search_picture"] = _picture(folder / SEARCH_FOLDER / SEARCH_PICTURE_FILE)
    environment = Environment(
        loader=PackageLoader("gerne_hf.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(context)


def _nothing_to_report(folder: Path) -> str:
    """Return what is said of a folder without `group_metrics.json`, with the folders below it that have one."""
    if not folder.is_dir():
        return f"there is no folder {folder}; give the output_dir of a run"
    below = sorted(str(path.parent) for path in folder.rglob(GROUP_METRICS_FILE))
    found = "No folder below it has one"
    if below:
        more = f", and {len(below) - _MAX_LISTED} more" if len(below) > _MAX_LISTED else ""
        found = f"These folders below it have one: {', '.join(below[:_MAX_LISTED])}{more}"
    return (
        f"{folder} has no {GROUP_METRICS_FILE}, which GerneTrainer.train() and the recipes leave in their output_dir. "
        f"{found}"
    )


def _read(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def _written_by_us(path: Path) -> Iterator[None]:
    """Turn errors that come of what is in a file into a [`ReportError`] that names the file."""
    try:
        yield
    except ReportError:
        raise
    except json.JSONDecodeError as error:
        raise ReportError(f"{path} is no JSON: {error}. Write it anew by evaluating again, or delete it") from error
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ReportError(
            f"{path} is not what gerne_hf writes there ({type(error).__name__}: {error}). Write it anew by evaluating "
            "again, or delete it"
        ) from error


def _picture(path: Path) -> str | None:
    """Return a picture as a data URI, or None if there is no such file; refuse what is neither PNG nor JPEG."""
    if not path.is_file():
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise ReportError(f"{path} is neither a PNG nor a JPEG picture. Delete it to leave it out")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _example(folder: Path, name: str) -> str | None:
    """Return the picture of an example as a data URI, or None if its file is missing."""
    if Path(name).name != name or name == "..":  # a folder from elsewhere must not make a page of this machine's files
        raise ReportError(f"{folder / EXAMPLES_FILE} names a picture outside of its folder: {name!r}")
    return _picture(folder / name)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page about the run that the command line names; this is the console script `gerne-report`.

    Args:
        argv (`Sequence[str]`, *optional*): the arguments; those of the process if not given.

    Returns:
        `int`: 0, or 1 if no page could be written, which is explained on stderr.
    """
    parser = argparse.ArgumentParser(
        prog="gerne-report",
        description="`gerne-report OUTPUT_DIR`: one HTML file about a run, to be opened without a network.",
    )
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="the run's folder; holds group_metrics.json")
    parser.add_argument("--output", metavar="FILE", help=f"the page's file; OUTPUT_DIR/{REPORT_FILE} by default")
    arguments = parser.parse_args(argv)
    try:
        path = write_report(arguments.output_dir, arguments.output)
    except ReportError as error:
        print(f"gerne-report: {error}", file=sys.stderr)
        return 1
    print(f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)")
    return 0
