"""What was done: the steps with their settings, the export, the recipe that does it again, the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from hfcompress.hub.card.inputs import CardInputs, entries, mapping, number
from hfcompress.hub.card.results import machine_name
from hfcompress.hub.card.text import block, listing, markdown, node, parameters, percent, plain, points, table
from hfcompress.measure.report.summary import has_zeros
from hfcompress.measure.zeros import NO_GAIN
from hfcompress.naming import first_few

_HIDDEN = ("card", "sha256", "revision")
"""Of a recorded model, what identifies it; a recipe names it."""

_SHOWN_LAYERS = 48


def source(inputs: CardInputs, base_model: str | None) -> str:
    """Say what the model was made from."""
    recorded = mapping(inputs.record.get("source"))
    if not recorded.get("model"):
        return ""
    said = f"Made from {markdown(_model_name(recorded))}"
    revision = recorded.get("revision")
    if revision:
        said += f" at revision {markdown(revision, 40)}"
    digests = mapping(recorded.get("sha256"))
    if digests:
        shown = [f"{markdown(name, 60)} {markdown(digest, 64)}" for name, digest in list(digests.items())[:4]]
        said += f" (SHA-256: {listing(shown)})"
    if base_model and base_model != recorded.get("model"):
        said += f", which descends from {markdown(base_model)}"
    return said + "."


def steps(inputs: CardInputs) -> list[str]:
    """Say each step: method, settings, time, and what it did to the main metric."""
    return [_step(step) for step in inputs.steps]


def _step(step: Mapping[str, Any]) -> str:
    method, name = markdown(step.get("method", "?"), 60), markdown(step.get("name", "?"), 60)
    title = f"**{method}**" if method == name else f"**{method}**, called {name}"
    settings = mapping(step.get("config"))
    shown = ", ".join(f"{markdown(key, 60)}: {markdown(_short(value), 200)}" for key, value in settings.items())
    seconds = number(step.get("seconds"))
    took = f" Took {seconds:,.0f} s." if seconds is not None else ""
    return f"{title}: {shown or 'settings left at their defaults'}.{took}{_effect(step)}"


def _short(value: Any) -> str:
    """Show a setting's value in one line of YAML."""
    text = yaml.safe_dump(_tidy(value), default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _effect(step: Mapping[str, Any]) -> str:
    before, after = mapping(step.get("before")), mapping(step.get("after"))
    main = str(after.get("main", ""))
    old, new = (number(mapping(one.get("metrics")).get(main)) for one in (before, after))
    if new is None:
        return ""
    change = f", {points(new - old)} points against the step before" if old is not None else ""
    return f" After it: {markdown(main)} {percent(new)} %{change}."


def export(inputs: CardInputs) -> list[str]:
    """Say how the ONNX files were made and how far they were checked."""
    made = inputs.export
    if not made:
        return []
    opset = f", opset {markdown(made['opset'])}" if made.get("opset") else ""
    fused = ""
    if isinstance(made.get("fused"), bool):
        fused = ", fused by ONNX Runtime" if made["fused"] else ", not fused"
    found = [f"Traced by the {markdown(made.get('backend') or 'unnamed')} backend{opset}{fused}."]
    several = made.get("quantizations")
    for one in several if isinstance(several, list) else [made.get("quantization")]:
        found += _quantization(mapping(one))
    return [*found, *_validation(mapping(made.get("validation")))]


def _quantization(made: Mapping[str, Any]) -> list[str]:
    if not made:
        return []
    nodes = [f"{markdown(count)} {markdown(kind, 60)}" for kind, count in mapping(made.get("nodes")).items()]
    kept = made.get("kept_float")
    kept = kept if isinstance(kept, list) else []
    left = f" Left in float: {first_few([node(name) for name in kept], 10)}." if kept else ""
    what = markdown(made.get("method") or "quantized")
    return [f"Quantized: {what}{f'; nodes: {listing(nodes)}' if nodes else ''}.{left}"]


def _validation(checked: Mapping[str, Any]) -> list[str]:
    largest, agreement = number(checked.get("largest_difference")), number(checked.get("label_agreement"))
    said = []
    if largest is not None:
        said.append(f"largest difference of an output {largest:.2g}")
    if agreement is not None:
        said.append(f"same label on {percent(agreement)} % of the inputs")
    cases = checked.get("cases")
    count = f" on {len(cases)} cases" if isinstance(cases, list) else ""
    return [f"Compared with PyTorch{count}: {listing(said)}."] if said else []


def recipe(inputs: CardInputs) -> str:
    """Return a recipe that does the same again, as a YAML block; empty when no step was recorded."""
    recorded = inputs.record.get("recipe")
    values = dict(recorded) if isinstance(recorded, Mapping) else _rebuilt(inputs)
    if not values:
        return ""
    return block(yaml.safe_dump(_tidy(values), sort_keys=False, allow_unicode=True, width=100), "yaml")


def recipe_note(inputs: CardInputs) -> str:
    """Say what the recipe leaves open."""
    said = ["Names that are no Hub ids stand for folders or files; put your own paths there."]
    if not isinstance(inputs.record.get("recipe"), Mapping):
        said.append("Options of the data, such as its columns and the rows held out, were not recorded.")
    return " ".join(said)


def _rebuilt(inputs: CardInputs) -> dict[str, Any]:
    """Return what a recipe needs, from a record that does not hold the recipe itself."""
    if not inputs.steps:
        return {}
    record = inputs.record
    done = []
    for step in inputs.steps:
        method, name = step.get("method"), step.get("name")
        done.append({str(method): dict(mapping(step.get("config"))), **({"as": name} if name != method else {})})
    return {
        "model": _model_name(mapping(record.get("source"))),
        "task": inputs.task.name,
        "seed": record.get("seed"),
        "data": {"dataset": inputs.data.get("dataset")},
        "steps": done,
    }


def _model_name(recorded: Mapping[str, Any]) -> str:
    return str(recorded.get("model") or "?")


def _tidy(value: Any) -> Any:
    """Return nested values with scrubbed texts, and recorded models as their names."""
    if isinstance(value, Mapping):
        if "model" in value and set(value) <= {"model", *_HIDDEN}:
            return plain(value["model"])
        return {plain(key): _tidy(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tidy(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float)) else plain(value, 2000)


def environment(inputs: CardInputs) -> str:
    """Return the versions and the machine that made the model."""
    record = inputs.record
    known = {**mapping(record.get("versions")), **mapping(inputs.measurements.get("versions"))}
    known |= mapping(record.get("versions"))
    versions = (
        table(["package", "version"], [[markdown(name, 60), markdown(v, 60)] for name, v in known.items()])
        if known
        else ""
    )
    machine = machine_name(mapping(record.get("hardware")))
    where = f"Made on {machine}." if machine else ""
    return "\n\n".join(part for part in (where, versions) if part)


def emissions(inputs: CardInputs) -> str:
    """Say what making the model emitted, where that was measured."""
    recorded = mapping(inputs.record.get("emissions"))
    kilograms = number(recorded.get("kg_co2eq"))
    if kilograms is None:
        return ""
    tool = f", estimated by {markdown(recorded['tool'], 60)}" if recorded.get("tool") else ""
    return f"{1000 * kilograms:.3g} g of CO₂ equivalents{tool}."


def structure(inputs: CardInputs) -> str:
    """Say what the shipped PyTorch model is made of."""
    row = next((one for one in inputs.shipped if mapping(one.values.get("components"))), None)
    if row is None:
        return ""
    parts = {name: number(count) or 0 for name, count in mapping(row.values["components"]).items()}
    whole = sum(parts.values()) or 1
    biggest = sorted(parts.items(), key=lambda one: (-one[1], str(one[0])))
    shares = [f"{markdown(name, 60)} {percent(count / whole)} %" for name, count in biggest if count]
    layers = entries(row.values.get("layers"))
    depth = len(layers) or inputs.config.get("num_hidden_layers")
    deep = f", {markdown(depth)} layers" if depth else ""
    family = markdown(inputs.config.get("model_type", "model"))
    zeros = f" {percent(number(row.values['zeros']) or 0)} % are zero: {NO_GAIN}." if has_zeros(row.values) else ""
    return f"{family}{deep}, {parameters(whole)} parameters: {listing(shares)}.{zeros}{_unequal(layers)}"


def _unequal(layers: Sequence[Mapping[str, Any]]) -> str:
    """Say how many heads and neurons each layer has, where layers differ."""
    said = ""
    for name, what in (("heads", "Attention heads"), ("neurons", "FFN neurons")):
        counts = [number(layer.get(name)) for layer in layers]
        if len(set(counts)) > 1:
            shown = ", ".join("none" if not count else f"{count:.0f}" for count in counts[:_SHOWN_LAYERS])
            said += f" {what}, layer by layer: {shown}{', …' if len(counts) > _SHOWN_LAYERS else ''}."
    return said
