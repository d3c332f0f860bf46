"""A pruner that learns a score for each row of a matrix, as small as one can be."""

from dataclasses import dataclass

import torch
from torch import nn

from hfcompress.pruning.masks import Masks, value_of
from hfcompress.training.pruner import Pruner, PrunerConfig

ROWS = "bert.encoder.layer.0.intermediate.dense"


class Scores(nn.Module):
    """Scores of the rows; a row stays where its score is above 0."""

    def __init__(self, rows):
        super().__init__()
        self.values = nn.Parameter(torch.linspace(-0.2, 1, rows))

    def forward(self):
        return ((self.values > 0).float() + self.values - self.values.detach()).unsqueeze(-1)


class ScoredPruner(Pruner):
    def __init__(self, rows, strength):
        self.strength = strength
        self.learned = nn.ModuleDict({"rows": Scores(rows)})
        self.length = None
        self.steps = []

    def attach(self, model):
        self._masks = Masks(model, [f"{ROWS}.weight", f"{ROWS}.bias"])
        scores = self.learned["rows"]
        self._masks.by_name |= {f"{ROWS}.weight": scores, f"{ROWS}.bias": lambda: scores().squeeze(-1)}

    def prepare(self, length):
        self.length = length

    def set_step(self, step):
        self.steps.append(step)

    def parameter_groups(self):
        return [{"params": list(self.learned.parameters()), "lr": 0.02, "weight_decay": 0.0}]

    def penalty(self):
        return self.strength * torch.sigmoid(self.learned["rows"].values).sum() if self.strength else None

    @property
    def sparsity(self):
        return float((self.learned["rows"].values <= 0).float().mean())

    @property
    def target(self):
        return None

    def state(self):
        return {"rows": self.learned["rows"].values.detach()}

    def load_state(self, state):
        self.learned["rows"].values.data.copy_(state["rows"])

    def finish(self):
        self._masks.by_name = {name: value_of(mask).detach() for name, mask in self._masks.by_name.items()}
        self._masks.apply()
        self._masks.remove()


@dataclass
class ScoredConfig(PrunerConfig):
    """Options."""

    strength: float = 0.05

    def build(self, model):
        return ScoredPruner(model.get_submodule(ROWS).out_features, self.strength)
