"""What the tests of the losses share: building one by its name, and random signals of two models."""

from dataclasses import replace

import torch

from hfcompress import registry
from hfcompress.modeling.projections import Projections
from hfcompress.training.objective import DistillationLoss, ModelPair
from hfcompress.training.signals import Signals
from tests.tiny import tiny_config

DISTILLATION_LOSSES = [
    name for name, method in registry.methods("loss").items() if issubclass(method.target, DistillationLoss)
]
BATCHWISE = {"rkd"}  # compares the texts of a batch, so that a text's value depends on the others
HEADS, CLASSES = 2, 3


def model_pair(student=(2, 4), teacher=(2, 4), layer_map="uniform"):
    """Two configs, given as (layers, width), with two heads each."""
    configs = [tiny_config("bert", layers, width, num_attention_heads=HEADS) for layers, width in (student, teacher)]
    return ModelPair(*configs, layer_map)


def build(name, student=(2, 4), teacher=(2, 4), layer_map="uniform", **options):
    """A loss in float64; models are given as (layers, width)."""
    method = registry.find("loss", name)
    return method.target(method.config(**options), model_pair(student, teacher, layer_map)).double()


def random_signals(seed, shape=(2, 4), rows=3, lengths=(2, 1, 2), scale=1.0, dtype=torch.float64):
    """Signals of a model of (layers, width) with 3 classes and 2 heads, about texts of these lengths."""
    layers, width = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return (scale * torch.randn(*size, generator=generator, dtype=torch.float64)).to(dtype)

    def attention():
        scores = draw(batch, HEADS, seq, seq).double().masked_fill(~mask[:, None, None], -1e300)
        return torch.softmax(scores, -1).to(dtype)

    def projections():
        return Projections(*(draw(batch, seq, HEADS, width // HEADS) for _ in range(3)))

    mask = torch.arange(max(lengths, default=0)) < torch.tensor(lengths, dtype=torch.long)[:, None]
    batch, seq = mask.shape
    return Signals(
        logits=draw(rows, CLASSES),
        hidden_states=tuple(draw(sum(lengths), width) for _ in range(layers + 1)),
        labels=torch.tensor([2, -100, 0, 1, 1, -100, 0, 2])[:rows],
        embeddings=draw(batch, width),
        attentions=tuple(attention() for _ in range(layers)),
        projections={layer: projections() for layer in range(layers)},
        mask=mask,
    )


def logits(*rows, **options):
    """Signals that hold these rows of logits only."""
    return Signals(torch.tensor(rows, dtype=torch.float64, **options))


def hidden(*states):
    """Signals that hold these hidden states only, each a list of tokens."""
    return Signals(hidden_states=tuple(torch.tensor(tokens, dtype=torch.float64) for tokens in states))


def embeddings(*texts):
    """Signals that hold these embeddings only."""
    return Signals(embeddings=torch.tensor(texts, dtype=torch.float64))


def tensors(signals):
    """All that a model computed, to be given to `from_tensors` again."""
    by_layer = [tensor for layer in signals.projections.values() for tensor in (layer.query, layer.key, layer.value)]
    return [signals.logits, signals.embeddings, *signals.hidden_states, *signals.attentions, *by_layer]


def from_tensors(signals, given):
    """The same signals with other tensors in them."""
    left = iter(given)
    return replace(
        signals,
        logits=next(left),
        embeddings=next(left),
        hidden_states=tuple(next(left) for _ in signals.hidden_states),
        attentions=tuple(next(left) for _ in signals.attentions),
        projections={layer: Projections(next(left), next(left), next(left)) for layer in signals.projections},
    )


def mapped(signals, function):
    """The same signals with a function applied to all that the model computed."""
    return from_tensors(signals, [function(tensor) for tensor in tensors(signals)])


def take(signals, rows, texts):
    """Only these rows of logits, and only these texts' tokens."""
    owner = torch.arange(len(signals.mask))[:, None].expand_as(signals.mask)[signals.mask]
    tokens = torch.cat([(owner == text).nonzero().flatten() for text in texts])
    return replace(
        signals,
        logits=signals.logits[rows],
        labels=signals.labels[rows],
        hidden_states=tuple(states[tokens] for states in signals.hidden_states),
        embeddings=signals.embeddings[texts],
        attentions=tuple(attention[texts] for attention in signals.attentions),
        projections={
            number: Projections(layer.query[texts], layer.key[texts], layer.value[texts])
            for number, layer in signals.projections.items()
        },
        mask=signals.mask[texts],
    )


def padded(signals, left, right, fill):
    """The same signals from a batch with more padding on either side, where the models computed `fill`."""
    pad = torch.nn.functional.pad
    sides = (left, right)
    return replace(
        signals,
        attentions=tuple(pad(attention, (*sides, *sides), value=fill) for attention in signals.attentions),
        projections={
            number: Projections(
                *(pad(t, (0, 0, 0, 0, *sides), value=fill) for t in (layer.query, layer.key, layer.value))
            )
            for number, layer in signals.projections.items()
        },
        mask=pad(signals.mask, sides, value=False),
    )
