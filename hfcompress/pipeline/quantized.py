"""Which steps may follow one that quantizes the weights: those that train adapters, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.manifest import BITSANDBYTES, quantized_by
from hfcompress.pipeline.recipe import Step
from hfcompress.quantization.bnb import BitsAndBytesOptions

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def refuse_quantized(config: PretrainedConfig, steps: Sequence[Step], exports: bool = False) -> None:
    """Check that nothing but adapters is to change weights that another library has packed.

    Args:
        config: The starting model's.
        steps: What would be done.
        exports: Whether the last model is to become ONNX files.

    Raises:
        RequestError: A step would change packed weights, or they would be exported; all faults.
    """
    by, faults = quantized_by(config), []
    for index, step in enumerate(steps):
        if by is not None:
            faults += _faults(f"steps.{index}.{step.method.name}", step, by)
        if isinstance(step.config, BitsAndBytesOptions):
            by = BITSANDBYTES
        elif getattr(step.config, "student", None):
            by = None
    if by is not None and exports:
        fix = "Export the float model; `--quantize` then writes the graph in fewer bits."
        faults.append(
            Fault("export", f"the last model's weights are quantized by {by}, which ONNX does not know.", fix)
        )
    if faults:
        raise RequestError(*faults)


def _faults(where: str, step: Step, by: str) -> list[Fault]:
    student = getattr(step.config, "student", None)
    if student and (step.config.teachers or not student.startswith("cut:")):  # another model is trained
        return []
    if student or not hasattr(step.config, "lora"):
        fix = "Put this step before the one that quantizes, or start from the float model."
        return [Fault(where, f"the weights are quantized already ({by}).", fix)]
    if by != BITSANDBYTES:
        fix = "Start from the float model."
        return [Fault(where, f"the weights are quantized by {by}, and adapters are merged into float ones alone.", fix)]
    if step.config.lora is None:
        problem = f"it trains all weights, and they are quantized ({by})."
        return [Fault(where, problem, 'Train adapters: `lora: {"rank": 8}`.')]
    return []
