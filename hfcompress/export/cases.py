"""Inputs on which a graph has to answer as the model does: padded, single, longest, unseen lengths, nothing at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.data import TaskData
    from hfcompress.tasks import Task

LONGEST = 512
"""Tokens of the longest text that is tried, or fewer where the model takes fewer."""

_MOST_LOGITS = 1 << 25  # numbers in one output: a language model with a large vocabulary is tried on fewer tokens
_DECODED = 5  # tokens that a decoder is given
_ROWS = 32  # rows of data


@dataclass
class Case:
    """One batch, and what the PyTorch model answers.

    Args:
        name: What is tried.
        inputs: What both are given, by name.
        expected: The model's outputs by name, the cache left out.
        steps: Whether a graph with a cache is tried in two steps, too.
    """

    name: str
    inputs: dict[str, Tensor]
    expected: dict[str, np.ndarray]
    steps: bool = False


def answered_cases(
    model: PreTrainedModel, task: Task, inputs: Collection[str], processor: Any = None, data: TaskData | None = None
) -> list[Case]:
    """Return the cases with the model's answers, so that the model need not stay in memory.

    Args:
        model: The model, in evaluation mode.
        task: Decides what it takes.
        inputs: What the graphs take: RoBERTa's know no kinds of segments, for instance.
        processor: Its tokenizer or image processor, for the data.
        data: Rows of the user's, which become one more case.
    """
    import torch

    cases = []
    with torch.inference_mode():
        is_vision = model.main_input_name == "pixel_values"
        batches = list(_images(model, task) if is_vision else _texts(model, task, "token_type_ids" in inputs))
        if data is not None:
            batches.append(("data", _from_data(model, task, processor, data)))
        for name, batch in batches:
            outputs = model(**batch, **_no_cache(model))
            arrays = {key: value.numpy() for key, value in outputs.items() if isinstance(value, torch.Tensor)}
            cases.append(Case(name, batch, arrays, steps=name == "padded"))
    return cases


def _no_cache(model: PreTrainedModel) -> dict[str, bool]:
    return {"use_cache": False} if "use_cache" in signature(model.forward).parameters else {}


def _images(model: PreTrainedModel, task: Task) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield images of the size that the model takes, of random contents: one alone, and batches."""
    import torch

    _, channels, height, width = task.example_inputs(model.config, 1, 0)["pixel_values"].shape
    generator = torch.Generator().manual_seed(0)
    for name, count in (("single image", 1), ("two images", 2), ("five images", 5)):
        yield name, {"pixel_values": torch.rand((count, channels, height, width), generator=generator)}


def _texts(model: PreTrainedModel, task: Task, segments: bool) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield texts of random tokens."""
    config = model.config
    longest = task.example_inputs(config, 1, LONGEST)["input_ids"].shape[1]
    per_token = config.vocab_size if task.name in ("fill-mask", "text-generation", "text2text-generation") else 1
    longest = min(longest, max(8, _MOST_LOGITS // per_token))
    tried = {
        "padded": [9, 6, 2],
        "single text": [16],
        "unseen length": [37, 37],
        "longest": [longest],
        "fully padded row": [8, 0],
    }
    for name, lengths in tried.items():
        yield name, _text(model, task, [min(length, longest) for length in lengths], segments)


def _text(model: PreTrainedModel, task: Task, lengths: list[int], segments: bool) -> dict[str, Tensor]:
    """Return a batch of texts of the given lengths, padded at the end.

    A text ends with the token that ends texts, where an encoder-decoder classifies; so does one that is all padding.
    """
    import torch

    config = model.config
    batch = task.example_inputs(config, len(lengths), max(lengths))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for row, length in enumerate(lengths):
        last = ids[row, -1].item()
        mask[row, length:] = 0
        ids[row, length:] = config.pad_token_id or 0
        ids[row, max(length, 1) - 1] = last
    batch = {"input_ids": ids, "attention_mask": mask}
    if segments and (getattr(config, "type_vocab_size", None) or 0) > 1:
        batch["token_type_ids"] = (torch.arange(ids.shape[1]) > ids.shape[1] // 2).long().expand_as(ids)
    if config.is_encoder_decoder and type(model).__name__.endswith(("Model", "ForConditionalGeneration")):
        batch["decoder_input_ids"] = ids[:, :_DECODED].clone()
    return batch


def _from_data(model: PreTrainedModel, task: Task, processor: Any, data: TaskData) -> dict[str, Tensor]:
    """Return the first rows of the user's data as a batch."""
    rows = data.validation.select(range(min(_ROWS, len(data.validation))))
    encoded = task.encode(rows, processor, data.max_length)
    encoded = encoded.select(range(min(_ROWS, len(encoded))))
    batch = task.prepare_inputs(task.collator(processor)(list(encoded)), model.config)
    takes = set(signature(model.forward).parameters) - set(task.label_columns)
    return {name: value for name, value in batch.items() if name in takes}
