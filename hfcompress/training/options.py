"""TrainingArguments as options of a step: which can be set, of what type, and what is set unless told otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from annotated_types import Gt
from pydantic import Field

from hfcompress.config import check_values
from hfcompress.errors import Fault, RequestError, closest

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 32,
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "length_grouping": True,
    "logging_steps": 10,
    "save_strategy": "steps",
    "save_steps": 0.1,
    "save_total_limit": 1,
    "report_to": "none",
}
"""What a step trains with where the user says nothing; ten checkpoints over the run, the newest is kept."""

_OURS = {
    "losses", "layer_map", "output_dir", "overwrite_output_dir", "seed", "do_train", "do_eval", "do_predict",
    "resume_from_checkpoint", "remove_unused_columns", "disable_tqdm", "eval_strategy", "load_best_model_at_end",
    "save_safetensors", "label_names", "run_name", "logging_dir",
}  # fmt: skip
"""Fields that the step sets itself."""


_BOUNDS: dict[str, Any] = {
    "num_train_epochs": Field(ge=0, allow_inf_nan=False),
    "learning_rate": Field(ge=0, allow_inf_nan=False),
    "weight_decay": Field(ge=0, allow_inf_nan=False),
    "per_device_train_batch_size": Gt(0),
    "gradient_accumulation_steps": Gt(0),
}
"""What transformers does not check itself, or too late."""


def training_fields() -> dict[str, Any]:
    """Return the type of each field of `CompressionArguments` that a step's user may set, with its bounds."""
    from hfcompress.training.arguments import CompressionArguments

    hints = get_type_hints(CompressionArguments)
    hub = ("push_to_hub", "hub_")
    names = [field.name for field in dataclasses.fields(CompressionArguments) if field.init]
    allowed = [name for name in names if name not in _OURS and not name.startswith(("_", *hub))]
    return {name: Annotated[hints[name], _BOUNDS[name]] if name in _BOUNDS else hints[name] for name in allowed}


def read_training(values: Mapping[str, Any], own_keys: list[str], where: str = "") -> dict[str, Any]:
    """Check values for TrainingArguments.

    Args:
        values: By field name; hyphens count as underscores.
        own_keys: The step's own options, offered beside when a name is mistyped.
        where: Put before the name in each fault.

    Returns:
        The values in their declared types.

    Raises:
        RequestError: Unknown names (the nearest is offered) and values of the wrong type; all of them.
    """
    allowed = training_fields()
    tidy = {name.replace("-", "_"): value for name, value in values.items()}
    faults = []
    for name in [name for name in tidy if name not in allowed]:
        near = closest(name, [*own_keys, *allowed])
        hint = (
            f"Did you mean '{near}'?" if near else "It is neither an option of this step nor a TrainingArguments field."
        )
        faults.append(Fault(f"{where}.{name}" if where else name, "there is no such key.", hint))
    # YAML reads a bare `no`, which transformers takes for a strategy, as false.
    known = {
        name: "no" if value is False and name.endswith("_strategy") else value
        for name, value in tidy.items()
        if name in allowed
    }
    try:
        known = check_values(allowed, known, where)
    except RequestError as error:
        faults += error.faults
    if faults:
        raise RequestError(*faults)
    return known
