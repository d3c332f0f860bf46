"""An ONNX file as a model: run by ONNX Runtime, called with tensors by name, as a PyTorch model is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcompress.errors import Fault, ModelError

if TYPE_CHECKING:
    import onnxruntime
    from torch import Tensor
    from transformers import PretrainedConfig
    from transformers.utils.generic import ModelOutput

ONNX_FOLDER = "onnx"
"""Where a model folder keeps its ONNX files: the name that Optimum and transformers.js look for."""

_PAST = "past_key_values"


def is_onnx(source: str | Path) -> bool:
    """Say whether a model is given as an ONNX file.

    Example:
        >>> is_onnx("small/onnx/model_quantized.onnx")
        True
    """
    return Path(source).suffix == ".onnx"


def model_folder(file: Path) -> Path:
    """Return the folder with an ONNX file's config and tokenizer: its own, or the one above `onnx/`.

    Raises:
        ModelError: There is no such file, or no config.json beside it.
    """
    if not file.is_file():
        raise ModelError(Fault(str(file), "there is no such file.", "Make one with `hfcompress export`."))
    for folder in (file.parent, file.parent.parent):
        if (folder / "config.json").is_file():
            return folder
    fix = "Leave the file where it was exported: the config and the tokenizer lie beside it, or above its onnx folder."
    raise ModelError(Fault(str(file), "has no config.json beside it or in the folder above.", fix))


def start_session(file: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open an ONNX file in ONNX Runtime, on the CPU.

    Args:
        file: The file; large weights lie beside it.
        threads: Threads of one operator; None for as many as torch has now.

    Raises:
        ModelError: ONNX Runtime is not installed, or cannot read the file.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModelError(
            Fault(str(file), "needs ONNX Runtime, which is not installed.", "Run: pip install onnxruntime")
        )
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # onnxruntime's own exceptions share no base class but this.
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(Fault(str(file), f"ONNX Runtime cannot open it: {reason}.", "Export the model anew.")) from error


class OnnxModel:
    """An ONNX graph that is called as a PyTorch model is.

    What the graph takes and nobody gives is filled in: an empty cache of earlier tokens, positions, kinds of segments.

    Args:
        file: The ONNX file.
        config: The model's config.
        threads: As for `start_session`.

    Raises:
        ModelError: As `start_session`.
    """

    def __init__(self, file: Path, config: PretrainedConfig, threads: int | None = None) -> None:
        import torch

        self.file = file
        self.config = config
        self.device = torch.device("cpu")
        self.session = start_session(file, threads)
        self._shapes = {node.name: node.shape for node in self.session.get_inputs()}
        self._types = {node.name: node.type for node in self.session.get_inputs()}
        self.output_names = [node.name for node in self.session.get_outputs()]
        self.main_input_name = "pixel_values" if "pixel_values" in self._shapes else "input_ids"

    @property
    def input_names(self) -> list[str]:
        """What the graph takes."""
        return list(self._shapes)

    def eval(self) -> OnnxModel:
        """Return itself: a graph has no other mode."""
        return self

    def __call__(self, **inputs: Tensor) -> ModelOutput:
        """Run the graph once.

        Args:
            **inputs: Tensors by name; what the graph does not take is left out.

        Returns:
            The outputs by name, as tensors; the cache is left out.
        """
        import torch
        from transformers.utils.generic import ModelOutput

        feeds = {name: value.numpy() for name, value in self.fill_in(inputs).items()}
        names = [name for name in self.output_names if not name.startswith("present")]
        values = self.session.run(names, feeds)
        return ModelOutput({name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)})

    def fill_in(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the graph takes: the given inputs that it knows, and the rest made up."""
        import torch

        known = {name: value.cpu().contiguous() for name, value in inputs.items() if name in self._shapes}
        main = inputs[self.main_input_name]
        for name, shape in self._shapes.items():
            if name in known:
                continue
            if name == "attention_mask":
                known[name] = torch.ones_like(main)
            elif name == "position_ids":
                mask = inputs.get("attention_mask", torch.ones_like(main))
                known[name] = (mask.cumsum(-1) - 1).clamp(min=0)
            elif name.startswith(_PAST):
                known[name] = self._empty(shape, len(main), self._types[name])
            else:
                known[name] = torch.zeros_like(main)
        return known

    @staticmethod
    def _empty(shape: list[Any], batch_size: int, kind: str) -> Tensor:
        """Return a cache of no tokens: the graph's fixed sizes, the batch, and 0 for the length."""
        import torch

        sizes = [size if isinstance(size, int) else 0 for size in shape]
        sizes[0] = batch_size
        return torch.zeros(sizes, dtype=torch.float16 if "float16" in kind else torch.float32)


def load_onnx(source: str | Path, threads: int | None = None) -> OnnxModel:
    """Open an ONNX file together with the config beside it.

    Raises:
        ModelError: The file, its config or ONNX Runtime is missing or unusable.
    """
    from hfcompress.modeling.load import load_config

    file = Path(source)
    return OnnxModel(file, load_config(str(model_folder(file))), threads)
