"""The ways to write a model's graphs, fused or not, and which of them is fastest here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hfcompress.errors import ExportError, ModelError
from hfcompress.export.config import ExportConfig
from hfcompress.export.layout import MODEL, external_name
from hfcompress.export.validation import Proof, Validation
from hfcompress.measure.latency import Effort, time_calls
from hfcompress.modeling.onnx_model import OnnxModel
from hfcompress.modeling.projections import attention_heads, heads_by_width
from hfcompress.quantization.fusion import fuse
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

UNFUSED, FUSED = "unfused", "fused"

_LENGTH = 128
_EFFORT = Effort(rounds=30, warm_up=3, seconds=10)
_MARGIN = 0.98


@dataclass
class Variant:
    """One way to write a model's graphs.

    Args:
        name: `fused` or `unfused`.
        files: The graphs.
        operators: Number of fused operators by kind.
        validation: How near a fused variant is to the model.
    """

    name: str
    files: list[Path]
    operators: dict[str, int] = field(default_factory=dict)
    validation: Validation | None = None


def float_variants(
    traced: Sequence[Path], work: Path, config: PretrainedConfig, settings: ExportConfig, proof: Proof
) -> tuple[list[Variant], str]:
    """Return the graphs as they were traced and, unless told otherwise, fused ones that answer alike.

    Args:
        traced: The graphs.
        work: A folder for the fused ones.
        config: The model's config.
        settings: Whether to fuse.
        proof: Knows what the model answers.

    Returns:
        The variants, and why there is no fused one (empty where there is).

    Raises:
        ExportError: Fusion was asked for, and is not possible.
    """
    variants = [Variant(UNFUSED, list(traced))]
    if settings.fusion == "off":
        return variants, "not wanted"
    why = _fuse(variants, work / FUSED, config, proof)
    if why and settings.fusion == "on":
        raise ExportError(f"The graph cannot be fused: {why}. Leave out --fusion on.")
    return (variants[1:] if settings.fusion == "on" else variants), why


def _fuse(variants: list[Variant], folder: Path, config: PretrainedConfig, proof: Proof) -> str:
    """Add a fused variant; return why there is none, or nothing."""
    (unfused,) = variants
    if [file.name for file in unfused.files] != [MODEL]:
        return "only graphs without a cache are fused"
    folder.mkdir()
    target = folder / MODEL
    heads, hidden = _heads(config), getattr(config, "hidden_size", None) or 0
    found = fuse(unfused.files[0], target, config.model_type, heads, hidden, heads_by_width(config) if heads else None)
    if not found:
        return "no pattern matched"
    validation = proof.of([target])
    if not validation.within(proof.tolerance):
        return f"the fused graph differs by {validation.relative:.2g} of the largest output"
    variants.append(Variant(FUSED, [target], dict(found), validation))
    return ""


def _heads(config: PretrainedConfig) -> int:
    """Return the number of attention heads; 0 where there is no attention, or its heads are not known."""
    try:
        return attention_heads(config)
    except ModelError:
        return 0


def fastest_variant(
    variants: Sequence[Variant], config: PretrainedConfig, task: Task
) -> tuple[Variant, dict[str, float]]:
    """Return the variant that runs fastest on this machine, and the median milliseconds of each.

    One text of 128 tokens, or one image, on one thread, the variants in turns. The first is kept unless another is
    faster by more than the clock can err: it is the one that more runtimes understand.

    Args:
        variants: The choice.
        config: The model's config.
        task: Gives the inputs.
    """
    if len(variants) == 1:
        return variants[0], {}
    inputs = task.example_inputs(config, 1, _LENGTH)
    models = {variant.name: OnnxModel(variant.files[0], config, threads=1) for variant in variants}
    calls = {name: partial(model, **inputs) for name, model in models.items()}
    times = dict(zip(calls, np.median(time_calls(calls, _EFFORT), axis=0).tolist(), strict=True))
    best = min(variants, key=lambda variant: times[variant.name] * (_MARGIN if variant is variants[0] else 1))
    return best, times


def move(files: Sequence[Path], folder: Path) -> None:
    """Move graphs, with the weights that lie beside them."""
    for file in files:
        for part in (file, file.with_name(external_name(file))):
            if part.is_file():
                shutil.move(part, folder / part.name)
