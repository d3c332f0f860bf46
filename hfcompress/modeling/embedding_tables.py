"""Putting low-rank embeddings in the place of a model's table of tokens and of all that is tied to it, and back."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.building import build_model
from hfcompress.modeling.low_rank_embedding import (
    LowRankEmbedding,
    LowRankTable,
    Tied,
    is_table,
    low_rank_embedding_like,
    tied_like,
)
from hfcompress.modeling.resize import fit_sizes
from hfcompress.modeling.structure import (
    Structure,
    apply_structure,
    record,
    relative_name,
    structure_of,
    write_structure,
)
from hfcompress.modeling.surgery import put

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Ties = list[list[str]]
"""Names of modules that have one weight in common, group by group."""


def token_table(model: PreTrainedModel) -> str:
    """Return the name of a model's table of token embeddings.

    Raises:
        ModelError: It has none, one of low rank already, or one that does more than to look up; or the weights are not
            tied as its config says.
    """
    try:
        table: Any = model.get_input_embeddings()
    except NotImplementedError:
        table = None
    if isinstance(table, LowRankEmbedding):
        fix = "Multiply them out first: hfcompress.merge(model)."
        raise ModelError(Fault("model", "its token embeddings are of low rank already.", fix))
    if not isinstance(table, nn.Module) or not is_table(table):
        kind = "has no token embeddings" if table is None else f"its input embeddings are a {type(table).__name__}"
        raise ModelError(Fault("model", f"{kind}: there is no table to factorize.", "Choose a model of text."))
    name = next(name for name, module in model.named_modules() if module is table)
    _refuse_other_ties(model, name)
    return name


def tied_to(model: PreTrainedModel, name: str) -> list[str]:
    """Return the names of the other tables and heads with a table's weight, tied or the same module."""
    return [other for group in _ties(model) if name in group for other in group if other != name]


@torch.no_grad()
def put_embedding(model: PreTrainedModel, name: str, table: Tensor, projection: Tensor) -> PreTrainedModel:
    """Put low-rank embeddings in the place of a table; what is tied to it stays tied.

    Args:
        model: Changed in place; make optimizers afterwards.
        name: Of the table.
        table: `(tokens, rank)`.
        projection: `(width, rank)`.

    Returns:
        The model; its config carries what it takes to load it again.
    """
    structure, ties = structure_of(model.config), _ties(model)
    layer = low_rank_embedding_like(model.get_submodule(name), table.shape[1])
    layer.table.weight.copy_(table)
    layer.projection.weight.copy_(projection)
    put(model, name, layer)
    _tie(model, ties)
    record(model, structure, name)
    write_structure(model.config, structure)
    return model


def rebuild(model: PreTrainedModel) -> None:
    """Rebuild the layers of a model that was built from its config alone, as its manifest says, and tie what is tied.

    Raises:
        ModelError: The manifest does not fit the model.
    """
    model.tie_weights()
    ties = _ties(model) + _ties_by_name(model)
    apply_structure(model)
    _tie(model, ties)
    model.tie_weights()  # transformers 4 finds out here which weights the file need not hold


@torch.no_grad()
def merge_embeddings(model: PreTrainedModel, structure: Structure) -> None:
    """Multiply low-rank embeddings out: one table again, tied as it was.

    Args:
        model: Changed in place.
        structure: Its manifest, changed.
    """
    owners = {name: module for name, module in model.named_modules() if isinstance(module, LowRankEmbedding)}
    if not owners:
        return
    stock = _stock(model, Structure())
    for name, owner in owners.items():
        weight = nn.Parameter(owner.dense())
        stock_shape = tuple(stock.get_parameter(f"{name}.weight").shape)
        for place in _users(model, owner):
            module, bias = stock.get_submodule(place), getattr(model.get_submodule(place), "bias", None)
            module.weight = weight
            fit_sizes(module)
            if bias is not None:
                module.bias = bias
            put(model, place, module)
        record(model, structure, name)
        if tuple(weight.shape) == stock_shape:
            del structure.modules[relative_name(model, name)]
    for name, part in _parts(stock):
        _copy_ties(part, model.get_submodule(name))
    model.tie_weights()


def _refuse_other_ties(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that would be tied otherwise when it is loaded again.

    Raises:
        ModelError: The weights are not tied as its config says.
    """
    stock = _stock(model, structure_of(model.config))
    expected, found = set(tied_to(stock, name)), set(tied_to(model, name))
    if expected != found:
        where = ", ".join(sorted(expected ^ found))
        problem = f"its config says that {where} and {name} are {'not ' if found - expected else ''}tied; they are."
        if expected - found:
            problem = f"its config says that {where} and {name} are tied, but their weights are two."
        fix = "Set config.tie_word_embeddings to what the weights are, or tie them: model.tie_weights()."
        raise ModelError(Fault("model", problem, fix))


def _stock(model: PreTrainedModel, structure: Structure) -> PreTrainedModel:
    """Build a model's modules without memory for weights."""
    config = copy.deepcopy(model.config)
    write_structure(config, structure)
    with torch.device("meta"):
        return build_model(type(model), config)


def _ties(model: PreTrainedModel) -> Ties:
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Embedding | nn.Linear):
            names[id(module.weight)].append(name)
    return [group for group in names.values() if len(group) > 1]


def _ties_by_name(model: Any) -> Ties:
    """Return what transformers 5 will tie; while it loads a model, `tie_weights` does nothing yet."""
    if not hasattr(model, "get_expanded_tied_weights_keys"):
        return []
    groups: dict[str, list[str]] = {}
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if source.endswith(".weight"):
            group = groups.setdefault(source, [source.removesuffix(".weight")])
            group.append(target.removesuffix(".weight"))
    return list(groups.values())


def _tie(model: PreTrainedModel, ties: Ties) -> None:
    """Let what had a weight in common with a table that is of low rank now use that."""
    for group in ties:
        modules = {name: model.get_submodule(name) for name in group}
        owner = next((module for module in modules.values() if isinstance(module, LowRankEmbedding)), None)
        for name, module in modules.items():
            if owner is not None and module is not owner and not isinstance(module, Tied):
                put(model, name, tied_like(module, owner))
    if any(isinstance(module, LowRankEmbedding) for module in model.modules()):
        for _, part in _parts(model):
            _leave_out(part)


def _leave_out(part: Any) -> None:
    """Take low-rank embeddings out of what transformers 5 ties by the names of parameters."""
    if not hasattr(part, "all_tied_weights_keys"):
        return
    known = part._tied_weights_keys or {}
    kept = {target: source for target, source in known.items() if not _is_low_rank(part, source)}
    if kept != known:
        part._tied_weights_keys = kept
    part.all_tied_weights_keys = part.get_expanded_tied_weights_keys(all_submodels=True)


def _is_low_rank(part: PreTrainedModel, parameter: str) -> bool:
    """Say whether a parameter's name is that of the weight of low-rank embeddings."""
    place = parameter.removesuffix(".weight")
    return any(name == place and isinstance(module, LowRankTable) for name, module in part.named_modules())


def _copy_ties(source: PreTrainedModel, target: Any) -> None:
    for name in ("_tied_weights_keys", "all_tied_weights_keys"):
        if name in vars(source):
            setattr(target, name, getattr(source, name))
        elif name in vars(target):
            delattr(target, name)


def _parts(model: PreTrainedModel) -> Iterator[tuple[str, PreTrainedModel]]:
    """Yield a model and the models inside it, the innermost first."""
    from transformers import PreTrainedModel

    found = [(name, module) for name, module in model.named_modules() if isinstance(module, PreTrainedModel)]
    yield from reversed(found)


def _users(model: PreTrainedModel, owner: LowRankEmbedding) -> Sequence[str]:
    """Return the names of low-rank embeddings and of all that is tied to them."""
    modules = model.named_modules(remove_duplicate=False)
    return [name for name, module in modules if isinstance(module, LowRankTable) and module.table is owner.table]
