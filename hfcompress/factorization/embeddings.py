"""The `embeddings` step: the table of tokens as a narrow one and a projection, with the heads that are tied to it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from tqdm.auto import tqdm

from hfcompress.calibration import Batch, calibration_inputs, evaluating
from hfcompress.calibration.sensitivity import differentiable, listening, surprise
from hfcompress.config import option
from hfcompress.errors import Fault, RequestError
from hfcompress.factorization.comparing import comparing
from hfcompress.factorization.decompose import Decomposition, for_outputs
from hfcompress.factorization.findings import DIVERGENCE, SEEN_WEIGHTS, TOKENS, Loss, note_curves, note_ranks
from hfcompress.factorization.ranks import Ranked, RankOptions, choose_ranks, largest_rank
from hfcompress.measure.size import empty_model
from hfcompress.modeling.embedding_tables import put_embedding, tied_to, token_table
from hfcompress.modeling.linear import weight_of
from hfcompress.modeling.statistics import check_finite, token_masks
from hfcompress.modeling.targets import refuse_nan
from hfcompress.registry import register

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from hfcompress.context import Context
    from hfcompress.tasks import Task


@dataclass
class EmbeddingsConfig(RankOptions):
    """Options of `embeddings`."""

    frequency: bool = option(True, help="count errors of a token by how often it stands in the training rows")
    smoothing: Annotated[float, Gt(0)] = option(
        0.1, help="what is added to each token's count, so that those of no row count too"
    )
    fisher: bool = option(True, help="count errors by what the loss sees of them")
    examples: Annotated[int, Ge(2)] = option(512, help="training rows to look at the model with; labels are not used")
    batch_size: Annotated[int, Gt(0)] = option(32, help="rows in a batch")

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: Not exactly one of the ways to choose the rank is given, or one that says nothing of a table.
        """
        wrong = [name for name in ("target_macs", "target_latency") if getattr(self, name) is not None]
        if wrong:
            problem = "a table of embeddings is looked up, not multiplied: a narrow one saves bytes, not time."
            fix = "Give rank, rank_ratio, energy or target_params: target_params 0.5."
            raise RequestError(*(Fault(name, problem, fix) for name in wrong))
        self.check_ranks()

    @property
    def loss(self) -> Loss:
        """What is made least."""
        if self.fisher:
            return DIVERGENCE if self.frequency else SEEN_WEIGHTS
        return TOKENS


def predict_embeddings(model: PreTrainedModel, config: EmbeddingsConfig, context: Context) -> PretrainedConfig:
    """Return the config of the model that `embeddings` would make, and note what loss is expected.

    Raises:
        As `embeddings`.
    """
    name, found = _look(model, config, context)
    tokens, width = weight_of(model.get_submodule(name)).shape
    rank = _rank(name, model, found, config, context)
    skeleton = empty_model(copy.deepcopy(model.config), context.task)
    if rank is not None:
        put_embedding(skeleton, name, *(torch.empty(one, rank, device="meta") for one in (tokens, width)))
    return skeleton.config


@register("factorization", "embeddings", EmbeddingsConfig, predict=predict_embeddings)
def embeddings(model: PreTrainedModel, config: EmbeddingsConfig, context: Context) -> PreTrainedModel:
    """Replace the table of token embeddings by a narrow table and a projection; saves bytes, not time.

    ALBERT (Lan et al. 2020, arXiv 1909.11942) trains such a table, `E = T Pᵀ`; here it is found for a trained one: at
    each rank the one that minimises `Σ_v f_v ‖√G (e_v − ê_v)‖²`. `f` are the tokens' frequencies in calibration rows,
    something added to each count (weighted as in GroupReduce, Chen et al. 2018, arXiv 1806.06950). `G` is the second
    moment of the loss's gradient behind the table. Heads that are tied to the table stay tied, `T (Pᵀ h)`; what they
    read, `Σ h hᵀ` over the places that the loss looks at, is added to `G`: the loss grows by `½ Σ_v p_v (Δe_v h)²`.

    Args:
        model: The model; changed in place.
        config: The rank, and what errors count.
        context: Gives the calibration rows; their labels are not used.

    Raises:
        RequestError: The budget is below that of the smallest rank.
        DataError: There are too few rows.
        ModelError: There is no table of tokens, or weights, activations or gradients are NaN or infinite.
    """
    name, found = _look(model, config, context)
    rank = _rank(name, model, found, config, context)
    if rank is not None:
        factors, weight = found.factors(rank), weight_of(model.get_submodule(name)).detach().double()
        with comparing(model, context):
            put_embedding(model, name, weight @ factors.down.T, factors.up)
    return model


def _look(model: PreTrainedModel, config: EmbeddingsConfig, context: Context) -> tuple[str, Decomposition]:
    """Return the table's name, and what it passes through, decomposed; the model stays as it is."""
    name = token_table(model)
    table = model.get_submodule(name)
    refuse_nan({name: table})
    counts, moments = None, None
    if config.frequency or config.fisher:
        with evaluating(model):
            batches = calibration_inputs(model, context, config.examples, config.batch_size)
            if config.frequency:
                counts = token_counts(model, batches, len(weight_of(table))) + config.smoothing
            if config.fisher:
                moments = loss_moments(model, name, batches, context.task, context.seed, context.progress)
    return name, decompose_table(weight_of(table).detach(), counts, moments)


def decompose_table(weight: Tensor, counts: Tensor | None = None, moments: Tensor | None = None) -> Decomposition:
    """Decompose what embeddings pass through: `ê = M e` of low rank that minimises `Σ_v f_v ‖√G (e_v − M e_v)‖²`.

    No other `ê` of that rank is better (Eckart and Young 1936, for `√f E √G`).

    Args:
        weight: The table, `(tokens, width)`.
        counts: How often each token is read, `(tokens,)`; None counts all alike, which is plain SVD without `moments`.
        moments: Second moment of the loss's gradient, `G`, `(width, width)`; None counts all directions alike.
    """
    exact = weight.double()
    shares = torch.full_like(exact[:, 0], 1 / len(exact)) if counts is None else counts.to(exact) / counts.sum()
    identity = torch.eye(exact.shape[1], dtype=exact.dtype, device=exact.device)
    return for_outputs(identity, (exact.T * shares) @ exact, None, moments)


def token_counts(model: PreTrainedModel, batches: Sequence[Batch], tokens: int) -> Tensor:
    """Return how often each token stands in the batches, padding left out, `(tokens,)`."""
    counts = torch.zeros(tokens, dtype=torch.float64)
    for batch in batches:
        masks = token_masks(model, batch)
        for ids, mask in ((batch["input_ids"], masks["encoder"]), (batch.get("decoder_input_ids"), masks["decoder"])):
            if ids is not None:
                read = ids if mask is None else ids[mask.bool()]
                counts += torch.bincount(read.flatten().cpu(), minlength=tokens)
    return counts


def loss_moments(
    model: PreTrainedModel, name: str, batches: Sequence[Batch], task: Task, seed: int, progress: bool = False
) -> Tensor:
    """Return the second moment of the loss's gradient behind a table, and of what tied heads read, `(width, width)`.

    The loss is the model's own surprise, so that no labels are needed.

    Args:
        model: The dense model.
        name: Of its table.
        batches: What it is called with.
        task: Says what of its outputs are the answers.
        seed: Of the random signs.
        progress: Show a bar on stderr.

    Raises:
        ModelError: Activations or gradients are NaN or infinite; the layer is named.
    """
    places = {place: model.get_submodule(place) for place in (name, *tied_to(model, name))}
    once = {id(module): place for place, module in places.items()}
    width = weight_of(places[name]).shape[1]
    total = torch.zeros(width, width, dtype=torch.float64)

    def hear(place: str, given: Tensor, output: Tensor, mask: Tensor | None) -> None:
        module = places[place]

        def note(gradient: Tensor) -> None:
            check_finite(gradient, place)
            if isinstance(module, nn.Embedding):
                vectors = gradient.flatten(0, -2) * getattr(module, "embed_scale", 1.0)
            else:  # the places that the loss looks at
                vectors = given[gradient.any(-1)]
            total.add_((vectors.T @ vectors).to(total))

        if output.requires_grad:
            output.register_hook(note)

    generator = torch.Generator().manual_seed(seed)
    with differentiable(model), listening(model, once.values(), hear) as run, torch.enable_grad():
        for batch in tqdm(batches, desc="looking at the model", unit="batch", disable=not progress):
            surprise(run(batch), batch, task, generator).backward()
    return total / sum(len(next(iter(batch.values()))) for batch in batches)


def _rank(
    name: str, model: PreTrainedModel, found: Decomposition, config: EmbeddingsConfig, context: Context
) -> int | None:
    """Return the rank that was asked for and note it; None, which is told, where the table would not get smaller.

    Raises:
        RequestError: The budget is below that of the smallest rank.
    """
    table = model.get_submodule(name)
    tokens, width = weight_of(table).shape
    costs = np.arange(largest_rank(tokens, width) + 1) * float(tokens + width)
    known = {name: Ranked(tokens, width, found.losses.cpu().numpy(), costs, float(tokens * width))}
    ranks = choose_ranks(known, config)
    note_ranks(context, known, ranks, config, config.loss)
    note_curves(context, {name: table}, known, config.loss)
    rank, largest = ranks[name], known[name].largest
    if rank is None:
        most = f"less than {largest + 1}" if largest else "none that is smaller"
        context.say(
            f"{name} stays as it is, since it would not gain: of {tokens} x {width} a rank of {most} saves bytes"
        )
    return rank
