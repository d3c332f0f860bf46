"""Means and second moments of what goes into a model's layers or comes out, over many batches, without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.nn import functional

from hfcompress.errors import DataError, Fault, ModelError
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.linear import is_convolution

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Side = Callable[[Any, Any, Any], Any]
"""`(module, args, output) -> values` that are looked at."""


class Moments:
    """Count, mean and second moment of the vectors seen so far, summed in float64.

    Args:
        name: Of what the vectors are, for messages.
        products: Whether to keep the products of every two numbers too, and not only the squares: `(width, width)`.

    Attributes:
        count: How many vectors were added.
    """

    def __init__(self, name: str = "", products: bool = True) -> None:
        self.name = name
        self.count = 0
        self._keeps_products = products
        self._sum: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take more vectors `(count, width)` into account.

        Raises:
            ModelError: Some number is NaN or infinite.
        """
        check_finite(values, self.name)
        # Apple's GPUs have no float64.
        values = values.detach().to("cpu" if values.device.type == "mps" else values.device).double()
        self.count += len(values)
        self._sum = self._sum + values.sum(dim=0)
        self._second = self._second + (values.T @ values if self._keeps_products else values.square().sum(dim=0))

    @property
    def mean(self) -> Tensor:
        """The mean `(width,)`."""
        return self._over_count(self._sum)

    @property
    def second_moment(self) -> Tensor:
        """The mean of `x xᵀ`, `(width, width)`; without products that of `x²`, `(width,)`."""
        return self._over_count(self._second)

    @property
    def squares(self) -> Tensor:
        """The mean of `x²`, `(width,)`."""
        return self.second_moment.diagonal() if self._keeps_products else self.second_moment

    def covariance(self) -> Tensor:
        """Return the mean of `(x - mean)(x - mean)ᵀ`, `(width, width)`."""
        return self.second_moment - torch.outer(self.mean, self.mean)

    def _over_count(self, total: Tensor | float) -> Tensor:
        """Divide a sum by the count.

        Raises:
            DataError: Nothing was added.
        """
        if not isinstance(total, torch.Tensor) or not self.count:
            problem = f"no token of the calibration rows reaches '{self.name}'."
            raise DataError(Fault("examples", problem, "Give rows with text in them."))
        return total / self.count


def check_finite(values: Tensor, name: str) -> None:
    """Check what a module meets while a model runs on calibration rows.

    Raises:
        ModelError: Some number is NaN or infinite; the module is named.
    """
    if not torch.isfinite(values).all():
        problem = f"'{name}' meets values that are NaN or infinite when the model runs on the calibration rows."
        raise ModelError(Fault(name, problem, "Check its weights, or use float32 instead of half precision."))


@torch.no_grad()
def check_answers(model: nn.Module, outputs: Any, batch: Mapping[str, Any]) -> None:
    """Check what a model answers to a batch; where it is no number, run it again to find out where that begins.

    Raises:
        ModelError: Some number is NaN or infinite; the first layer to give such is named.
    """
    found = outputs.get("logits")
    answers = next(iter(outputs.values())) if found is None else found
    if torch.isfinite(answers).all():
        return
    wrong: list[str] = []
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            if not wrong and isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
                wrong.append(name)

        if not any(module.children()):
            handles.append(module.register_forward_hook(note))
    try:
        model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    place = wrong[0] if wrong else type(model).__name__
    problem = f"'{place}' gives values that are NaN or infinite when the model runs on the calibration rows."
    raise ModelError(Fault(place, problem, "Check its weights, or use float32 instead of half precision."))


def input_moments(
    model: PreTrainedModel,
    names: Iterable[str],
    mask: Tensor | None = None,
    products: bool = True,
    patches: bool = False,
) -> AbstractContextManager[dict[str, Moments]]:
    """Collect the moments of what goes into some modules, as long as the `with` lasts.

    Args:
        model: The model; it may run on as many batches as one likes.
        names: Modules, by their names in it.
        mask: Which tokens count `(batch, seq)`; None takes the masks that the model is called with.
        products: Whether to keep products, or only squares.
        patches: Whether the vectors of a convolution are all that its kernel reads at once, `channels · height · width`
            of its weight's order, and not the channels at one place.

    Returns:
        A context manager that gives `Moments` by module.

    Example:
        >>> with input_moments(model, ["bert.encoder.layer.0.output.dense"]) as moments:  # doctest: +SKIP
        ...     for batch in batches:
        ...         model(**batch)
    """
    return _moments(model, names, mask, products, _patches if patches else _inputs)


def output_moments(
    model: PreTrainedModel, names: Iterable[str], mask: Tensor | None = None, products: bool = True
) -> AbstractContextManager[dict[str, Moments]]:
    """Collect the moments of what comes out of some modules; as `input_moments` otherwise."""
    return _moments(model, names, mask, products, _outputs)


@contextmanager
def _moments(
    model: PreTrainedModel, names: Iterable[str], mask: Tensor | None, products: bool, side: Side
) -> Iterator[dict[str, Moments]]:
    found = {name: Moments(name, products) for name in names}
    current = {"own": mask, "encoder": mask, "decoder": mask}

    def note_masks(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if mask is None:
            current.update(token_masks(model, kwargs))

    handles = [model.register_forward_pre_hook(note_masks, with_kwargs=True)]
    for name, moments in found.items():
        handles.append(_listen(model, name, moments, current, side))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _listen(model: PreTrainedModel, name: str, moments: Moments, masks: dict[str, Tensor | None], side: Side) -> Any:
    """Add all that passes one side of a module to its moments."""
    reads = tokens_read(model, name)

    def hear(module: nn.Module, args: Any, output: Any) -> None:
        moments.add(counted(side(module, args, output), masks[reads], is_convolution(module)))

    return model.get_submodule(name).register_forward_hook(hear)


def _inputs(module: nn.Module, args: Any, output: Any) -> Tensor:
    values: Tensor = args[0]
    return values


def _outputs(module: nn.Module, args: Any, output: Any) -> Tensor:
    values: Tensor = output[0] if isinstance(output, tuple) else output
    return values


def _patches(module: nn.Module, args: Any, output: Any) -> Tensor:
    """Return what a convolution's kernel reads at each place `(batch, channels · height · width, places)`."""
    values = _inputs(module, args, output)
    if not isinstance(module, nn.Conv2d) or module.kernel_size == module.stride == (1, 1):
        return values
    padding = 0 if module.padding == "valid" else module.padding
    return functional.unfold(values, module.kernel_size, module.dilation, padding, module.stride)  # type: ignore[arg-type]


def token_masks(model: PreTrainedModel, batch: dict[str, Any]) -> dict[str, Tensor | None]:
    """Return which tokens of a batch count, `(batch, seq)`, for the encoder's modules and for the decoder's.

    A decoder without a mask counts its tokens up to the padding. Its first token always counts, since some families
    begin with the padding token. Where it is given none at all, it reads the encoder's, one place later.
    """
    own, decoder = batch.get("attention_mask"), batch.get("decoder_attention_mask")
    ids, padding = batch.get("decoder_input_ids"), getattr(model.config, "pad_token_id", None)
    if decoder is None and ids is not None and padding is not None:
        decoder = ids != padding
        decoder[:, 0] = True
    elif decoder is None and ids is None and own is not None:
        decoder = torch.cat([torch.ones_like(own[:, :1]), own[:, :-1]], dim=1)
    return {"encoder": own, "decoder": decoder}


def tokens_read(model: PreTrainedModel, name: str) -> Literal["encoder", "decoder"]:
    """Say whose tokens a module reads.

    Keys and values of a decoder's cross-attention read the encoder's; what stands behind the decoder, the decoder's.
    """
    stacks = stacks_of(model) if model.config.is_encoder_decoder else []
    if len(stacks) < 2:
        return "encoder"
    base = "" if model.base_model is model else f"{model.base_model_prefix}."
    encoder, decoder = (blocks for blocks, _ in stacks)
    if name.startswith(f"{base}{encoder.layers.partition('.')[0]}."):
        return "encoder"
    inside = name.removeprefix(f"{base}{decoder.layers}.").partition(".")[2]
    return "encoder" if inside in decoder.cross_attention[1:3] else "decoder"


def counted(values: Tensor, mask: Tensor | None, channels_first: bool = False) -> Tensor:
    """Return the vectors that count as one list `(count, width)`.

    Args:
        values: `(batch, seq, width)`, or of any other form whose last dimension is the width.
        mask: Which tokens count `(batch, seq)`. Values of another batch or length all count: they are no tokens' own.
        channels_first: The width stands second, as convolutions have it.
    """
    if channels_first:
        values = values.movedim(1, -1)
    if mask is not None and values.dim() == 3 and values.shape[:2] == mask.shape:
        return values[mask.to(values.device).bool()]
    return values.reshape(-1, values.shape[-1])
