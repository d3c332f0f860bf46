"""What a step that shares weights leaves in the record: values, bits and error of each matrix, and the packed size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from hfcompress.clustering.container.coding import code_values
from hfcompress.modeling.linear import weight_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from hfcompress.clustering.codebooks import Codebook
    from hfcompress.context import Context

KEY = "weight_sharing"


@torch.no_grad()
def note_sharing(
    model: PreTrainedModel, modules: Mapping[str, nn.Module], books: Mapping[str, Codebook], context: Context
) -> None:
    """Note what sharing does to each weight, and what all weights take in a `.hfz`; the model is still as it was.

    Args:
        model: The model.
        modules: Whose weights are shared, by name.
        books: Their codebooks.
        context: Gets the findings, under `weight_sharing`.
    """
    matrices = [_matrix(name, weight_of(modules[name]).detach(), book) for name, book in books.items()]
    shared = {id(weight_of(module)) for module in modules.values()}
    rest = [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in shared]
    other = sum(tensor.numel() * tensor.element_size() for tensor in rest)
    packed = sum(row["bytes"] for row in matrices) + other
    dense = sum(one.numel() * one.element_size() for one in model.parameters())
    context.findings[KEY] = {"matrices": matrices, "other_bytes": other, "packed_bytes": packed, "bytes": dense}
    context.say(f"packed, the weights take about {packed / 1e6:,.2f} MB of {dense / 1e6:,.2f} ({dense / packed:.1f} ×)")


def _matrix(name: str, before: Tensor, book: Codebook) -> dict[str, Any]:
    after = book.weight()
    size = packed_bytes(after)
    norm = float(before.double().square().sum())
    return {
        "name": name,
        "weights": before.numel(),
        "values": int(torch.unique(book.places).numel()),
        "zeros": int((after == 0).sum()),
        "exact": len(book.exact),
        "bytes": size,
        "bits_per_weight": round(8 * size / before.numel(), 3),
        "error": float((after - before).double().square().sum()) / norm if norm else 0.0,
    }


def packed_bytes(weight: Tensor) -> int:
    """Return how many bytes a weight takes in a `.hfz`."""
    word = weight.element_size()
    bits = weight.contiguous().reshape(-1).cpu().view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[word])
    return len(code_values(bits.numpy().view(f"<u{word}"), weight[0].numel())[1])
