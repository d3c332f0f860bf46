"""The `kmeans` step: each weight matrix keeps few different values, so that a `.hfz` stores it in few bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import nn
from tqdm.auto import tqdm

from hfcompress.calibration import calibration_inputs
from hfcompress.clustering.codebooks import Codebook, Sharing, share
from hfcompress.clustering.findings import note_sharing
from hfcompress.clustering.information import weight_information
from hfcompress.clustering.one_dimension import Start
from hfcompress.clustering.shared_weights import SharedWeights
from hfcompress.config import gather, option
from hfcompress.errors import Fault, ModelError, RequestError
from hfcompress.modeling.linear import LINEAR, weight_of
from hfcompress.modeling.manifest import quantized_by
from hfcompress.modeling.targets import distinct, refuse_nan, targets_of
from hfcompress.registry import register
from hfcompress.training.alteration import AlterationConfig
from hfcompress.training.altered_step import TrainingOptions, train_altered

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from hfcompress.context import Context

Clusters = Annotated[int, Interval(ge=2, le=256)]

_TINY = 1024
"""Matrices of fewer weights stay as they are: a codebook would save next to nothing."""

_FLOOR = 0.1
"""What each weight counts beside its Fisher information, as a share of the mean: most tokens stand in no row."""


@dataclass
class SharingOptions:
    """Which weights share values, how many, and how these are found; a base of `KmeansConfig`."""

    clusters: Clusters = option(16, help="values of a weight matrix, zeros not counted, 2 to 256")
    embedding_clusters: Clusters | None = option(
        None, help="values of a table of embeddings, 2 to 256 (default: as many as clusters)"
    )
    groups: Annotated[int, Ge(1)] = option(1, help="groups of rows (output channels) with a codebook each")
    start: Start = option("linear", help="where k-means starts: linear, density or kmeans++")
    fisher: bool = option(False, help="let weights count by their Fisher information, from some training rows")
    examples: Annotated[int, Gt(0)] = option(128, help="with fisher: training rows to look at the weights with")
    outliers: Annotated[float, Interval(ge=0, le=0.1)] = option(
        0.0, help="share of each matrix, the weights farthest from zero, that stays exact, such as 0.0045"
    )
    bit_price: Annotated[float, Interval(ge=0, le=1)] = option(
        0.0, help="what a stored bit costs beside the error, as a share of the weights' variance, such as 0.02"
    )
    modules: list[str] | None = option(None, help="patterns of names of the modules that share weights; default: all")
    exclude: list[str] | None = option(None, help="patterns of names of modules that stay as they are")
    train: bool = option(False, help="train the shared values, and all that is not shared, afterwards")
    codebook_learning_rate: Annotated[float, Gt(0)] | None = option(
        None, help="with train: learning rate of the shared values (default: that of the training)"
    )


@dataclass
class KmeansConfig(TrainingOptions, SharingOptions, AlterationConfig):
    """Options of `kmeans`; with `train`, any TrainingArguments field can stand beside them."""

    def check(self) -> None:
        """Look across the fields.

        Raises:
            RequestError: The losses do not fit together, or there are options of training without `train`; all faults.
        """
        gather(self.check_losses, self._check_train)

    def _check_train(self) -> None:
        """Refuse options that would do nothing."""
        if self.train:
            return
        for_training = [*(field.name for field in fields(TrainingOptions)), "codebook_learning_rate"]
        idle = [name for name in for_training if name != "training"]
        idle = [name for name in idle if getattr(self, name) != getattr(KmeansConfig, name)]
        if idle or self.training:
            problem = f"only training uses {', '.join([*idle, *self.training])}, and train is not given."
            raise RequestError(Fault("train", problem, "Set train, or leave them out."))

    def targets(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the modules whose weights are shared, by name; of those that are tied the first.

        Raises:
            RequestError: The filters match nothing, or one side of a tie; or there is nothing but tiny matrices.
            ModelError: Weights are quantized already, or NaN or infinite.
        """
        _refuse_quantized(model)
        found = distinct(targets_of(model, None, self.modules or ["*"], self.exclude, (*LINEAR, nn.Embedding)))
        large = {name: module for name, module in found.items() if weight_of(module).numel() >= _TINY}
        if not large:
            problem = f"all matrices chosen have fewer than {_TINY} weights, which stay as they are."
            raise RequestError(Fault("modules", problem, "Choose larger ones, or a larger model."))
        refuse_nan(large)
        return large

    def sharing(self, module: nn.Module, seed: int) -> Sharing:
        """Return how a module's weights are shared."""
        tokens = isinstance(module, nn.Embedding)
        clusters = self.embedding_clusters if tokens and self.embedding_clusters else self.clusters
        return Sharing(clusters, self.groups, self.start, self.outliers, self.bit_price, seed)

    def build(self, model: PreTrainedModel) -> SharedWeights:
        """Return what `CompressionTrainer(clustering=…)` works with.

        Raises:
            RequestError: Fisher information is asked for: the Trainer has no calibration rows.
        """
        if self.fisher:
            problem = "needs calibration rows, which the Trainer does not have."
            raise RequestError(Fault("clustering.fisher", problem, "Use the step `kmeans`, or leave it out."))
        return SharedWeights(find_codebooks(self.targets(model), self), self.codebook_learning_rate)


@dataclass
class _Found(TrainingOptions):
    """What a model learns whose codebooks are found already."""

    alteration: Any = None

    def build(self, model: PreTrainedModel) -> SharedWeights:
        """Return the shared weights."""
        found: SharedWeights = self.alteration
        return found


@register("clustering", "kmeans", KmeansConfig)
def kmeans(model: PreTrainedModel, config: KmeansConfig, context: Context) -> PreTrainedModel:
    """Let the weights of each matrix share a few values, found by k-means; pruned zeros stay zero.

    Han et al. 2016, "Deep Compression", arXiv 1510.00149, section 3; with `fisher` and `outliers` Kim et al. 2023,
    "SqueezeLLM", arXiv 2306.07629; with `bit_price` Choi et al. 2017, arXiv 1612.01543. Linear layers, embeddings,
    convolutions and low-rank factors share weights; biases, norms and tiny matrices stay as they are. The checkpoint is
    a stock one of the same size: `hfcompress pack` turns it into a small file. With `train` the shared values learn.

    Args:
        model: The model; changed in place.
        config: How many values, and how they are found.
        context: Gives the rows for Fisher information.

    Raises:
        RequestError: The filters match nothing, or the options of training do not fit.
        ModelError: Weights are quantized already, or NaN or infinite.
        DataError: There are no rows to look at the weights with.
    """
    config._check_train()  # now that the options of training are there
    modules = config.targets(model)
    information: Mapping[str, Tensor] = {}
    if config.fisher:
        examples = calibration_inputs(model, context, config.examples, batch_size=1)
        shown = context.progress
        information = weight_information(model, list(modules), examples, context.task, context.seed, shown)
    books = find_codebooks(modules, config, information, context.seed, context.progress)
    note_sharing(model, modules, books, context)
    if config.train:
        taught = {field.name: getattr(config, field.name) for field in fields(TrainingOptions)}
        found = _Found(**taught, alteration=SharedWeights(books, config.codebook_learning_rate))
        return train_altered("clustering", model, found, context, "kmeans")
    with torch.no_grad():
        for name, book in books.items():
            weight_of(modules[name]).copy_(book.weight())
    return model


def find_codebooks(
    modules: Mapping[str, nn.Module],
    config: KmeansConfig,
    information: Mapping[str, Tensor] = MappingProxyType({}),
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Codebook]:
    """Return the codebook of each module's weight, by name; the weights stay as they are.

    Args:
        modules: By name.
        config: Says how they are found.
        information: Fisher information of each module's weights, where that counts.
        seed: For k-means++.
        progress: Show a bar on stderr.
    """
    bar = tqdm(modules.items(), desc="finding shared values", unit="matrix", disable=not progress)
    return {
        name: share(weight_of(module), config.sharing(module, seed), _counted(information.get(name)))
        for name, module in bar
    }


def _counted(information: Tensor | None) -> Tensor | None:
    """Return how much each weight counts: by its Fisher information, and a little in any case."""
    if information is None or not information.any():
        return None
    return information / information.mean() + _FLOOR


def _refuse_quantized(model: PreTrainedModel) -> None:
    by = quantized_by(model.config)
    if by is not None:
        fix = "Start from the float model that it was made from."
        raise ModelError(Fault("", f"the model's weights are quantized already ({by}).", fix))
