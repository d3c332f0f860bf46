"""Training data, intended use, bias and limits: stated from the data and from what changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfcompress.hub.card.classes import losses
from hfcompress.hub.card.inputs import CardInputs, mapping, number
from hfcompress.hub.card.results import data_name
from hfcompress.hub.card.text import listing, markdown, percent, table

_USES = {
    "text-classification": "classifying texts",
    "token-classification": "marking the tokens of texts",
    "question-answering": "finding the answer to a question in a text",
    "fill-mask": "predicting masked tokens, and as a start for fine-tuning",
    "text-generation": "continuing texts",
    "text2text-generation": "writing a text from a text",
    "sentence-similarity": "comparing texts by their embeddings",
    "image-classification": "classifying images",
}


def data_statistics(inputs: CardInputs) -> str:
    """Describe the rows that the model was trained and measured on."""
    data = inputs.data
    counts = [
        f"{_count(data[name])} {what}"
        for name, what in (
            ("training_rows", "training rows"),
            ("unlabeled_rows", "rows without labels, on which the teacher alone spoke"),
            ("validation_rows", "rows held out for validation"),
        )
        if number(data.get(name))
    ]
    if not counts:
        return "The record says nothing of training data: no step of this model was trained on any."
    said = [f"{data_name(inputs)}: {listing(counts)}."]
    if number(data.get("overlap")):
        said.append(
            f"{_count(data['overlap'])} of the validation texts also stand in the training rows, "
            "which flatters the quality."
        )
    parts = {name: mapping(mapping(data.get("statistics")).get(name)) for name in ("training", "validation")}
    shown = "\n\n".join(part for part in (_label_table(parts), _length_table(parts)) if part)
    if not shown:
        said.append("How the labels are distributed and how long the inputs are was not recorded.")
    return "\n\n".join(part for part in (" ".join(said), shown) if part)


def _count(value: Any) -> str:
    return f"{number(value) or 0:,.0f}"


def _label_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    known = {name: mapping(part.get("labels")) for name, part in parts.items() if mapping(part.get("labels"))}
    labels = list(dict.fromkeys(label for counts in known.values() for label in counts))
    if not labels:
        return ""
    cells = [[markdown(label, 60), *(_share(counts, label) for counts in known.values())] for label in labels[:30]]
    more = f"\n\nShown are 30 of {len(labels)} labels." if len(labels) > 30 else ""
    return table(["label", *(f"{name} rows" for name in known)], cells) + more


def _share(counts: Mapping[str, Any], label: str) -> str:
    whole, one = sum(number(count) or 0 for count in counts.values()), number(counts.get(label)) or 0
    return f"{one:,.0f} ({percent(one / whole)} %)" if whole else ""


def _length_table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    cells = []
    for name, part in parts.items():
        length = mapping(part.get("length"))
        figures = [number(length.get(figure)) for figure in ("median", "p95", "max")]
        if any(figure is not None for figure in figures):
            cells.append([f"{name} rows", *("" if figure is None else f"{figure:,.0f}" for figure in figures)])
    return table(["length in tokens", "median", "95th percentile", "longest"], cells) if cells else ""


def intended_use(inputs: CardInputs) -> str:
    """Say what the model is for."""
    labels = inputs.labels
    shown = ", ".join(markdown(label, 60) for label in labels)
    classes = f" ({shown})" if 0 < len(labels) <= 12 else f" ({len(labels)} classes)" if labels else ""
    what = _USES.get(inputs.task.name, markdown(inputs.task.name))
    like = f" Use it on inputs like those of {data_name(inputs)}." if inputs.data.get("dataset") else ""
    return (
        f"For {what}{classes}.{like} Measure it on data of your own before you rely on it. "
        "It was not examined for decisions about people."
    )


def limits(inputs: CardInputs, languages: list[str]) -> list[str]:
    """State bias and limits, each from a figure or from the lack of one."""
    found = [*losses(inputs), *_disagreement(inputs), *_balance(inputs), *_cut(inputs), *_float_nodes(inputs)]
    if inputs.task.processor == "tokenizer":
        stated = (
            f"Language, as the source's card states it: {listing(languages)}"
            if languages
            else "The language of the texts is not recorded"
        )
        found.append(f"{stated}; quality was not measured language by language.")
    if inputs.data.get("dataset"):
        found.append(
            f"Quality was measured on rows of {data_name(inputs)} alone; texts of other origin may fare worse. "
            if inputs.task.processor == "tokenizer"
            else f"Quality was measured on rows of {data_name(inputs)} alone; images of other origin may fare worse. "
        )
    found.append(
        "What the source model and the training data are biased towards is handed down, and compression can make it "
        "worse for rare classes and groups. Quality was not measured by group of people."
    )
    return [one.strip() for one in found]


def _disagreement(inputs: CardInputs) -> list[str]:
    total, rows = number(inputs.measurements.get("examples_total")), number(inputs.measurements.get("rows"))
    if total is None or not rows:
        return []
    first = inputs.rows[0].label if inputs.rows else "the first model"
    return [
        f"On {total:,.0f} of {rows:,.0f} rows ({percent(total / rows)} %) a model here answers otherwise than {first}."
    ]


def _balance(inputs: CardInputs) -> list[str]:
    """State how unequal the classes are, where that is known."""
    counts = mapping(mapping(mapping(inputs.data.get("statistics")).get("training")).get("labels"))
    known = {str(label): number(count) or 0 for label, count in counts.items()}
    if len(known) < 2 or not sum(known.values()):
        return []
    rarest, commonest = min(known, key=lambda label: known[label]), max(known, key=lambda label: known[label])
    low, high = (known[label] / sum(known.values()) for label in (rarest, commonest))
    if high < 1.5 * low:
        return ["The training labels are about balanced."]
    return [
        f"The training labels are unequal: {markdown(commonest, 60)} is {percent(high)} % of them, "
        f"{markdown(rarest, 60)} {percent(low)} %. Expect more mistakes on the rare ones."
    ]


def _cut(inputs: CardInputs) -> list[str]:
    """State that long inputs are cut, and how many that concerned."""
    limit = number(inputs.data.get("max_length") or mapping(inputs.measurements.get("settings")).get("max_length"))
    if limit is None:
        return []
    length = mapping(mapping(mapping(inputs.data.get("statistics")).get("training")).get("length"))
    median, p95, longest = (number(length.get(name)) for name in ("median", "p95", "max"))
    share = (
        " More than half of the training texts were longer." if median is not None and median > limit
        else " More than 5 % of the training texts were longer." if p95 is not None and p95 > limit
        else " Up to 5 % of the training texts were longer." if longest is not None and longest > limit
        else " No training text was longer." if longest is not None
        else ""
    )  # fmt: skip
    return [f"Texts were cut to {limit:.0f} tokens for training and measuring: what comes later had no effect.{share}"]


def _float_nodes(inputs: CardInputs) -> list[str]:
    kept = mapping(inputs.export.get("quantization")).get("kept_float")
    if not isinstance(kept, list) or not kept:
        return []
    return [f"{len(kept)} {'node' if len(kept) == 1 else 'nodes'} of the int8 graph stayed in float: quality needs it."]
