"""What a network learns from, counted: the examples of each split, the classes that they have, what was left out.

    {"name": data set, "classes": 3,
     "train": {"images": 1200, "classes": 3}, "val": {...}, "test": {...},
     "left_out": {".txt": 12}}

"classes" only where there are some: of the data set, and how many of them a split holds. The first key of a split is
what its examples are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mergenet.data.listing import in_words

SPLITS = ("train", "val", "test")


def class_counts(unit: str, labels: Mapping[str, Tensor], num_classes: int) -> dict[str, Any]:
    """labels: of each split, int64 (N,)."""
    counts = {split: {unit: len(of), "classes": len(of.unique())} for split, of in labels.items()}
    return {"classes": num_classes} | counts


def data_lines(counts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each network, by role."""
    for role, counted in counts.items():
        yield f"{role}: {in_a_line(counted)}"


def in_a_line(contents: Mapping[str, Any]) -> str:
    """
    >>> train, few = {"images": 1200, "classes": 3}, {"images": 30, "classes": 2}
    >>> in_a_line({"name": "folder", "classes": 3, "train": train, "val": few, "test": few, "left_out": {".txt": 4}})
    'folder, 3 classes: train 1,200 images, val 30 (2 of the classes), test 30 (2 of the classes); left out: 4 .txt'
    """
    total = contents.get("classes")
    parts = []
    for split in SPLITS:
        (unit, number), *more = contents[split].items()
        named = f"{number:,} {unit}" if split == "train" else f"{number:,}"
        notes = [
            f"{count:,} {of}" if of != "classes" else f"{count:,} of the classes"
            for of, count in more
            if of != "classes" or count != total
        ]
        parts.append(f"{split} {named}" + (f" ({', '.join(notes)})" if notes else ""))
    classes = "" if total is None else f", {total:,} classes"
    rest = f"; left out: {in_words(contents['left_out'])}" if contents["left_out"] else ""
    return f"{contents['name']}{classes}: {', '.join(parts)}{rest}"
