"""The front matter of a card: what the Hub filters, links and shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfcompress import registry
from hfcompress.hub.card.inputs import CardInputs, Row, is_repo_id, mapping, number
from hfcompress.hub.card.text import plain
from hfcompress.hub.card.usage import widget

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

_METRICS = {
    "accuracy": "accuracy",
    "f1": "f1",
    "f1_macro": "f1",
    "f1_micro": "f1",
    "precision": "precision",
    "recall": "recall",
    "exact_match": "exact_match",
    "perplexity": "perplexity",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "mse": "mse",
    "mae": "mae",
    "rouge_l": "rouge",
    "rougeL": "rouge",
}
"""What the Hub calls our metrics; of others nothing is claimed in the front matter."""


def card_data(inputs: CardInputs, handed_down: Mapping[str, Any]) -> ModelCardData:
    """Return the front matter.

    Args:
        inputs: What the card is written from.
        handed_down: What `origin` found.
    """
    from huggingface_hub import ModelCardData

    base = handed_down.get("base_model")
    extra: dict[str, Any] = {
        "base_model_relation": relation(inputs) if base else None,
        "widget": widget(inputs),
        "co2_eq_emissions": _emissions(inputs),
    }
    results = eval_results(inputs)
    metrics = list(dict.fromkeys(_METRICS[name] for row in inputs.shipped for name in _metrics(row)))
    return ModelCardData(
        base_model=base,
        datasets=[name] if (name := dataset_id(inputs)) else None,
        eval_results=results or None,
        language=handed_down.get("language"),
        library_name="transformers",
        license=handed_down.get("license"),
        license_name=handed_down.get("license_name"),
        license_link=handed_down.get("license_link"),
        metrics=metrics or None,
        model_name=inputs.name if results else None,
        pipeline_tag=inputs.task.name,
        tags=tags(inputs),
        **{name: value for name, value in extra.items() if value is not None},
    )


def families(inputs: CardInputs) -> list[str]:
    """Return the families of the steps' methods, in order, each once."""
    known = registry.steps()
    methods = [known.get(str(step.get("method"))) for step in inputs.steps]
    return list(dict.fromkeys(method.family for method in methods if method))


def relation(inputs: CardInputs) -> str | None:
    """Return what the Hub calls the way from the base model to this one.

    It knows `finetune`, `adapter`, `merge` and `quantized`. It takes a repository with ONNX files for a quantized one
    unless the card says otherwise, so a changed checkpoint says `finetune`; for a mere conversion it has no word.
    """
    if set(families(inputs)) - {"quantization"} or (inputs.steps and not families(inputs)):
        return "finetune"
    return "quantized" if inputs.steps or inputs.export.get("quantization") else None


def tags(inputs: CardInputs) -> list[str]:
    """Return the tags beyond task, library and language, which the Hub derives itself."""
    found = ["hfcompress", *(family for family in families(inputs) if family != "training")]
    if inputs.onnx:
        found += ["onnx", "transformers.js"]
    if any("_quantized" in name for name in inputs.onnx):
        found.append("int8")
    if any("_q4" in name for name in inputs.onnx):
        found.append("4-bit")
    return found


def dataset_id(inputs: CardInputs) -> str | None:
    """Return the data set's id on the Hub; None for a file, a folder, or what may be one."""
    name = str(inputs.data.get("dataset") or "").partition(":")[0]
    is_file = name.rpartition(".")[2] in ("csv", "tsv", "json", "jsonl", "parquet", "txt", "gz")
    return name if is_repo_id(name) and not is_file else None


def eval_results(inputs: CardInputs) -> list[EvalResult]:
    """Return the measured metrics of what is in this folder, for the model index."""
    from huggingface_hub import EvalResult

    hub, shown = dataset_id(inputs), plain(inputs.data.get("dataset") or inputs.measurements.get("dataset") or "")
    config = str(inputs.data.get("dataset") or "").partition(":")[2] if hub else ""
    return [
        EvalResult(
            task_type=inputs.task.name,
            dataset_type=hub or "custom",
            dataset_name=shown or "held-out rows",
            dataset_config=plain(config) or None,
            dataset_split="validation",
            metric_type=_METRICS[name],
            metric_name=f"{name} ({plain(row.values.get('file') or row.values.get('name') or 'model', 100)})",
            metric_value=value,
        )
        for row in inputs.shipped
        for name, value in _metrics(row).items()
    ]


def _metrics(row: Row) -> dict[str, float]:
    """Return the metrics that the Hub knows."""
    found = {name: number(value) for name, value in mapping(row.quality.get("metrics")).items() if name in _METRICS}
    return {name: value for name, value in found.items() if value is not None}


def _emissions(inputs: CardInputs) -> dict[str, Any] | None:
    recorded = mapping(inputs.record.get("emissions"))
    kilograms = number(recorded.get("kg_co2eq"))
    if kilograms is None:
        return None
    hardware = mapping(inputs.record.get("hardware"))
    known = {
        "emissions": 1000 * kilograms,  # the Hub counts in grams
        "source": plain(recorded.get("tool") or "", 60),
        "training_type": "fine-tuning",
        "hardware_used": plain(hardware.get("accelerator") or hardware.get("processor") or "", 100),
    }
    return {name: value for name, value in known.items() if value != ""}
