"""What the tests of the losses share: building one by its name, and random signals of two models."""

import torch

from hfcompress import registry
from hfcompress.training.objective import DistillationLoss, ModelPair, Signals
from tests.tiny import tiny_config

DISTILLATION_LOSSES = [
    name for name, method in registry.methods("loss").items() if issubclass(method.target, DistillationLoss)
]


def build(name, student=(2, 4), teacher=(2, 4), layer_map="uniform", **options):
    """A loss in float64; models are given as (layers, width)."""
    method = registry.find("loss", name)
    configs = [tiny_config("bert", layers, width) for layers, width in (student, teacher)]
    return method.target(method.config(**options), ModelPair(*configs, layer_map)).double()


def random_signals(seed, shape=(2, 4), rows=3, tokens=5, scale=1.0, dtype=torch.float64):
    """Signals of a model of (layers, width) with 3 classes."""
    layers, width = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return (scale * torch.randn(*size, generator=generator, dtype=torch.float64)).to(dtype)

    return Signals(draw(rows, 3), tuple(draw(tokens, width) for _ in range(layers + 1)))


def logits(*rows, **options):
    """Signals that hold these rows of logits only."""
    return Signals(torch.tensor(rows, dtype=torch.float64, **options))


def hidden(*states):
    """Signals that hold these hidden states only, each a list of tokens."""
    return Signals(torch.empty(0, 2), tuple(torch.tensor(tokens, dtype=torch.float64) for tokens in states))


def tensors(signals):
    """All tensors of the signals, to be given to `from_tensors` again."""
    return (signals.logits, *signals.hidden_states)


def from_tensors(one, *states):
    return Signals(one, states)
