"""Loading models, tokenizers and image processors: safetensors only, no remote code, one clear error when it fails."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.shapes import is_shape, shape_config, shape_processor, start_residuals_at_identity
from hfcompress.sources import is_local, require_model, resolve
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BaseImageProcessor, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_FIX_CONFIG = "Give a Hub id or a folder that `save_pretrained` wrote."
FIX_WEIGHTS = (
    "Weights are read from safetensors files only: download a damaged one again; "
    "turn a pickle (pytorch_model.bin) into one with `save_pretrained`, where you trust it."
)
_FIX_TOKENIZER = "Save the tokenizer into the model's folder: `tokenizer.save_pretrained(folder)`."
_FIX_IMAGES = "Save the image processor into the model's folder: `image_processor.save_pretrained(folder)`."
# To be trained (a pooler, the head of a model whose body has no name of its own), or a count that decides nothing.
_SPARE = re.compile(r"pooler|^lm_head\.|\.num_batches_tracked$")
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")


def load_config(source: str, **overrides: Any) -> PretrainedConfig:
    """Load a model's config from a Hub id, a folder or a short name.

    Raises:
        ModelError: It is not a model, or its architecture is unknown to the installed transformers.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    from transformers import AutoConfig

    if is_shape(source):
        return shape_config(source, **overrides)
    place = resolve(source)
    require_model(place)
    with as_model_error(source, "its config.json cannot be used", _FIX_CONFIG):
        return AutoConfig.from_pretrained(place, trust_remote_code=False, **overrides)


def load_model(source: str, task: Task, **config_overrides: Any) -> PreTrainedModel:
    """Load a model for a task from a Hub id, a folder or a short name, in float32, from safetensors only.

    Args:
        source: What the user typed.
        task: Decides the auto class.
        **config_overrides: Config values such as `num_labels` and `id2label`.

    Raises:
        ModelError: The weights are missing, cut short, of another shape, not finite, or a pickle.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    import torch
    import transformers

    config = load_config(source, **config_overrides)
    auto_class = getattr(transformers, task.auto_model)
    if is_shape(source):
        model = auto_class.from_config(config)
        start_residuals_at_identity(model)
        return model.eval()
    with as_model_error(source, "its weights cannot be used", FIX_WEIGHTS):
        model, report = auto_class.from_pretrained(
            resolve(source),
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # so that they are reported; `_check_weights` refuses them
            output_loading_info=True,
        )
    _check_weights(source, model, report)
    _make_savable(model)
    return model


def _make_savable(model: PreTrainedModel) -> None:
    """Let a model of quantized layers be saved as it was loaded.

    transformers 5 would undo how it read them, and cannot; bitsandbytes would change them when they first run.
    """
    from hfcompress.modeling.manifest import quantized_by
    from hfcompress.modeling.packed import compute_as_stored

    compute_as_stored(model)
    conversions: Any = getattr(model, "_weight_conversions", None)
    if conversions and quantized_by(model.config):
        loaded: Any = model
        loaded._weight_conversions = [
            one for one in conversions if not any(map(_is_one_way, getattr(one, "operations", ())))
        ]


def _is_one_way(operation: Any) -> bool:
    """Say whether an operation on loaded weights cannot be undone."""
    try:
        return operation.reverse_op is None
    except NotImplementedError:
        return True


def load_processor(source: str, task: Task) -> Any:
    """Load what turns a task's inputs into tensors: a tokenizer or an image processor.

    Raises:
        ModelError: There is none beside the model.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    return load_image_processor(source) if task.processor == "image_processor" else load_tokenizer(source)


def load_image_processor(source: str) -> BaseImageProcessor:
    """Load a model's image processor, the one that works through Pillow and NumPy, from a Hub id or a folder.

    Raises:
        ModelError: There is none beside the model, or Pillow is not installed.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ModelError(Fault(source, "images need Pillow, which is not installed.", "Run: pip install pillow"))
    if is_shape(source):
        return shape_processor(source)
    from transformers import AutoImageProcessor

    place = resolve(source)
    require_model(place)
    if is_local(place) and not any((Path(place) / name).is_file() for name in _IMAGE_FILES):
        raise ModelError(Fault(source, f"has no image processor ({_IMAGE_FILES[0]}).", _FIX_IMAGES))
    # The others need torchvision, and round otherwise: a model would answer differently where that is installed.
    pillow: dict[str, Any] = {"use_fast": False} if version("transformers").startswith("4.") else {"backend": "pil"}
    with as_model_error(source, "its image processor cannot be loaded", _FIX_IMAGES):
        return AutoImageProcessor.from_pretrained(place, trust_remote_code=False, **pillow)


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer from a Hub id, a folder or a short name.

    Raises:
        ModelError: There is none beside the model.
        NetworkError: It would have to come from the Hub, which cannot be reached.
    """
    from transformers import AutoTokenizer

    place = resolve(source)
    require_model(place)
    with as_model_error(source, "its tokenizer cannot be loaded", _FIX_TOKENIZER):
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # transformers 5 makes an empty one where there are no files.
        raise ModelError(Fault(source, "its tokenizer knows no words.", _FIX_TOKENIZER))
    return tokenizer


def _check_weights(source: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse weights that transformers would replace by random numbers; a new head and pooler are to be trained.

    Raises:
        ModelError: Weights have another shape than the config says, are not in the file, or are not finite.
    """
    names = sorted(key if isinstance(key, str) else key[0] for key in report["mismatched_keys"])
    if names:
        shape = tuple(model.get_parameter(names[0]).shape)
        problem = f"its weights do not fit its config, which says {names[0]} has the shape {shape}{_and_more(names)}."
        fix = "Use the config.json (and the number of labels) that they were saved with."
        raise ModelError(Fault(source, problem, fix))
    body = "" if model.base_model is model else f"{model.base_model_prefix}."  # without a head it is the whole model
    absent = (name for name in report["missing_keys"] if name.startswith(body))
    names = sorted(name for name in absent if not _SPARE.search(name))
    if names:
        fix = "Use the config.json that they were saved with, or download them again."
        raise ModelError(Fault(source, f"its weights lack {names[0]}{_and_more(names)}.", fix))
    names = sorted(name for name, parameter in model.named_parameters() if not _is_finite(parameter))
    if names:
        fix = "Take an earlier checkpoint, from before its training failed."
        raise ModelError(Fault(source, f"its weights hold NaN or infinity: {names[0]}{_and_more(names)}.", fix))


def _is_finite(parameter: Tensor) -> bool:
    """Say whether all numbers of a weight are finite, without a copy of it; packed integers are."""
    if not parameter.is_floating_point() or not parameter.numel():
        return True
    return all(bool(end.isfinite()) for end in parameter.detach().aminmax())


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


@contextmanager
def as_model_error(source: str, problem: str, fix: str) -> Iterator[None]:
    """Turn whatever a broken file makes transformers raise into one sentence; tokenizers raises a bare Exception."""
    try:
        yield
    except ModelError:  # says what is wrong already
        raise
    except Exception as error:
        text = str(error) if " " in str(error) else f"{type(error).__name__} {error}"
        reason = shorten(text, 300, placeholder=" …").rstrip(".: ")
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own, which hfcompress never runs"
            fix = "Choose an architecture that transformers ships."
        raise ModelError(Fault(source, f"{problem}: {reason}.", fix)) from error
