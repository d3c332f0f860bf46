"""Calibration rows as what graphs take: encoded, padded in batches of like length, filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcompress.errors import DataError, Fault
from hfcompress.modeling.onnx_model import load_onnx
from hfcompress.modeling.onnx_seq2seq import OnnxSeq2Seq
from hfcompress.quantization.convert import Batches
from hfcompress.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor

_BATCH = 8


def calibration_feeds(
    files: Sequence[Path], task: Task, processor: Any, rows: Dataset, max_length: int | None
) -> dict[str, Batches]:
    """Return what each graph takes on calibration rows, by the file's name.

    A decoder is given the encoder's output and the tokens that it should write, all at once, with an empty cache.

    Args:
        files: One float graph, or an encoder and a decoder.
        task: Encodes rows.
        processor: The model's tokenizer or image processor.
        rows: The rows.
        max_length: Texts are cut to so many tokens.

    Raises:
        DataError: There are no rows.
    """
    from torch.utils.data import DataLoader

    if not len(rows):
        raise DataError(Fault("calibration", "there are no rows to calibrate on.", "Name data that have some."))
    model = load_onnx(files[0])
    encoded = task.encode(rows, processor, max_length)
    encoded = encoded.select(range(min(len(rows), len(encoded))))
    found: dict[str, list[Mapping[str, np.ndarray]]] = {file.name: [] for file in files}
    for batch in DataLoader(encoded, _BATCH, collate_fn=task.collator(processor)):
        inputs = task.prepare_inputs(batch, model.config)
        inputs = {name: value for name, value in inputs.items() if name not in task.label_columns}
        if not isinstance(model, OnnxSeq2Seq):
            found[files[0].name].append(_arrays(model.fill_in(inputs)))
            continue
        found[model.encoder.file.name].append(_arrays(model.encoder.fill_in(inputs)))
        hidden = model.encoder(**inputs)["last_hidden_state"]
        read = {"encoder_hidden_states": hidden, "encoder_attention_mask": inputs["attention_mask"]}
        target = inputs.get("decoder_input_ids", inputs["input_ids"])
        found[model.file.name].append(_arrays(model.fill_in({"input_ids": target, **read})))
    return dict(found)


def _arrays(feeds: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in feeds.items()}
