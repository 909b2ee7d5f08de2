"""A small data set of plain images, in memory and as a folder with metadata."""

import csv

from PIL import Image

KINDS, PLACES = ["cat", "dog", "emu"], ["barn", "lawn"]


def table_of(rows, start=0):
    """Row i is a plain image of the colour (start + 5 i, 60, 90)."""
    numbers = range(start, start + rows)
    return {
        "picture": [Image.new("RGB", (10, 14), (5 * i % 256, 60, 90)) for i in numbers],
        "kind": [KINDS[i % 3] for i in numbers],
        "place": [PLACES[i // 3 % 2] for i in numbers],
    }


def image_folder(folder, splits=None):
    """Images with a metadata.csv, in folders of the splits or in one."""
    for split, rows in (splits or {"": 60}).items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        table = table_of(rows)
        with open(folder / split / "metadata.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "kind", "place"])
            for i, image in enumerate(table["picture"]):
                image.save(folder / split / f"{i:03}.png")
                writer.writerow([f"{i:03}.png", table["kind"][i], table["place"][i]])
    return str(folder)
