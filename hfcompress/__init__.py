"""hfcompress: make a fine-tuned Hugging Face model several times smaller and faster, and prove what that cost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import wrapt

from hfcompress._version import __version__

if TYPE_CHECKING:
    from hfcompress.errors import HfcompressError, RequestError
    from hfcompress.modeling.cut import cut
    from hfcompress.modeling.factors import merge
    from hfcompress.training.arguments import CompressionArguments
    from hfcompress.training.caching import cache_teacher
    from hfcompress.training.objective import DistillationLoss, LossConfig
    from hfcompress.training.seq2seq import Seq2SeqCompressionArguments, Seq2SeqCompressionTrainer
    from hfcompress.training.signals import Signals
    from hfcompress.training.trainer import CompressionMixin, CompressionTrainer


def _teach_transformers(_: Any) -> None:
    """Let `from_pretrained` load what hfcompress saved; runs when transformers' loader is imported, or at once."""
    importlib.import_module("hfcompress.modeling.quantizer")


# Not before: `import hfcompress` does not import transformers.
wrapt.when_imported("transformers.quantizers.auto")(_teach_transformers)

# Imported on first use, so that `import hfcompress` does not import torch.
_PLACES = {
    "CompressionArguments": "hfcompress.training.arguments",
    "CompressionMixin": "hfcompress.training.trainer",
    "CompressionTrainer": "hfcompress.training.trainer",
    "DistillationLoss": "hfcompress.training.objective",
    "HfcompressError": "hfcompress.errors",
    "LossConfig": "hfcompress.training.objective",
    "RequestError": "hfcompress.errors",
    "Seq2SeqCompressionArguments": "hfcompress.training.seq2seq",
    "Seq2SeqCompressionTrainer": "hfcompress.training.seq2seq",
    "Signals": "hfcompress.training.signals",
    "cache_teacher": "hfcompress.training.caching",
    "cut": "hfcompress.modeling.cut",
    "merge": "hfcompress.modeling.factors",
}

__all__ = [
    "CompressionArguments",
    "CompressionMixin",
    "CompressionTrainer",
    "DistillationLoss",
    "HfcompressError",
    "LossConfig",
    "RequestError",
    "Seq2SeqCompressionArguments",
    "Seq2SeqCompressionTrainer",
    "Signals",
    "__version__",
    "cache_teacher",
    "cut",
    "merge",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'hfcompress' has no attribute '{name}'")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
