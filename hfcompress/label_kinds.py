"""Labels that are not one class a row: several classes at once, and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hfcompress.errors import DataError, Fault, closest
from hfcompress.labels import are_default_labels, match_labels, some, with_labels

if TYPE_CHECKING:
    from datasets import Dataset

_HOW_TO_WRITE_LISTS = (
    "Several labels at once are written as a list a row, empty for none; a csv cannot hold lists, jsonl can."
)


def holds_lists(values: Sequence[Any]) -> bool:
    """Say whether labels are lists."""
    return any(isinstance(value, list) for value in values)


def holds_numbers(values: Sequence[Any]) -> bool:
    """Say whether labels are numbers of which some are not whole."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return len(numbers) == len(values) and any(math.isfinite(value) and value != int(value) for value in numbers)


def encode_numbers(parts: dict[str, Dataset]) -> dict[str, Dataset]:
    """Turn the column `labels` of all parts into floating point numbers.

    Raises:
        DataError: A label is missing or no number; every part's are counted.
    """
    faults, encoded = [], {}
    for part, rows in parts.items():
        values = [_as_number(value) for value in rows["labels"]]
        bad = [index for index, value in enumerate(values) if value is None]
        if bad:
            got = rows["labels"][bad[0]]
            problem = (
                f"{len(bad)} {part} rows have a label that is no number (the first is row {bad[0]}, from 0: {got!r})."
            )
            faults.append(Fault("labels", problem, "A regression takes one number a row."))
        encoded[part] = with_labels(rows, values)
    if faults:
        raise DataError(*faults)
    return encoded


def refuse_written_lists(parts: dict[str, Dataset]) -> None:
    """Refuse texts that are lists written down, as a csv holds them.

    Raises:
        DataError: All labels of a part look like lists.
    """
    faults = []
    for part, rows in parts.items():
        values = rows["labels"]
        if all(isinstance(value, str) and value.startswith("[") and value.endswith("]") for value in values):
            problem = f"the labels of the {part} rows are texts that look like lists (the first is {values[0]!r})."
            faults.append(Fault("labels", problem, _HOW_TO_WRITE_LISTS))
    if faults:
        raise DataError(*faults)


def encode_label_lists(
    parts: dict[str, Dataset], given_names: Sequence[str] | None, model_labels: tuple[str, ...] | None
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Turn the column `labels` of all parts into a 0 or 1 for each label, in the model's order where it has one.

    Labels are lists of names or of numbers, empty for none, or hold a 0 or 1 for each label already.

    Raises:
        DataError: Labels that are not lists, or that the model or `given_names` do not have; every such fault.
    """
    faults = [fault for part, rows in parts.items() for fault in _not_lists(rows["labels"], part)]
    if faults:
        raise DataError(*faults)
    width = _width_of_vectors([row for rows in parts.values() for row in rows["labels"]])
    if width is not None:
        parts = {part: with_labels(rows, list(map(_places_of_ones, rows["labels"]))) for part, rows in parts.items()}
        given_names = _names_of_vectors(width, given_names, model_labels)
    places = LabelPlaces(next(iter(parts.values())), given_names, model_labels)
    found = places.in_parts(parts)
    return {
        part: with_labels(rows, [[float(place in row) for place in range(len(places.names))] for row in found[part]])
        for part, rows in parts.items()
    }, places.names


class LabelPlaces:
    """Where each label of the data stands among the model's, or among the data's own.

    Args:
        rows: Labels as lists of names or numbers; they say which labels there are when nobody else does.
        given_names: Names in the order of the data's numbers, when the user gives them.
        model_labels: The names that the model was trained with, in order.

    Raises:
        DataError: The names disagree, or there are none.
    """

    def __init__(self, rows: Dataset, given_names: Sequence[str] | None, model_labels: tuple[str, ...] | None) -> None:
        feature = getattr(rows.features["labels"], "feature", None)
        found = {value for row in rows["labels"] for value in row if value is not None}
        numbers = all(isinstance(value, int) for value in found)
        said = tuple(given_names or getattr(feature, "names", None) or ())
        if len(set(said)) < len(said):
            raise DataError(Fault("label_names", f"a name stands twice: {some(said)}."))
        trained = model_labels is not None and not are_default_labels(model_labels)
        own = said or (model_labels if trained or numbers else None) or _names_found(found, numbers)
        if model_labels is not None and (said or not trained):
            _check_names(own, model_labels)
        self.names = model_labels if trained and model_labels is not None else own
        # Case tells labels apart, unless the model spells them in its own way.
        self._key = str.casefold if trained else str
        self._of = {self._key(name): place for place, name in enumerate(self.names)}
        self._own = own
        self._numbered = hasattr(feature, "names") or (numbers and not {str(value) for value in found} <= set(own))

    def of(self, value: Any) -> int | None:
        """Return a label's place, None when it is unknown."""
        if self._numbered and isinstance(value, int):
            return self._of[self._key(self._own[value])] if 0 <= value < len(self._own) else None
        return None if value is None else self._of.get(self._key(str(value)))

    def in_parts(self, parts: dict[str, Dataset]) -> dict[str, list[list[int]]]:
        """Return the places of all labels of all parts, a list a row.

        Raises:
            DataError: Labels are unknown, in any part.
        """
        faults, found = [], {}
        for part, rows in parts.items():
            lists = rows["labels"]
            places = [[self.of(value) for value in row] for row in lists]
            pairs = (pair for row in zip(lists, places, strict=True) for pair in zip(*row, strict=True))
            strange = sorted({str(value) for value, place in pairs if place is None})
            if strange:
                near = closest(strange[0], self.names)
                fix = f"Did you mean '{near}'? " if near else ""
                problem = f"{part} rows have unknown labels: {some(strange)}."
                faults.append(Fault("labels", problem, f"{fix}Allowed: {some(self.names)}."))
            found[part] = [[place for place in row if place is not None] for row in places]
        if faults:
            raise DataError(*faults)
        return found


def _names_found(found: set[Any], numbers: bool) -> tuple[str, ...]:
    """Name labels as they occur: all numbers up to the highest, or names in order."""
    if not found:
        raise DataError(Fault("labels", "no training row has any label: there is nothing to learn."))
    if numbers:
        return tuple(str(number) for number in range(max(found) + 1))
    return tuple(sorted(map(str, found)))


def _check_names(names: tuple[str, ...], model_labels: tuple[str, ...]) -> None:
    """Refuse names that are not the model's."""
    if len(names) != len(model_labels):
        ours, theirs = f"{len(names)} labels ({some(names)})", f"{len(model_labels)} ({some(model_labels)})"
        fix = "Pass all of the model's names as --label-names, or start from a checkpoint without a trained head."
        raise DataError(Fault("labels", f"the data has {ours}, the model was trained with {theirs}.", fix))
    if not are_default_labels(model_labels) and match_labels(model_labels, names) is None:
        problem = f"the data's labels ({some(names)}) are not the model's ({some(model_labels)})."
        fix = "If they mean the same, pass --label-names in the order of the data's numbers, spelled as the model's."
        raise DataError(Fault("labels", problem, fix))


def _width_of_vectors(values: Sequence[list[Any]]) -> int | None:
    """Return how many labels there are when every list holds a 0 or 1 for each; None when they are names or numbers.

    Whole numbers may be either: `[0, 1]` are two labels, `[0, 1, 1]` is no list of labels.
    """
    lengths = {len(value) for value in values}
    flat = [number for value in values for number in value]
    if len(lengths) > 1 or not flat or not all(isinstance(number, (int, float)) for number in flat):
        return None
    repeats = any(len(set(value)) < len(value) for value in values)
    is_vector = all(number in (0, 1) for number in flat) and (repeats or isinstance(flat[0], float))
    return lengths.pop() if is_vector else None


def _places_of_ones(vector: list[float]) -> list[int]:
    return [place for place, number in enumerate(vector) if number == 1]


def _names_of_vectors(
    width: int, given_names: Sequence[str] | None, model_labels: tuple[str, ...] | None
) -> Sequence[str]:
    """Return the names of labels that are a 0 or 1 each."""
    names = given_names or model_labels or [str(place) for place in range(width)]
    if len(names) != width:
        problem = f"each row has a 0 or 1 for each of {width} labels, there are {len(names)} names ({some(names)})."
        raise DataError(Fault("labels", problem))
    return names


def _not_lists(values: Sequence[Any], part: str) -> list[Fault]:
    bad = [index for index, value in enumerate(values) if not isinstance(value, list)]
    if not bad:
        return []
    first = f"the first is row {bad[0]}, from 0: {values[bad[0]]!r}"
    return [Fault("labels", f"{len(bad)} {part} rows have labels that are not lists ({first}).", _HOW_TO_WRITE_LISTS)]


def _as_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
