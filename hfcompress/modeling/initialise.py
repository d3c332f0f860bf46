"""A student's first weights from its teacher: embeddings projected, layers and heads copied where they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfcompress.errors import ModelError
from hfcompress.modeling.blocks import Blocks
from hfcompress.modeling.families import stacks_of
from hfcompress.modeling.layer_patterns import fitting_layers
from hfcompress.modeling.presets import first_position, reads_images
from hfcompress.modeling.projections import attention_heads, key_value_heads

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_POSITIONS = ("position_embeddings", "wpe", "embed_positions")
_SEGMENTS = ("token_type_embeddings",)


def initialise_from_teacher(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Start a randomly initialised student from its teacher, in place.

    Embeddings are projected (`project_embeddings`). Layers are copied by even selection where their sizes and numbers
    of heads agree: all of them, or none. What stands outside the layers (norms, pooler, the task's head) is copied
    where name and shape agree. The rest stays random. Tied weights stay tied.

    Args:
        student: Reads the teacher's tokens, or images of the same size.
        teacher: It is left as it is.
    """
    import torch

    with torch.no_grad():
        _copy_outside_layers(student, teacher)
        project_embeddings(student, teacher)
        _copy_layers(student, teacher)
    student.tie_weights()


def project_embeddings(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Fill a student's embeddings of words, positions and segments from its teacher's, in place.

    Where the student is narrower, a teacher's embedding `x` becomes `x V`: V, `(teacher width, student width)`, holds
    the leading right singular vectors of the teacher's word embeddings `W = U S V'`. Among all projections this one
    changes the dot products `W W'` least (Eckart and Young, 1936), and not at all where W has no higher rank than the
    student's width.

    V is the same for all tables, because a model adds a word's, a position's and a segment's embedding: a shared linear
    map sends the sum to the sum. For the same reason W is not centred: a mean would have to be taken off once from the
    sum, not from each part; and the direction that all words share makes up most of their dot products.

    A student as wide gets copies, a wider one copies beside zeros. A table of another width than the teacher's words
    (it does not live in their space) is left out, and so is one that is never trained (sines and cosines).
    """
    ours, theirs = _words(student), _words(teacher)
    if ours is None or theirs is None:
        return
    basis = singular_vectors(theirs) if ours.shape[1] < theirs.shape[1] else None
    _fill(ours, theirs, basis)
    for names, is_position in ((_POSITIONS, True), (_SEGMENTS, False)):
        table, source = _table(student, names), _table(teacher, names)
        if table is not None and source is not None and source.shape[1] == theirs.shape[1]:
            start, begin = (_first_row(student), _first_row(teacher)) if is_position else (0, 0)
            _fill(table[start:], source[begin:], basis)


def singular_vectors(table: Tensor) -> Tensor:
    """Return the right singular vectors of a table `(rows, width)` as columns, the leading one first, in float64.

    They are eigenvectors of the table's `(width, width)` second moments, which is quick however many rows there are.
    """
    import torch

    exact = table.detach().double().cpu()
    return torch.linalg.eigh(exact.T @ exact).eigenvectors.flip(1)


def _fill(table: Tensor, source: Tensor, basis: Tensor | None) -> None:
    """Write a teacher's rows into a student's table: projected, or copied beside zeros."""
    rows, width = min(len(table), len(source)), min(table.shape[1], source.shape[1])
    values = source[:rows] if basis is None else source[:rows].double().cpu() @ basis[:, :width]
    table[:rows] = 0
    table[:rows, :width] = values.to(table.device, table.dtype)


def _words(model: PreTrainedModel) -> Tensor | None:
    """Return the embeddings of words, or None of a model that takes images."""
    return None if reads_images(model.config) else model.get_input_embeddings().weight.detach()  # type: ignore[operator]


def _table(model: PreTrainedModel, names: tuple[str, ...]) -> Tensor | None:
    from torch import nn

    for name, module in model.base_model.named_modules():
        if name.endswith(names) and isinstance(module, nn.Embedding) and module.weight.requires_grad:
            return module.weight.detach()
    return None


def _first_row(model: PreTrainedModel) -> int:
    """Return the row of the first token's position; BART's table has two rows more than its config says."""
    return 2 if model.config.model_type == "bart" else first_position(model.config)


def _copy_outside_layers(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Copy what has the same name and shape in both and belongs to no layer; a base model's own prefix is ignored."""
    source = _outside_layers(teacher)
    for name, tensor in _outside_layers(student).items():
        if name in source and source[name].shape == tensor.shape:
            tensor.copy_(source[name])
    ours, theirs = (getattr(model.get_output_embeddings(), "bias", None) for model in (student, teacher))
    if ours is not None and theirs is not None and ours.shape == theirs.shape:
        ours.copy_(theirs)


def _outside_layers(model: PreTrainedModel) -> dict[str, Tensor]:
    try:
        lists = {id(layers) for _, layers in stacks_of(model)}
    except ModelError:  # a student may be of any architecture
        lists = set()
    places = tuple(f"{name}." for name, module in model.named_modules() if id(module) in lists)
    base = f"{model.base_model_prefix}."
    return {
        name.removeprefix(base): tensor for name, tensor in model.state_dict().items() if not name.startswith(places)
    }


def _copy_layers(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    try:
        pairs = zip(stacks_of(student), stacks_of(teacher), strict=False)
        same_heads = _heads(student) == _heads(teacher)
    except ModelError:  # no row in the block table, or no attention
        return
    for (ours, to), (theirs, origin) in pairs:
        differently_shared = ours.shared != theirs.shared or (ours.shared and len(to) != len(origin))
        if differently_shared or len(to) > len(origin) or not same_heads:
            continue
        layers = fitting_layers(len(to), teacher.config, len(origin))
        copies = [_matched(ours, layer, theirs, origin[number]) for layer, number in zip(to, layers, strict=True)]
        if all(copies):
            for target, value in (pair for copy in copies for pair in copy):
                target.copy_(value)
            for name in ours.first_layer if ours == theirs else ():
                to[0].get_submodule(name).load_state_dict(origin[0].get_submodule(name).state_dict())


def _heads(model: PreTrainedModel) -> tuple[int, int]:
    return attention_heads(model.config), key_value_heads(model.config)


def _matched(ours: Blocks, layer: nn.Module, theirs: Blocks, source: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Pair each weight of a layer with that of the same role in a teacher's layer; empty where one has no partner."""
    to, origin = _by_role(ours, layer), _by_role(theirs, source)
    if to.keys() != origin.keys() or any(to[role].shape != origin[role].shape for role in to):
        return []
    return [(to[role], origin[role]) for role in to]


def _by_role(blocks: Blocks, layer: nn.Module) -> dict[str, Tensor]:
    """Name a layer's weights by what they do, as all families do: `attention 0.weight`, `norm 1.bias`."""
    roles = {name: f"attention {number}" for number, name in enumerate(blocks.attention)}
    roles |= {name: f"ffn {number}" for number, name in enumerate(blocks.ffn_layers)}
    weights: dict[str, Tensor] = {}
    norms = 0
    for module_name, module in layer.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own or module_name in blocks.first_layer:
            continue
        if module_name not in roles:
            roles[module_name], norms = f"norm {norms}", norms + 1
        weights |= {f"{roles[module_name]}.{name}": tensor for name, tensor in own.items()}
    return weights
