"""Mixed precision: for each node float, 8 or 4 bits, by what each loses and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hfcompress.allocation import Choice, choose
from hfcompress.config import option
from hfcompress.quantization.convert import FAMILY, Batches, ChooseWriter, convert
from hfcompress.quantization.files import load_graph
from hfcompress.quantization.graph import scopes
from hfcompress.quantization.nodes import QuantizedNodes
from hfcompress.quantization.rewriter import Rewriter, Write
from hfcompress.quantization.sensitivity import relative_error
from hfcompress.quantization.weight_only import FourBit, Int4Config, four_bits
from hfcompress.quantization.weights import Candidate, candidates, share_tied
from hfcompress.registry import register

FLOAT, INT8, INT4 = 32, 8, 4
Bits = dict[str, int]
"""Bits of a weight by the node's name."""

_SCALE_AND_ZERO = 2.5  # bytes of a block's scale and zero point


@dataclass(frozen=True)
class Part:
    """Nodes that share a weight, so that one decision is made for all of them.

    Args:
        nodes: Their names.
        sizes: Bytes of the weight by its bits; 32 for float.
        products: Multiplications and additions for each token, 0 for an embedding.
    """

    nodes: tuple[str, ...]
    sizes: dict[int, int]
    products: int


@dataclass
class MixedConfig(Int4Config):
    """Options of mixed precision; what is not named in `bits` stays float."""

    bits: dict[str, int] = option({}, help="8 or 4 bits by the name of a node", recipe_only=True)
    no_quantize_embeddings: bool = option(False, help="leave embeddings in float")


def parts_of(source: Path, four: FourBit, embeddings: bool = True) -> dict[str, Part]:
    """Return the decisions that a graph leaves, by the name of the first node."""
    every = list(scopes(load_graph(source).graph))
    groups: dict[str, list[Candidate]] = {}
    for item in share_tied(candidates(every)[0], source.parent):
        groups.setdefault(item.weight.tensor.name, []).append(item)
    return {
        group[0].name: _part(group, four)
        for group in groups.values()
        if embeddings or all(item.kind != "Gather" for item in group)
    }


def _part(group: list[Candidate], four: FourBit) -> Part:
    dims = group[0].weight.tensor.dims
    count, rows = int(np.prod(dims)), dims[group[0].axis]
    sizes = {FLOAT: 4 * count, INT8: count + 4 * rows}
    if all(four.covers(item) for item in group):
        blocks = rows * -(-(count // rows) // four.block_size)
        sizes[INT4] = int(blocks * (four.block_size / 2 + _SCALE_AND_ZERO))
    taken = sum(item.kind != "Gather" for item in group)
    return Part(tuple(item.name for item in group), sizes, taken * count)


def mixed_writer(four: FourBit, bits: Mapping[str, int]) -> ChooseWriter:
    """Return how nodes are written: in 8 bits with dynamic scales, in 4 bits, or not at all."""

    def write(item: Candidate) -> Write | None:
        asked = bits.get(item.name, FLOAT)
        return {FLOAT: None, INT8: Rewriter.int8, INT4: four.write}[asked]

    return write


def measure_losses(
    parts: Mapping[str, Part],
    make: Callable[[Bits], Path],
    answers: Callable[[Path], Sequence[np.ndarray]],
    reference: Sequence[np.ndarray],
    bits: Collection[int] = (INT8, INT4),
) -> dict[str, dict[int, float]]:
    """Return what each part loses alone, all others in float: the squared relative error of the answers, by its bits.

    Errors of different parts hardly depend on one another, so the squares add up to what all lose together.
    """
    found: dict[str, dict[int, float]] = {}
    for name, part in parts.items():
        found[name] = {FLOAT: 0.0}
        for asked in (one for one in bits if one in part.sizes):
            file = make(dict.fromkeys(part.nodes, asked))
            error = relative_error(reference, answers(file))
            found[name][asked] = error**2 if np.isfinite(error) else float(np.finfo(np.float32).max)
    return found


def spread(parts: Mapping[str, Part], by_part: Mapping[str, int]) -> Bits:
    """Return the bits of nodes from those of parts."""
    return {node: by_part[name] for name, part in parts.items() for node in part.nodes}


def within_costs(
    parts: Mapping[str, Part],
    losses: Mapping[str, Mapping[int, float]],
    costs: Mapping[str, Mapping[int, float]],
    budget: float,
) -> dict[str, int]:
    """Return the bits of each part that together lose the least within a budget of bytes, or of time.

    Raises:
        RequestError: Not even the cheapest choices fit.
    """
    choices = {}
    for name in parts:
        order = sorted(losses[name], key=lambda bits, name=name: (costs[name][bits], -losses[name][bits]))  # type: ignore[misc]
        choices[name] = Choice(
            np.array(order),
            np.array([losses[name][bits] for bits in order]),
            np.array([costs[name][bits] for bits in order], dtype=np.float64),
        )
    return choose(choices, budget)


def upgrades(parts: Mapping[str, Part], losses: Mapping[str, Mapping[int, float]]) -> list[tuple[str, int]]:
    """Return the steps from the fewest bytes to float, those first that win most for a byte: `(part, bits)`.

    Each part's steps lie on the convex hull of its losses over bytes, so that a prefix of the list is the best choice
    for the bytes that it takes.
    """
    steps = []
    for name, part in parts.items():
        now = cheapest(part)
        while now != FLOAT:
            rates = {
                bits: (losses[name][now] - losses[name][bits]) / (part.sizes[bits] - part.sizes[now])
                for bits in losses[name]
                if part.sizes[bits] > part.sizes[now]
            }
            now = max(rates, key=lambda bits: (rates[bits], -bits))
            steps.append((rates[now], name, now))
    order = sorted(range(len(steps)), key=lambda index: (-steps[index][0], index))
    return [steps[index][1:] for index in order]


def cheapest(part: Part) -> int:
    """Return the bits in which a part takes the fewest bytes."""
    return min(part.sizes, key=lambda bits: part.sizes[bits])


@register(FAMILY, "mixed", MixedConfig)
def quantize_mixed(
    source: Path,
    target: Path,
    config: MixedConfig,
    batches: Batches | None = None,
    keep_float: Collection[str] = (),
) -> QuantizedNodes:
    """Float, 8 or 4 bits for each node, the cheapest that keep quality, size or time."""
    four = four_bits(source, config, batches)
    result = convert(source, target, "mixed", mixed_writer(four, config.bits), keep_float)
    result.details = {"algorithm": four.algorithm, "block_size": config.block_size}
    return result
