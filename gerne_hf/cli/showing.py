"""What the commands print of a report, and of a page.

Imports `reports/`. The commands are in [`app`](gerne_hf.cli.app).
"""

import os

from ..reports.group_report import GroupReport
from ..reports.terminal import show


def show_report(report: GroupReport, folder: str | None) -> None:
    """Print the table of a report, and write JSON, picture and page where a folder is given.

    Args:
        report ([`GroupReport`]): the report.
        folder (`str`, *optional*): where to write.
    """
    show(f"{report.name}\n{report.table()}")
    if folder is not None:
        *_, page = report.save(folder)
        say_page(page)


def say_page(path: str) -> None:
    """Print where a page is, and how large."""
    print(f"{path} ({os.path.getsize(path) / 1e6:.1f} MB)")
