"""Labels as numbers: in the model's order where it has one, with everything wrong said at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from hfcompress.errors import DataError, Fault

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig


def label_names(config: PretrainedConfig) -> tuple[str, ...]:
    """Return a config's label names in order of their ids."""
    names: dict[int, str] = dict(config.id2label or {})
    return tuple(str(names[index]) for index in range(config.num_labels))


def label_settings(config: PretrainedConfig) -> dict[str, Any]:
    """Return the config values that give a model another's labels."""
    names = label_names(config)
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": config.problem_type,
    }


def are_default_labels(names: tuple[str, ...]) -> bool:
    """Say whether label names are transformers' own `LABEL_0, LABEL_1, …`, which name nothing."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(names))


def encode_classes(
    parts: dict[str, Dataset], given_names: Sequence[str] | None, model_labels: tuple[str, ...] | None
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Turn the column `labels` of all parts into class numbers: see `encode_labels` and `encode_validation`."""
    if "training" not in parts:
        rows, names = encode_validation(parts["validation"], given_names, model_labels or ())
        return {"validation": rows}, names
    train, validation, names = encode_labels(parts["training"], parts["validation"], given_names, model_labels)
    return {"training": train, "validation": validation}, names


def encode_labels(
    train: Dataset,
    validation: Dataset,
    given_names: Sequence[str] | None,
    model_labels: tuple[str, ...] | None,
) -> tuple[Dataset, Dataset, tuple[str, ...]]:
    """Turn the column `labels` of both parts into numbers.

    Args:
        train: Rows to train on.
        validation: Rows held out.
        given_names: Label names in the order of their numbers, when the user gives them.
        model_labels: The names that the model was trained with, in order; None for an untrained head.

    Returns:
        Both parts with integer labels, and the name of each number.

    Raises:
        DataError: Missing labels, a single class, labels out of range or unseen in training, names that disagree.
    """
    (train, validation), order = _encode(
        {"training": train, "validation": validation}, train, given_names, model_labels
    )
    faults = []
    if len(set(train["labels"])) < 2:
        only = order[train["labels"][0]]
        problem = f"all {len(train)} training rows have the label '{only}': there is nothing to learn."
        faults.append(Fault("labels", problem))
    unseen = {order[label] for label in set(validation["labels"]) - set(train["labels"])}
    if unseen and not faults:
        fix = "Add training rows of it, or leave those validation rows out."
        faults.append(Fault("labels", f"validation has labels unseen in training: {', '.join(sorted(unseen))}.", fix))
    if faults:
        raise DataError(*faults)
    return train, validation, order


def encode_validation(
    rows: Dataset, given_names: Sequence[str] | None, model_labels: tuple[str, ...]
) -> tuple[Dataset, tuple[str, ...]]:
    """Turn the column `labels` of rows to evaluate on into the model's numbers; not every label need occur.

    Args:
        rows: Rows to evaluate on.
        given_names: Label names in the order of their numbers, when the user gives them.
        model_labels: The names that the model was trained with, in order.

    Raises:
        DataError: Missing labels, labels out of range, names that disagree.
    """
    known = given_names
    if known is None and not are_default_labels(model_labels) and not hasattr(rows.features["labels"], "names"):
        values = {str(value).casefold() for value in rows["labels"]}
        if values <= {name.casefold() for name in model_labels}:
            spelled = {name.casefold(): name for name in model_labels}
            rows = rows.map(lambda row: {"labels": spelled[str(row["labels"]).casefold()]})
            known = model_labels
    (rows,), order = _encode({"validation": rows}, rows, known, model_labels)
    return rows, order


def _encode(
    parts: dict[str, Dataset],
    named_by: Dataset,
    given_names: Sequence[str] | None,
    model_labels: tuple[str, ...] | None,
) -> tuple[list[Dataset], tuple[str, ...]]:
    """Number the labels of several parts alike; `named_by` says which labels there are."""
    faults = [fault for part, rows in parts.items() for fault in _missing(rows["labels"], part)]
    if faults:
        raise DataError(*faults)
    names, numbered = _names_in_data(named_by, given_names, model_labels)
    order = _model_order(names, model_labels)
    encoded = []
    for part, rows in parts.items():
        named = [_as_name(value, names, numbered) for value in rows["labels"]]
        faults += _out_of_range(rows["labels"], named, names, part)
        encoded.append(with_labels(rows, [-1 if name is None else order.index(name) for name in named]))
    if faults:
        raise DataError(*faults)
    return encoded, order


def match_labels(ours: Sequence[str], theirs: Sequence[str]) -> list[int] | None:
    """Find where each of our labels stands among theirs, ignoring case.

    Returns:
        The position of each of `ours` in `theirs`, or None when the names are not the same set.

    Example:
        >>> match_labels(["negative", "positive"], ["POSITIVE", "NEGATIVE"])
        [1, 0]
    """
    positions = {name.casefold(): index for index, name in enumerate(theirs)}
    if {name.casefold() for name in ours} != set(positions) or not len(ours) == len(theirs) == len(positions):
        return None
    return [positions[name.casefold()] for name in ours]


def _names_in_data(
    train: Dataset, given_names: Sequence[str] | None, model_labels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], bool]:
    """Name the labels in the order of the data's own numbers (alphabetical for strings).

    The second value says whether a number in the data is a position among the names, or a name itself: stars 1 to 5 are
    the names of a model that was trained on stars.
    """
    feature = train.features["labels"]
    if given_names and len(set(given_names)) < len(given_names):
        raise DataError(Fault("label_names", f"a name stands twice: {some(given_names)}."))
    if hasattr(feature, "names"):
        return tuple(given_names or feature.names), True
    values = list(train["labels"])
    strange = [value for value in values if not isinstance(value, (str, int)) and not _is_whole(value)]
    if strange:
        raise DataError(Fault("labels", f"classification takes one class a row, got {strange[0]!r}."))
    numbers = all(_is_whole(value) for value in values)
    names = given_names or (model_labels if numbers else None)
    if names:
        return tuple(names), numbers and not {str(int(value)) for value in values} <= set(names)
    return tuple(str(value) for value in sorted({int(value) if numbers else str(value) for value in values})), False


def _model_order(names: tuple[str, ...], model_labels: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the data's label names in the order of the model's label numbers."""
    if model_labels is None:
        return names
    if len(names) != len(model_labels):
        ours, theirs = f"{len(names)} labels ({some(names)})", f"{len(model_labels)} ({some(model_labels)})"
        fix = "Use data with the model's labels, or start from a checkpoint without a trained head."
        raise DataError(Fault("labels", f"the data has {ours}, the model was trained with {theirs}.", fix))
    if are_default_labels(model_labels):
        return names
    positions = match_labels(model_labels, names)
    if positions is None:
        fix = "If they mean the same, pass --label-names in the order of the data's numbers, spelled as the model's."
        problem = f"the data's labels ({some(names)}) are not the model's ({some(model_labels)})."
        raise DataError(Fault("labels", problem, fix))
    return tuple(names[position] for position in positions)


def _is_whole(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and float(value).is_integer()


def _as_name(value: object, names: tuple[str, ...], numbered: bool) -> str | None:
    """Return a row's label by name, None when it has none."""
    if numbered and _is_whole(value):
        return names[int(value)] if 0 <= value < len(names) else None
    name = str(int(value)) if _is_whole(value) else str(value)
    return name if name in names else None


def _missing(values: Sequence[Any], part: str) -> list[Fault]:
    missing = [index for index, value in enumerate(values) if value is None or value == "" or value != value]
    if not missing:
        return []
    return [Fault("labels", f"{len(missing)} {part} rows have no label (the first is row {missing[0]}, from 0).")]


def _out_of_range(values: Sequence[Any], named: list[str | None], names: tuple[str, ...], part: str) -> list[Fault]:
    strange = Counter(str(value) for value, name in zip(values, named, strict=True) if name is None)
    if not strange:
        return []
    listed = ", ".join(f"'{value}' ({count} rows)" for value, count in strange.most_common(5))
    return [Fault("labels", f"{part} rows have labels out of range: {listed}.", f"Allowed: {some(names)}.")]


def with_labels(rows: Dataset, values: list[Any]) -> Dataset:
    """Replace the column `labels`, of whatever type it was."""
    return rows.remove_columns("labels").add_column("labels", values)


def some(names: Sequence[str], most: int = 8) -> str:
    """List names for a message, the first few of many."""
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
