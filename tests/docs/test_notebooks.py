"""The notebooks of the site run from an empty folder, show tables and pictures, and are kept without what came out."""

import os

import pytest
from places import ROOT, python_path

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@NOTEBOOK
def test_it_is_kept_without_outputs(path):
    text = path.read_text(encoding="utf-8")
    assert '"execution_count": null' in text and '"output_type"' not in text


@pytest.mark.slow
@NOTEBOOK
def test_it_runs_and_shows_tables_and_pictures(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip(
        "nbformat", reason='notebooks run with the extra "docs": pip install "gerne_hf[docs]"'
    )
    from nbclient import NotebookClient

    monkeypatch.setitem(os.environ, "PYTHONPATH", python_path())
    book = nbformat.read(path, as_version=4)
    if path.stem != "predictions":  # what the notebook says of the two models
        code = (
            "plain, gerne = (report.result['worst_group_accuracy'] for report in reports); assert plain + 0.2 < gerne"
        )
        book.cells.append(nbformat.v4.new_code_cell(code))
    NotebookClient(book, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in book.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("image/png" in data for data in shown)
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert sum("95 % interval" in table for table in tables) == (1 if path.stem == "predictions" else 2)
