"""Columns: found or named by the user, under our names, with nothing missing in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.data.config import DataConfig
from hfcompress.errors import DataError, Fault, unknown
from hfcompress.sources import resolve
from hfcompress.tasks.base import Column, Task
from hfcompress.tasks.images import undecoded

if TYPE_CHECKING:
    from datasets import Dataset

_FLAGS = {
    "text": "text_column", "text_pair": "text_pair_column", "image": "image_column", "labels": "label_column"
}  # fmt: skip


def choose_columns(present: list[str], config: DataConfig, task: Task, labeled: bool = True) -> dict[str, str]:
    """Map our column names to the data's.

    Raises:
        DataError: A column is absent, or several could be meant; every such fault.
    """
    chosen, faults = {}, []
    for column in task.columns:
        if column.ours == "labels" and not labeled:
            continue
        flag = f"--{_FLAGS[column.ours].replace('_', '-')}"
        if column.ours == "text" and not labeled:
            flag = "--unlabeled-text-column"
        given = getattr(config, _FLAGS[column.ours])
        candidates = [given] if given else [name for name in column.usual if name in present]
        if given and given not in present:
            faults.append(unknown("column", given, present, config.dataset))
        elif not candidates and column.required:
            problem = f"has no column for the {column.ours} that I know."
            faults.append(Fault(config.dataset, problem, f"Its columns: {', '.join(present)}. Pass {flag}."))
        elif len(candidates) > 1:
            problem = f"has several columns that may be the {column.ours}: {', '.join(candidates)}."
            faults.append(Fault(config.dataset, problem, f"Pass {flag}."))
        elif candidates:
            chosen[column.ours] = candidates[0]
    if len(set(chosen.values())) < len(chosen):
        listed = ", ".join(f"{ours} '{theirs}'" for ours, theirs in chosen.items())
        faults.append(Fault(config.dataset, f"one column cannot serve twice: {listed}."))
    faults += [
        unknown("column", name, present, "where" if labeled else "unlabeled_where")
        for name in config.where
        if name not in present
    ]
    if faults:
        raise DataError(*faults)
    return chosen


def tidy(rows: Dataset, columns: dict[str, str], config: DataConfig, part: str, task: Task) -> Dataset:
    """Keep the rows and columns asked for, under our names.

    Raises:
        DataError: Nothing is left, or inputs are missing.
    """
    absent = [name for name in columns.values() if name not in rows.column_names]
    if absent:
        raise DataError(Fault(config.dataset, f"its {part} rows have no column {', '.join(absent)}."))
    if config.where:
        rows = rows.filter(
            lambda *values: all(
                str(value) == str(wanted) for value, wanted in zip(values, config.where.values(), strict=True)
            ),
            input_columns=list(config.where),
        )
    ours = {old: new for new, old in columns.items() if old != new}
    rows = rows.select_columns(list(columns.values())).rename_columns(ours)
    rows = task.open_inputs(rows, _folder(config, part))
    inputs = [column for column in task.columns if column.ours in columns and column.ours != "labels"]
    missing = {index: (column, value) for column in inputs for index, value in _missing(rows, column)}
    if missing and config.drop_missing:
        rows = rows.select(sorted(set(range(len(rows))) - set(missing)))
    elif missing:
        bad = sorted(missing)
        column, got = missing[bad[0]]
        which = ", ".join(map(str, bad[:5])) + (" …" if len(bad) > 5 else "")
        problem = (
            f"{len(bad)} of the {len(rows)} {part} rows have no {column.what} "
            f"(rows {which}, from 0; the first has {got!r})."
        )
        raise DataError(Fault(config.dataset, problem, "Fill them, or leave them out with --drop-missing."))
    if len(rows) == 0:
        where = "where" if part != "unlabelled" else "unlabeled_where"
        raise DataError(Fault(config.dataset, f"has no {part} rows{f' that match `{where}`' if config.where else ''}."))
    return rows


def _missing(rows: Dataset, column: Column) -> Iterator[tuple[int, Any]]:
    """Yield the rows that have nothing in a column, and what they have."""
    for index, row in enumerate(undecoded(rows.select_columns([column.ours]))):
        value = row[column.ours]
        if column.is_missing(value):
            yield index, (value["path"] or value["bytes"][:20]) if isinstance(value, dict) else value


def _folder(config: DataConfig, part: str) -> Path:
    """Return what file names in the data are relative to."""
    given = str(config.validation) if part == "validation" else ""
    place = Path(resolve(given if given and Path(resolve(given)).is_file() else config.dataset))
    return place.parent if place.is_file() else place
