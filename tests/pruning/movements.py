"""What the tests of movement pruning share: a pruner at work, scores as if learned, a model's answer."""

import torch

from hfcompress.config import parse
from hfcompress.pruning.movement import MovementConfig
from hfcompress.training.alteration import Length

STRUCTURES = ["none", "block", "heads", "neurons", "heads_and_neurons", "block_and_neurons"]
LENGTH = Length(steps=10, steps_per_epoch=5)


def pruner_of(model, **options):
    """A pruner that is attached and prepared: two steps of warm-up, four that prune, four of cool-down."""
    if str(options.get("structure", "")).startswith("block"):
        options = {"block": [4, 4], **options}
    config = parse(MovementConfig, {"warmup": 2, "cooldown": 4, **options})
    pruner = config.build(model)
    pruner.attach(model)
    pruner.prepare(LENGTH)
    return pruner


def scramble(pruner, seed=0):
    """Give the scores random values, as if they had been learned."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for scores in pruner.learned.parameters():
            scores.normal_()


def answer(model, inputs):
    with torch.no_grad():
        outputs = model(**inputs)
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state
