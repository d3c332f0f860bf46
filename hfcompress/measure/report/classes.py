"""Quality class by class, and which classes are taken for which, as the page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hfcompress.measure.report.text import clean, number

MOST_CLASSES = 40  # with more, a matrix can be read by nobody: the confusions most often made are listed


def class_blocks(measurements: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each model that has classes its table and its confusions."""
    models = measurements["models"]
    before = {str(row["label"]): row for row in models[0].get("classes") or ()}
    return [
        {
            "name": clean(model["name"], 60),
            "rows": [_class_row(row, before, model is models[0]) for row in kept_classes(model["classes"], before)],
            "left_out": max(0, len(model["classes"]) - MOST_CLASSES),
            "compared": model is not models[0] and bool(before),
            "many": len(model["classes"]) > 6 or any(len(str(row["label"])) > 24 for row in model["classes"]),
            **_confusion(model),
        }
        for model in models
        if model.get("classes")
    ]


def kept_classes(rows: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows in their order; of too many those whose F1 fell most."""
    if len(rows) <= MOST_CLASSES:
        return list(rows)
    fallen = sorted(rows, key=lambda row: (number(row, "f1") or 0) - (number(before.get(str(row["label"])), "f1") or 0))
    kept = {id(row) for row in fallen[:MOST_CLASSES]}
    return [row for row in rows if id(row) in kept]


def _class_row(row: Mapping[str, Any], before: Mapping[str, Any], is_first: bool) -> dict[str, Any]:
    values = {name: number(row, name) for name in ("precision", "recall", "f1")}
    base = number(before.get(str(row["label"])), "f1")
    f1 = values["f1"]
    return {
        "label": clean(row["label"], 60),
        "support": f"{number(row, 'support') or 0:,.0f}",
        "change": None if is_first or base is None or f1 is None else 100 * (f1 - base),
        **{name: "" if value is None else f"{100 * value:.1f}" for name, value in values.items()},
    }


def _confusion(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a matrix, numbered where its labels are many or long; of too many classes the commonest confusions."""
    matrix = model.get("confusion")
    labels = [clean(row["label"], 60) for row in model["classes"]]
    if not matrix or len(matrix) != len(labels) or any(len(row) != len(labels) for row in matrix):
        return {"matrix": None, "confused": None}
    if len(labels) > MOST_CLASSES:
        return {"matrix": None, "confused": _commonest(matrix, labels)}
    numbered = len(labels) > 6 or any(len(label) > 12 for label in labels)
    rows = [
        {
            "label": label,
            "cells": [{"count": f"{n:,}", "share": n / (sum(row) or 1), "right": i == j} for j, n in enumerate(row)],
        }
        for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
    ]
    return {"matrix": rows, "confused": None, "labels": labels, "numbered": numbered}


def _commonest(matrix: Sequence[Sequence[int]], labels: Sequence[str], most: int = 20) -> list[dict[str, Any]]:
    pairs = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n > 0]
    pairs.sort(key=lambda found: (-found[0], found[1], found[2]))
    return [
        {"count": f"{n:,}", "truth": labels[i], "answer": labels[j], "share": n / sum(matrix[i])}
        for n, i, j in pairs[:most]
    ]
