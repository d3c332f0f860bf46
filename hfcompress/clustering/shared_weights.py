"""Shared weights while a model is trained: the values of the codebooks learn, which weight has which value is fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfcompress.clustering.codebooks import Codebook
from hfcompress.errors import Fault, RequestError
from hfcompress.modeling.linear import weight_of
from hfcompress.training.alteration import Alteration
from hfcompress.training.substitutes import Substitutes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SharedWeights(Alteration):
    """Lets modules compute with their codebooks, whose centroids are trained.

    The gradient of a centroid is the sum of the gradients of its weights (Han et al. 2016, arXiv 1510.00149, section
    3.3). Zeros stay zero, and what stays exact stays as it is. Biases, norms and tiny matrices are trained, too.

    Args:
        books: The codebooks, by the module's name.
        learning_rate: Of the centroids; None for that of the training.
    """

    def __init__(self, books: Mapping[str, Codebook], learning_rate: float | None = None) -> None:
        self.books = dict(books)
        self.learning_rate = learning_rate
        # The zero at the front is not trained.
        self._centroids = nn.ParameterList([nn.Parameter(book.values[1:].clone()) for book in books.values()])
        self.learned = nn.ModuleDict({"centroids": self._centroids})
        self._modules: dict[str, nn.Module] = {}

    def attach(self, model: PreTrainedModel) -> None:
        """Let the modules compute with the codebooks from now on."""
        self._modules = {name: model.get_submodule(name) for name in self.books}
        self._substitutes = Substitutes(model, [f"{name}.weight" for name in self.books])
        self._substitute()

    def _substitute(self) -> None:
        for (name, book), centroids in zip(self.books.items(), self._centroids, strict=True):
            self._substitutes.by_name[f"{name}.weight"] = _Reading(book, centroids)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the centroids, which no weight decay pulls towards zero."""
        rate = {} if self.learning_rate is None else {"lr": self.learning_rate}
        return [{"params": list(self._centroids), "weight_decay": 0.0, **rate}]

    def state(self) -> dict[str, Tensor]:
        """Return centroids, places, and the weights that stay exact, by module."""
        found: dict[str, Tensor] = {}
        for (name, book), centroids in zip(self.books.items(), self._centroids, strict=True):
            found[f"{name}.centroids"] = centroids.detach()
            found[f"{name}.places"] = book.places.to(torch.uint8) if len(book.values) <= 256 else book.places
            found |= {f"{name}.exact": book.exact, f"{name}.kept": book.kept}
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the codebooks of a checkpoint.

        Raises:
            RequestError: They are of other weights, or of other sizes.
        """
        own = self.state()
        wrong = [name for name in own if name.endswith(("centroids", "places")) and not _alike(own, state, name)]
        if wrong or own.keys() != state.keys():
            fix = "Give the options that the run began with, or begin anew in another folder."
            raise RequestError(Fault("clustering", "the checkpoint holds codebooks of other weights.", fix))
        with torch.no_grad():
            for (name, book), centroids in zip(self.books.items(), self._centroids, strict=True):
                centroids.copy_(state[f"{name}.centroids"])
                book.places = state[f"{name}.places"].to(book.places)
                book.exact, book.kept = state[f"{name}.exact"].to(book.exact), state[f"{name}.kept"].to(book.kept)
        self._substitute()

    @torch.no_grad()
    def finish(self) -> None:
        """Make the codebooks true of the weights."""
        self._substitutes.remove()
        for (name, book), centroids in zip(self.books.items(), self._centroids, strict=True):
            book.values[1:] = centroids.to(book.values)
            weight_of(self._modules[name]).copy_(book.weight())


def _alike(own: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str) -> bool:
    return name in other and own[name].shape == other[name].shape


class _Reading:
    """Returns the weight that a codebook stands for; gradients flow to its centroids.

    Args:
        book: The codebook.
        centroids: Its values, but for the zero at the front.
    """

    def __init__(self, book: Codebook, centroids: Tensor) -> None:
        self.places, self.exact, self.kept = book.places, book.exact, book.kept
        self.centroids = centroids

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the weight in the place of the dense one."""
        if self.places.device != weight.device:
            self.places, self.exact, self.kept = (one.to(weight.device) for one in (self.places, self.exact, self.kept))
        values = torch.cat([self.centroids.new_zeros(1), self.centroids]).to(weight)
        found: Tensor = _Gather.apply(values, self.places)
        if len(self.exact):
            found = found.flatten().index_copy(0, self.exact, self.kept).view_as(weight)
        return found


class _Gather(torch.autograd.Function):
    """`values[places]`; its gradient is summed in one pass, which PyTorch's own does weight by weight."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        """Return a value for each place, in the places' shape."""
        ctx.save_for_backward(places)
        ctx.count = len(values)
        return values.index_select(0, places.flatten()).view(places.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the sum of the gradients of each value's weights, added up in float64."""
        (places,), (gradient,) = ctx.saved_tensors, gradients
        sums = torch.bincount(places.flatten(), weights=gradient.flatten().double(), minlength=ctx.count)
        return sums.to(gradient.dtype), None
