"""Rows of a vocabulary taken out of a model: embeddings, heads over words, and the numbers of tokens in its configs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.presets import first_position

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_ONE_TOKEN = "_token_id"  # noqa: S105
_TOKENS = ("suppress_tokens", "begin_suppress_tokens")
_MUST_STAY = ("force_words_ids", "forced_decoder_ids")


def require_vocabulary(config: PretrainedConfig) -> int:
    """Return the rows of a model's vocabulary.

    Raises:
        ModelError: It has none.
    """
    rows = getattr(config, "vocab_size", None)
    if not isinstance(rows, int):
        problem = f"the architecture '{config.model_type}' reads no words, so it has no vocabulary to trim."
        raise ModelError(Fault("model", problem, "Choose a model of text."))
    return rows


def vocabulary_axes(model: PreTrainedModel) -> dict[str, int]:
    """Return the weights that have a row (or column) for each token, by name, and which axis that is.

    They are those whose shape changes when the same architecture is built for one token more.
    """
    import torch

    rows = require_vocabulary(model.config)
    shapes = []
    for size in (rows, rows + 1):
        config = copy.deepcopy(model.config)
        config.vocab_size = size
        with torch.device("meta"):
            built = type(model)(config)
        shapes.append({name: tensor.shape for name, tensor in built.state_dict().items()})
    before, after = shapes
    return {
        name: next(axis for axis, (one, other) in enumerate(zip(shape, after[name], strict=True)) if one != other)
        for name, shape in before.items()
        if shape != after[name]
    }


def named_tokens(model: PreTrainedModel) -> set[int]:
    """Return the tokens that a model's configs name and that have a row: beginnings, ends, padding, forced ones."""
    rows = require_vocabulary(model.config)
    found: set[int] = set()
    for config in _configs(model):
        for name, value in vars(config).items():
            if name.endswith(_ONE_TOKEN) or name in _MUST_STAY:
                # Of forced_decoder_ids, the first of each pair is a position.
                found.update(_flat([pair[1] for pair in value] if value and name == "forced_decoder_ids" else value))
    return {number for number in found if 0 <= number < rows}


def keep_rows(model: PreTrainedModel, rows: Sequence[int]) -> PreTrainedModel:
    """Keep some rows of a model's vocabulary, in place; what it computes from the tokens that stay is unchanged.

    Tied weights stay tied. Every number of a token in the model's configs and generation config moves along; a ban of
    tokens that are gone is dropped.

    Args:
        model: A stock model, or one with layers of unequal width or of low rank, embeddings too.
        rows: The old number of each token, in the order of the new ones.

    Returns:
        The same model.

    Raises:
        ModelError: It has no vocabulary, not these rows, a token that it needs is missing, or it counts positions from
            the number of its padding token, which would change.
    """
    before = require_vocabulary(model.config)
    numbers = {old: new for new, old in enumerate(rows)}
    _check(model, rows, numbers, before)
    _slice(model, list(rows))
    for module in model.modules():
        if getattr(module, "vocab_size", None) == before:
            module.vocab_size = len(rows)  # type: ignore[assignment]
    for config in _configs(model):
        if getattr(config, "vocab_size", None) == before:
            config.vocab_size = len(rows)
        _renumber(config, numbers, before)
    model.tie_weights()
    return model


def _check(model: PreTrainedModel, rows: Sequence[int], numbers: Mapping[int, int], before: int) -> None:
    wrong = sorted(set(rows) - set(range(before)))
    if wrong or len(numbers) < len(rows) or not rows:
        problem = f"cannot keep the rows {wrong[:5] or 'given'}: its {before} rows are counted from 0."
        raise ModelError(Fault("vocabulary", problem, "Name some of them, once each."))
    missing = sorted(named_tokens(model) - set(rows))
    if missing:
        raise ModelError(Fault("vocabulary", f"the model's configs name the tokens {missing}.", "Keep them too."))
    moved = [place for place in _counted_from(model) if numbers.get(place, place) != place or place >= len(rows)]
    if moved:
        problem = f"counts positions from the number of its padding token, {moved[0]}, which would change."
        raise ModelError(Fault("vocabulary", problem, "Keep more tokens, so that it can keep its number."))


def _counted_from(model: PreTrainedModel) -> set[int]:
    """Return the number of the padding token where a model counts positions from it; MPNet's is not its config's."""
    if not first_position(model.config):
        return set()
    found = (
        getattr(module, "padding_idx", None) for module in model.modules() if not hasattr(module, "num_embeddings")
    )
    return {number for number in found if number is not None}


def _slice(model: PreTrainedModel, rows: list[int]) -> None:
    """Take rows out of every weight that has one a token; a tied weight is the same object, and is done once."""
    import torch
    from torch import nn

    from hfcompress.modeling.low_rank_embedding import LowRankEmbedding, Tied
    from hfcompress.modeling.structure import record, structure_of, write_structure

    done = set()
    structure = structure_of(model.config)
    low_rank = []
    for name, axis in vocabulary_axes(model).items():
        place, _, attribute = name.rpartition(".")
        module = model.get_submodule(place)
        if isinstance(module, Tied) and attribute == "weight":
            continue
        if isinstance(module, LowRankEmbedding):
            low_rank.append(place)
            module = module.table
        tensor = getattr(module, attribute)
        if id(tensor) not in done:
            done.add(id(tensor))
            tensor.data = tensor.data.index_select(axis, torch.tensor(rows, device=tensor.device))
            tensor.grad = None
        if isinstance(module, nn.Embedding):
            module.num_embeddings = len(rows)
            if module.padding_idx is not None:
                module.padding_idx = rows.index(module.padding_idx) if module.padding_idx in rows else None
        elif isinstance(module, nn.Linear):
            setattr(module, "in_features" if axis else "out_features", len(rows))
    for place in low_rank:
        record(model, structure, place)
        write_structure(model.config, structure)


def _configs(model: PreTrainedModel) -> Iterator[Any]:
    """Yield a model's config, those of its parts, and how it generates, each once."""
    found: list[Any] = [part.config for part in model.modules() if hasattr(part, "config")]
    if getattr(model, "generation_config", None) is not None:
        found.append(model.generation_config)
    yield from {id(config): config for config in found}.values()


def _renumber(config: Any, numbers: Mapping[int, int], before: int) -> None:
    """Give the tokens that a config names their new numbers; numbers that never had a row stay."""

    def new(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(new, value))
        known = isinstance(value, int) and 0 <= value < before
        return numbers[value] if known else value

    for name, value in list(vars(config).items()):
        if not value and value != 0:
            continue
        if name.endswith(_ONE_TOKEN) or name == "force_words_ids":
            setattr(config, name, new(value))
        elif name in _TOKENS:
            setattr(config, name, [new(token) for token in value if token in numbers] or None)
        elif name == "bad_words_ids":
            possible = [words for words in value if all(token in numbers for token in words)]
            setattr(config, name, new(possible) or None)
        elif name == "forced_decoder_ids":
            setattr(config, name, [[place, new(token)] for place, token in value])
        elif name == "sequence_bias":
            pairs = [[list(words), bias] for words, bias in (value.items() if isinstance(value, dict) else value)]
            possible = [[new(words), bias] for words, bias in pairs if all(token in numbers for token in words)]
            setattr(config, name, possible or None)


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _flat(part)
