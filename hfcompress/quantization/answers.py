"""What a graph answers on calibration rows, without what it says of padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hfcompress.quantization.convert import Batches
from hfcompress.quantization.observing import run


def answers(file: Path, batches: Batches) -> list[np.ndarray]:
    """Return the float outputs of a graph, the caches left out: one array for each output and batch, padding left out.

    Args:
        file: The graph.
        batches: What it takes.
    """
    from hfcompress.modeling.onnx_model import start_session

    session = start_session(file)
    names = [node.name for node in session.get_outputs() if not node.name.startswith("present")]
    found = []
    for batch in batches:
        mask = batch.get("attention_mask")
        for value in run(session, names, batch):
            if mask is not None and value.ndim >= 2 and value.shape[:2] == mask.shape:
                value = value[mask.astype(bool)]
            found.append(value)
    return found
