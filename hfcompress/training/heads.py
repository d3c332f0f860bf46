"""A language model's last layer set apart, so that its logits are computed only where and when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch import Tensor, nn

from hfcompress.tasks.language_modeling import in_chunks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BIAS = "final_logits_bias"
"""The buffer that BART and its kin add to the logits outside the head."""


class DeferredHead:
    """The output layer of a language model, which can be told to wait.

    Logits `(batch, seq, vocabulary)` are by far the largest tensor of a small language model's training step. With the
    head deferred, `outputs.logits` is what the head reads, `(batch, seq, width)`; calling this object on chosen rows of
    it gives the logits that the model would have given there.

    It serves models that are whole on each process, also inside DDP; parameters that are sharded (FSDP, DeepSpeed ZeRO
    stage 3) are present only inside the model's own forward pass.

    Args:
        model: The model, not wrapped.
        module: Its output layer.
        vocabulary: How many logits that gives.

    Example:
        >>> head = DeferredHead.of(model)  # doctest: +SKIP
        >>> with head.deferred():  # doctest: +SKIP
        ...     hidden = model(**batch).logits.flatten(0, 1)
        >>> parts = [head(hidden[part]) for part in head.in_chunks(len(hidden))]  # doctest: +SKIP
    """

    def __init__(self, model: PreTrainedModel, module: nn.Module, vocabulary: int) -> None:
        self.model = model
        self.module = module
        self.vocabulary = vocabulary
        self._autocast: tuple[bool, torch.dtype] | None = None

    @classmethod
    def of(cls, model: nn.Module) -> DeferredHead | None:
        """Return the head of a model, or None where it has none, or one that is not the last thing that happens.

        Gemma 2 squeezes its logits and Cohere scales them after the head: such models are found by trying, whatever
        their class, and are left as they are.
        """
        from accelerate.utils import extract_model_from_parallel

        inner: Any = extract_model_from_parallel(model)
        module = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
        if not isinstance(module, nn.Module) or inner.main_input_name != "input_ids":
            return None
        vocabulary = _logits_if_last(inner, module)
        return None if vocabulary is None else cls(inner, module, vocabulary)

    def __call__(self, rows: Tensor) -> Tensor:
        """Turn rows of what the head reads, `(rows, width)`, into logits `(rows, vocabulary)`."""
        with ExitStack() as stack:
            if self._autocast is not None:
                enabled, dtype = self._autocast
                stack.enter_context(torch.autocast(rows.device.type, dtype=dtype, enabled=enabled))
            logits = self.module(rows)
        bias = getattr(self.model, _BIAS, None)
        return logits if bias is None else logits + bias.to(logits.device)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the model give what the head reads in place of logits; it must not be given labels meanwhile."""

        def wait(hidden: Tensor) -> Tensor:
            # Some wrappers of the model's forward pass turn autocast on inside it only.
            device = hidden.device.type
            self._autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
            return hidden + _nothing_of(self.module, hidden) if torch.distributed.is_initialized() else hidden

        with _replaced(self.module, wait), _without_bias(self.model):
            yield

    def in_chunks(self, rows: int) -> list[slice]:
        """Return the parts in which so many rows of logits are computed: each of at most 2²⁴ numbers, or one row."""
        return in_chunks(rows, self.vocabulary)


def _nothing_of(module: nn.Module, like: Tensor) -> Tensor:
    """Return a zero that depends on all of a module's parameters.

    DDP takes parameters that the forward pass does not reach for unused, and fails when they get a gradient after all.
    """
    return torch.stack([parameter.flatten()[:0].sum() for parameter in module.parameters()]).sum().to(like.dtype)


@contextmanager
def _replaced(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace a module's forward pass for a while; one that was replaced before (by accelerate) is put back."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


@contextmanager
def _without_bias(model: nn.Module) -> Iterator[None]:
    """Make the bias on logits a scalar zero for a while, which can be added to anything."""
    buffers = model._buffers
    bias = buffers.get(_BIAS)
    if bias is not None:
        buffers[_BIAS] = bias.new_zeros(())
    try:
        yield
    finally:
        if bias is not None:
            buffers[_BIAS] = bias


@torch.no_grad()
def _logits_if_last(model: Any, module: nn.Module) -> int | None:
    """Return how many logits the module gives, if the model passes on whatever it gives; None otherwise.

    The module is made to give large random numbers, and then what it reads: both must come out of the model untouched.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (2, 3), generator=generator).to(model.device)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens
    given: list[Tensor] = []
    head = module.forward

    def noise(hidden: Tensor) -> Tensor:
        logits = head(hidden)
        given.append(100 * torch.randn(logits.shape, generator=generator).to(logits))
        return given[-1]

    def nothing(hidden: Tensor) -> Tensor:
        given.append(hidden)
        return hidden

    with _evaluating(model):
        widths = []
        for forward in (noise, nothing):
            given.clear()
            with _replaced(module, forward), _without_bias(model):
                logits = model(**inputs).get("logits")
            if len(given) != 1 or not _are_same(given[0], logits) or given[0].shape[:2] != tokens.shape:
                return None
            widths.append(given[0].shape[-1])
    return widths[0]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _are_same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
