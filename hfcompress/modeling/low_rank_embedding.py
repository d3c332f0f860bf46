"""Tables of token embeddings of low rank, and the tables and heads that share their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


class LowRankTable(nn.Module):
    """What uses a table of embeddings `T Pᵀ`, held as its two factors: `rank · (tokens + width)` parameters.

    Args:
        table: `T`, `(tokens, rank)`.
        projection: `P`, from the rank to the width of what comes out.
    """

    def __init__(self, table: nn.Embedding, projection: nn.Linear) -> None:
        super().__init__()
        self.table = table
        self.projection = projection

    @property
    def num_embeddings(self) -> int:
        """How many tokens it knows."""
        return self.table.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """How wide its embeddings are."""
        return self.projection.out_features

    @property
    def rank(self) -> int:
        """How wide its table is."""
        return self.table.embedding_dim

    @property
    def padding_idx(self) -> int | None:
        """The token whose row is not trained."""
        return self.table.padding_idx

    @property
    def weight(self) -> Tensor:
        """The table that it stands for, computed anew, `(tokens, width)`."""
        return self.table.weight @ self.projection.weight.T

    @weight.setter
    def weight(self, weight: Tensor) -> None:
        """Do nothing: transformers 4 ties modules by giving one the other's weight, and these are tied already."""

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Return the table that it stands for, multiplied out in float64, `(tokens, width)`."""
        return (self.table.weight.double() @ self.projection.weight.double().T).to(self.table.weight.dtype)

    def looked_up(self, input_ids: Tensor, scale: float) -> Tensor:
        """Return embeddings `(…, width)` of tokens `(…)`, multiplied by a number."""
        values: Tensor = self.projection(self.table(input_ids))
        return values if scale == 1 else values * scale

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return its tensors; the table is there once, by the embeddings' name where they are there."""
        earlier = {_storage(value): name for name, value in (kwargs.get("destination") or {}).items()}
        found: dict[str, Any] = super().state_dict(*args, **kwargs)
        for name in _shared_names(kwargs.get("prefix", "")):
            other = earlier.get(_storage(found[name]))
            if other is not None:
                del found[other if isinstance(self, LowRankEmbedding) else name]
        return found

    def extra_repr(self) -> str:
        """Say its rank where the module is printed."""
        return f"rank={self.rank}"


class LowRankEmbedding(LowRankTable):
    """Looks a token up in a narrow table and projects what it finds.

    Args:
        num_embeddings: Tokens.
        embedding_dim: Width of what comes out.
        rank: Width of the table.
        padding_idx: The token whose row is not trained.
        scale: What the embeddings are multiplied by, as BART does.
        **place: `device` and `dtype`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rank: int,
        padding_idx: int | None = None,
        scale: float = 1.0,
        **place: Any,
    ) -> None:
        table = nn.Embedding(num_embeddings, rank, padding_idx, **place)
        super().__init__(table, nn.Linear(rank, embedding_dim, bias=False, **place))
        self.scale = scale

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return `(…, width)` for `(…)` tokens."""
        return self.looked_up(input_ids, self.scale)


class Tied(LowRankTable):
    """What uses the table of the model's embeddings.

    Its two parts are theirs, the same modules, so that both stay tied whatever is done to the parameters.

    Args:
        owner: The embeddings.
    """

    def __init__(self, owner: LowRankEmbedding) -> None:
        super().__init__(owner.table, owner.projection)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load what it has beside the table, which the embeddings load."""
        own = (self.table.weight, self.projection.weight)
        for name, tensor in zip(_shared_names(prefix), own, strict=True):
            state_dict.setdefault(name, tensor.detach())
        super()._load_from_state_dict(state_dict, prefix, *args)


class TiedEmbedding(Tied):
    """Embeddings of the tokens of a second stack.

    Args:
        owner: The embeddings that have the weights.
        scale: What they are multiplied by here.
    """

    def __init__(self, owner: LowRankEmbedding, scale: float = 1.0) -> None:
        super().__init__(owner)
        self.scale = scale

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return `(…, width)` for `(…)` tokens."""
        return self.looked_up(input_ids, self.scale)


class TiedHead(Tied):
    """Logits of all tokens by the embeddings' own weights: `T (Pᵀ h) + b`.

    Args:
        owner: The embeddings that have the weights.
        bias: Its own bias, `(tokens,)`.
    """

    def __init__(self, owner: LowRankEmbedding, bias: nn.Parameter | None = None) -> None:
        super().__init__(owner)
        self.bias: nn.Parameter | None
        self.register_parameter("bias", bias)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return `(…, tokens)` for `(…, width)`."""
        narrow = functional.linear(hidden_states, self.projection.weight.T)
        return functional.linear(narrow, self.table.weight, self.bias)


def low_rank_embedding_like(
    module: nn.Module, rank: int, tokens: int | None = None, width: int | None = None
) -> LowRankEmbedding:
    """Return embeddings of low rank in the place of a table, their weights not set.

    Args:
        module: `nn.Embedding`, with or without a scale.
        rank: The rank.
        tokens: How many there are; as many as the table has by default.
        width: How wide its embeddings are; as the table's by default.

    Raises:
        ValueError: The module is no such table, or it has other tokens or a smaller width.
    """
    if not is_table(module):
        raise ValueError(f"{type(module).__name__} is no plain table of embeddings")
    tokens, width = tokens or module.num_embeddings, width or module.embedding_dim
    if tokens != module.num_embeddings or width > module.embedding_dim:
        raise ValueError(f"{[tokens, width]} does not fit {[module.num_embeddings, module.embedding_dim]}")
    weight = module.weight
    place = {"device": weight.device, "dtype": weight.dtype}
    layer = LowRankEmbedding(tokens, width, rank, module.padding_idx, _scale_of(module), **place)
    return layer.train(module.training)


def tied_like(module: nn.Module, owner: LowRankEmbedding) -> nn.Module:
    """Return what takes the place of a table or a head that had the same weight as the embeddings.

    Raises:
        ValueError: The module is neither.
    """
    tied: nn.Module
    if is_table(module):
        tied = TiedEmbedding(owner, _scale_of(module))
    elif isinstance(module, nn.Linear):
        tied = TiedHead(owner, module.bias)
    else:
        raise ValueError(f"{type(module).__name__} is neither a plain table of embeddings nor a head")
    return tied.train(module.training)


def is_table(module: nn.Module) -> TypeGuard[nn.Embedding]:
    """Say whether a module is a table of embeddings and nothing more, but for a scale."""
    return type(module) is nn.Embedding or (
        isinstance(module, nn.Embedding) and isinstance(getattr(module, "embed_scale", None), float)
    )


def _scale_of(module: nn.Module) -> float:
    return float(getattr(module, "embed_scale", 1.0))


def _shared_names(prefix: str) -> tuple[str, str]:
    return f"{prefix}table.weight", f"{prefix}projection.weight"


def _storage(value: Any) -> int | None:
    """Say where a tensor's numbers are; also of one without any, on the meta device."""
    return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None
