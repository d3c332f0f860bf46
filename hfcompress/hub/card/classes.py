"""Results per class: a table, the confusions in words, and the classes that lost most."""

from __future__ import annotations

from typing import Any

from hfcompress.hub.card.inputs import CardInputs, Row, bounds, number
from hfcompress.hub.card.results import difference
from hfcompress.hub.card.text import markdown, percent, table

_MOST_CLASSES = 20
_MOST_CONFUSIONS = 5


def class_table(inputs: CardInputs) -> str:
    """Return precision, recall and F1 of each class for the first and the shipped models; empty without classes."""
    rows = _measured(inputs)
    if not rows:
        return ""
    labels = _by_loss(rows[-1], rows[0])
    cells = [
        [markdown(label, 60), _support(rows, label), *(_scores(row, label) for row in rows)]
        for label in labels[:_MOST_CLASSES]
    ]
    return table(["class", "rows", *(row.label for row in rows)], cells)


def class_note(inputs: CardInputs) -> str:
    """Say what the table of classes shows, and which classes it leaves out."""
    rows = _measured(inputs)
    if not rows:
        return ""
    count = len(rows[0].classes)
    shown = (
        f" Shown are {_MOST_CLASSES} of {count} classes, those that lost most recall." if count > _MOST_CLASSES else ""
    )
    return f"Precision / recall / F1 in percent.{shown}"


def _measured(inputs: CardInputs) -> list[Row]:
    """Return the first and the shipped models as far as their classes were measured."""
    first = inputs.rows[:1]
    return [row for row in [*first, *(row for row in inputs.shipped if row not in first)] if row.classes]


def _by_loss(row: Row, first: Row) -> list[str]:
    """Return the classes, those first that lost most recall."""
    change = {label: _change(row, first, label) for label in row.classes}
    return sorted(change, key=lambda label: change[label] or 0.0)


def _change(row: Row, first: Row, label: str) -> float | None:
    ours, theirs = (number(one.classes.get(label, {}).get("recall")) for one in (row, first))
    return None if ours is None or theirs is None else ours - theirs


def _support(rows: list[Row], label: str) -> str:
    return next(
        (f"{count:.0f}" for row in rows if (count := number(row.classes.get(label, {}).get("support"))) is not None), ""
    )


def _scores(row: Row, label: str) -> str:
    scores = (number(row.classes.get(label, {}).get(name)) for name in ("precision", "recall", "f1"))
    return " / ".join("–" if score is None else percent(score) for score in scores)


def losses(inputs: CardInputs) -> list[str]:
    """Say which classes lost most recall on the way to each shipped model, and whether chance could explain it."""
    rows = _measured(inputs)
    return [said for row in rows[1:] if (said := _loss(row, rows[0]))]


def _loss(row: Row, first: Row) -> str:
    lost = [label for label in _by_loss(row, first) if (_change(row, first, label) or 0) < 0][:3]
    if not lost:
        return f"No class has less recall in {row.label} than in {first.label}."
    said = []
    for label in lost:
        ours, theirs = row.classes[label], first.classes[label]
        interval = bounds(ours.get("recall_difference_interval")) or recall_interval(ours, theirs)
        change = difference(_change(row, first, label) or 0.0, interval)
        recalls = f"recall {percent(float(ours['recall']))} % instead of {percent(float(theirs['recall']))} %"
        said.append(f"{markdown(label, 60)} ({recalls}: {change})")
    return f"In {row.label} the {'class' if len(lost) == 1 else 'classes'} that lost most: {'; '.join(said)}."


def recall_interval(ours: Any, theirs: Any) -> tuple[float, float] | None:
    """Return a 95 % interval of the difference of two recalls on the same rows.

    Newcombe, 1998, "Interval estimation for the difference between independent proportions", method 10: from the two
    Wilson intervals. It takes the two models' answers for independent, which for answers on the same rows is cautious.

    Args:
        ours: `recall` and `support` of a class.
        theirs: The same of the model that is compared with.
    """
    from scipy.stats import binomtest

    found = []
    for one in (ours, theirs):
        share, support = number(one.get("recall")), number(one.get("support"))
        if share is None or support is None or support < 1 or not 0 <= share <= 1:
            return None
        wilson = binomtest(round(share * support), round(support)).proportion_ci(method="wilson")
        found.append((share, wilson.low, wilson.high))
    (p, low_p, high_p), (q, low_q, high_q) = found
    below = ((p - low_p) ** 2 + (high_q - q) ** 2) ** 0.5
    above = ((high_p - p) ** 2 + (q - low_q) ** 2) ** 0.5
    return p - q - below, p - q + above


def confusions(inputs: CardInputs) -> list[str]:
    """Say each shipped model's most frequent mistakes in words."""
    return [said for row in _measured(inputs)[-len(inputs.shipped) :] if (said := _confusions(row, inputs.labels))]


def _confusions(row: Row, known: list[str]) -> str:
    matrix, labels = row.values.get("confusion"), known or list(row.classes)
    if not isinstance(matrix, list) or len(matrix) != len(labels) or any(len(line) != len(labels) for line in matrix):
        return ""
    mistakes = [
        (int(number(count) or 0), i, j) for i, line in enumerate(matrix) for j, count in enumerate(line) if i != j
    ]
    worst = [one for one in sorted(mistakes, key=lambda one: (-one[0], *one[1:])) if one[0]][:_MOST_CONFUSIONS]
    if not worst:
        return f"{row.label} made no mistake on these rows."
    said = [
        f"of {sum(int(number(n) or 0) for n in matrix[i]):,} rows labelled {markdown(labels[i], 60)} "
        f"it took {count:,} for {markdown(labels[j], 60)}"
        for count, i, j in worst
    ]
    return f"{row.label}: {'; '.join(said)}."
