"""The structure manifest: what a model's config cannot say of its layers, kept in `config.quantization_config`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from transformers.utils.quantization_config import QuantizationConfigMixin

from hfcompress.errors import Fault, ModelError
from hfcompress.modeling.emptied import Emptied
from hfcompress.modeling.families import FAMILIES, name_here
from hfcompress.modeling.groups import Place, attention_of, head_width, places_of, set_head_width
from hfcompress.modeling.kinds import KINDS, entry_of, is_size
from hfcompress.modeling.linear import channels_in
from hfcompress.modeling.low_rank import whole_name
from hfcompress.modeling.manifest import METHOD, is_bitsandbytes, is_manifest
from hfcompress.modeling.position_bias import pick_heads

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

FORMAT = 1

_COUNTERS = ("num_attention_heads", "num_heads", "n_heads")
_WIDTHS = ("all_head_size", "inner_dim", "split_size", "dim")
_FIX = "Save the model again, or take config.json from where the weights came."


class Structure(QuantizationConfigMixin):
    """What a model's layers are, where the config alone would build others.

    Args:
        modules: By module name, from the base model (those of a head by their own name), what stands there:
            `{"shape": [...]}`, the layer of the config with a weight of that shape;
            `{"zeros": width}`, nothing any more, it gives zeros;
            `{"constant": width}`, nothing but its bias;
            `{"low_rank": [outputs, rank, inputs]}`, two thin layers;
            `{"low_rank_embedding": [tokens, rank, width]}`, a narrow table and a projection;
            `{"chain": [[...], ...]}`, convolutions one after another, as `ConvChain.shapes` says.
        heads: By group name (`encoder.layer.3.heads`) the numbers that the heads which are left had at first, `kept`,
            and how many there were, `of`; also their `width`, where it is not what the config says.
        bitsandbytes: How bitsandbytes has quantized the layers, as `BitsAndBytesConfig.to_dict` says it; None where it
            has not.
        format: Version of this format.

    Raises:
        ModelError: It cannot be read, or was written by a newer hfcompress.
    """

    bitsandbytes: dict[str, Any] | None = None

    def __init__(
        self,
        modules: dict[str, dict[str, Any]] | None = None,
        heads: dict[str, dict[str, Any]] | None = None,
        bitsandbytes: dict[str, Any] | None = None,
        format: int = FORMAT,
        quant_method: str = METHOD,
        **unknown: Any,
    ) -> None:
        self.quant_method = quant_method  # type: ignore[assignment]
        self.format = format
        self.modules = {} if modules is None else modules
        self.heads = {} if heads is None else heads
        if bitsandbytes is not None:  # otherwise config.json does not mention it
            self.bitsandbytes = bitsandbytes
        if not isinstance(format, int):
            raise damaged("format", f"is {format!r}, not a number")
        if format > FORMAT:
            problem = f"the model was made by a newer hfcompress (structure format {format}, this one reads {FORMAT})."
            raise ModelError(Fault("quantization_config.format", problem, "Run: pip install --upgrade hfcompress"))
        for name in sorted(unknown):
            raise damaged(name, "is not known")
        self._check()

    def _check(self) -> None:
        for key in ("modules", "heads"):
            if not isinstance(getattr(self, key), Mapping):
                raise damaged(key, f"is {getattr(self, key)!r}, not a mapping")
        for name, entry in self.modules.items():
            if not isinstance(entry, Mapping) or len(entry) != 1 or next(iter(entry)) not in KINDS:
                raise damaged(f"modules.{name}", f"is {entry!r}; known are {', '.join(KINDS)}")
            ((kind, value),) = entry.items()
            if not KINDS[kind].fits(value):
                raise damaged(f"modules.{name}.{kind}", f"is {value!r}, not {KINDS[kind].what}")
        for name, entry in self.heads.items():
            kept, of = (entry.get("kept"), entry.get("of")) if isinstance(entry, Mapping) else (None, None)
            if type(of) is not int or not isinstance(kept, list) or not _are_heads(kept, of):
                raise damaged(f"heads.{name}", f"is {entry!r}, not heads that are left and how many there were")
            if not is_size(entry.get("width", 1)):
                raise damaged(f"heads.{name}.width", f"is {entry['width']!r}, not a width")
        if self.bitsandbytes is not None and not is_bitsandbytes(self.bitsandbytes):
            raise damaged("bitsandbytes", f"is {self.bitsandbytes!r}, not a configuration of bitsandbytes")

    def __bool__(self) -> bool:
        """Say whether it holds anything."""
        return bool(self.modules)


def _are_heads(kept: list[Any], of: int) -> bool:
    """Say whether numbers ascend and each is below `of`; nothing as large as that is made."""
    return all(type(one) is int and 0 <= one < of for one in kept) and all(a < b for a, b in pairwise(kept))


def damaged(key: str, why: str) -> ModelError:
    """Return the error for a manifest that cannot be used."""
    return ModelError(Fault(f"quantization_config.{key}", f"the structure in config.json is damaged: it {why}.", _FIX))


def structure_of(config: PretrainedConfig) -> Structure:
    """Return a copy of the manifest that a config carries; an empty one where it carries none.

    Raises:
        ModelError: It cannot be read, or was written by a newer hfcompress.
    """
    found = getattr(config, "quantization_config", None)
    if is_manifest(found):
        found = Structure(**dict(found))
    if not isinstance(found, Structure):
        return Structure()
    found, family = copy.deepcopy(found), config.model_type
    found.modules = {name_here(family, name): entry for name, entry in found.modules.items()}
    found.heads = {name_here(family, name): entry for name, entry in found.heads.items()}
    return found


def write_structure(config: PretrainedConfig, structure: Structure) -> None:
    """Put a manifest into a config; an empty one leaves a stock config."""
    if structure:
        config.quantization_config = structure
    elif structure_of(config):
        del config.quantization_config


def apply_structure(model: PreTrainedModel) -> None:
    """Rebuild the layers of a model that was built from its config alone, as the config's manifest says.

    Raises:
        ModelError: The manifest does not fit the model.
    """
    structure = structure_of(model.config)
    if not structure:
        return
    for name, entry in structure.modules.items():
        found = _find(model, name)
        if found is not None:
            _rebuild(*found, name, entry)
    fit_attention(model, structure)
    write_structure(model.config, structure)


def relative_name(model: PreTrainedModel, name: str) -> str:
    """Return a module's name from the base model on; one of a head keeps its own."""
    return name if model.base_model is model else name.removeprefix(f"{model.base_model_prefix}.")


def _find(model: PreTrainedModel, name: str) -> tuple[nn.Module, str] | None:
    """Return a module's parent and its name there; None where this model lacks the part that held it (another head).

    Raises:
        ModelError: The model has that part, but no such module in it.
    """
    base = model.base_model
    first = name.partition(".")[0]
    root = base if first in dict(base.named_children()) else model
    if first not in dict(root.named_children()):
        return None
    place, _, last = name.rpartition(".")
    try:
        parent = root.get_submodule(place)
        parent.get_submodule(last)
    except AttributeError as error:
        if root is not base:
            return None
        raise damaged(f"modules.{name}", f"names a module that {type(model).__name__} does not have") from error
    return parent, last


def _rebuild(parent: nn.Module, last: str, name: str, entry: Mapping[str, Any]) -> None:
    ((kind, value),) = entry.items()
    try:
        setattr(parent, last, KINDS[kind].build(parent.get_submodule(last), value))
    except (AttributeError, IndexError, ValueError) as error:
        raise damaged(f"modules.{name}", f"does not fit the layer: {error}") from error


def fit_attention(model: PreTrainedModel, structure: Structure) -> None:
    """Make what each attention module counts fit the heads that it has."""
    if model.config.model_type not in FAMILIES:
        return
    shares_bias = any(stack.position_bias for stack in FAMILIES[model.config.model_type].stacks)
    for place in places_of(model):
        attention = attention_of(model, place)
        if attention is None or place.group not in structure.heads:
            continue
        kept = structure.heads[place.group]
        set_head_width(attention, kept.get("width", head_width(attention)))
        heads = _width_of(place) // head_width(attention)
        for names, value in ((_COUNTERS, heads), (_WIDTHS, heads * head_width(attention))):
            for name in names:
                if hasattr(attention, name):
                    setattr(attention, name, value)
        if shares_bias and len(kept["kept"]) < kept["of"]:
            pick_heads(attention, kept["kept"] or [0], kept["of"])


def _width_of(place: Place) -> int:
    """Return the width between an attention's projections and its last layer."""
    first, reader = next(iter(place.parts.values())), place.reader
    if not isinstance(reader, Emptied):
        return channels_in(reader)
    is_fused = len(place.parts) == 2
    return int(first.width) // (3 if is_fused else 1)  # type: ignore[arg-type]


def record(model: PreTrainedModel, structure: Structure, name: str) -> None:
    """Write down in a manifest what a module is now; of half a low-rank layer, what that is."""
    name = whole_name(model, name)
    structure.modules[relative_name(model, name)] = entry_of(model.get_submodule(name))
