"""The quantized files that an export asks for, one method after the other, into the folder that ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import ExportError
from hfcompress.export.careful import Careful
from hfcompress.export.config import ExportConfig
from hfcompress.export.methods import Maker, Quantized
from hfcompress.export.mixing import Mixing
from hfcompress.export.validation import Proof
from hfcompress.export.variants import Variant, move
from hfcompress.quantization.trained_ranges import read_ranges

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def write_quantized(
    variants: Sequence[Variant],
    best: Variant,
    made: Path,
    config: ExportConfig,
    model_config: PretrainedConfig,
    proof: Proof,
    careful: Careful,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the files of all methods; one that cannot make the file smaller is left out and said so.

    Args:
        variants: The float graphs, fused and not.
        best: The fastest of them.
        made: The folder that ships.
        config: What is asked for.
        model_config: The model's config.
        proof: Knows what the model answers.
        careful: Knows the rows.
        say: Told in one line what happens.

    Returns:
        For the record: `quantization` of the first method, and `quantizations` of all where there are several.

    Raises:
        ExportError: A quality, size or time that was asked for cannot be kept.
    """
    records = []
    for name, suffix in config.suffixes.items():
        say("quantizing" if name == "int8" else f"quantizing: {name}")
        maker = Maker(name, config, suffix)
        if name == "static" and read_ranges(model_config):
            maker.trained = model_config
        elif name in config.needs_data or (name in config.uses_data and careful.data is not None):
            maker.feeds = careful.feeds(best.files)
        try:
            quantized, found = _made(variants, best, maker, model_config, careful, say)
        except ExportError as error:
            if config.max_drop is not None or name == "mixed":
                raise
            what = "8-bit" if name == "int8" else name
            say(f"note: no {what} file: {error}")
            records.append({"method": "none", "asked": name, "why": str(error)})
            continue
        files = [file.name for file in quantized.variant.files]
        records.append(found | quantized.record(proof) | {"asked": name, "files": files})
        move(quantized.variant.files, made)
    if not records:
        return {}
    return {"quantization": records[0], **({"quantizations": records} if len(records) > 1 else {})}


def _made(
    variants: Sequence[Variant],
    best: Variant,
    maker: Maker,
    model_config: PretrainedConfig,
    careful: Careful,
    say: Callable[[str], None],
) -> tuple[Quantized, dict[str, Any]]:
    """Return a method's files and what there is to say of the way to them."""
    max_drop = maker.settings.max_drop
    if maker.name == "mixed":
        return Mixing(best, maker, model_config, careful, say).choose()
    quantized, figures = maker.fastest(variants, careful.work, model_config, careful.task)
    found: dict[str, Any] = {"measured": figures}
    if max_drop is not None and maker.name != "float16":
        base = next(variant for variant in variants if variant.name == quantized.variant.name)
        quantized, choice = careful.choose(base, maker, max_drop, say)
        found |= {"max_drop": max_drop, **choice.to_dict()}
    return quantized, found
