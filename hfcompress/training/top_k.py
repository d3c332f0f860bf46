"""A teacher's likeliest classes and the mass of all others as one: what is kept of large vocabularies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hfcompress.errors import Fault, TeacherError
from hfcompress.training.signals import Signals, full_precision, present


@dataclass(frozen=True)
class TopKSignals(Signals):
    """Signals whose logits are those of a few classes, and of all the others as one.

    Args:
        at: The temperature that the others were taken together at; at any other the last column is wrong.
    """

    at: float = 1.0

    def log_probabilities(self, temperature: float = 1.0) -> Tensor:
        """Return log-probabilities `(rows, k + 1)`.

        Raises:
            TeacherError: At another temperature than the cached one.
        """
        if temperature != self.at:
            problem = f"the likeliest classes were cached at temperature {self.at:g}, a loss asks for {temperature:g}."
            raise TeacherError(Fault("teacher", problem, "Use that one, or build another cache."))
        return super().log_probabilities(temperature)


@dataclass(frozen=True)
class TopKRows:
    """Rows of a teacher's likeliest classes.

    The student's logits are brought into the same classes: those k, and the others as one. A divergence between the two
    is the exact one when k is all classes but one, and never above it otherwise (the data-processing inequality).

    Args:
        values: Logits `(rows, k)`, up to a constant in each row.
        indices: Which classes these are, `(rows, k)`.
        rest: Of all others together at `temperature`, in the same scale: `T · logsumexp(others / T)`, `(rows,)`.
        classes: How many there are in all.
        temperature: T.
    """

    values: Tensor
    indices: Tensor
    rest: Tensor
    classes: int
    temperature: float

    def beside(self, student: Signals, part: slice) -> tuple[Signals, Signals]:
        """Return the student's and the teacher's signals of some rows, over k + 1 classes.

        Raises:
            TeacherError: The student has fewer classes than the teacher.
        """
        logits = full_precision(present(student.logits))
        if logits.shape[-1] < self.classes:
            problem = f"its {self.classes} cached classes are more than the student's {logits.shape[-1]}."
            raise TeacherError(
                Fault("teacher", problem, "Train with the teacher itself, which is cut to what both have.")
            )
        likeliest, rest = bucket(logits[:, : self.classes], self.indices[part], self.temperature)
        ours = torch.cat([likeliest, rest.unsqueeze(-1)], dim=-1)
        theirs = torch.cat([self.values[part], self.rest[part].unsqueeze(-1)], dim=-1)
        return TopKSignals(logits=ours, at=self.temperature), TopKSignals(logits=theirs, at=self.temperature)


def bucket(logits: Tensor, indices: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Take all classes but some together.

    Args:
        logits: `(rows, classes)`.
        indices: The classes that stay, `(rows, k)`, k below the number of classes.
        temperature: T.

    Returns:
        Their logits `(rows, k)`, and `T · logsumexp(others / T)`, `(rows,)`: with it in the others' place, the softmax
        at T gives the sum of their probabilities.
    """
    likeliest = logits.gather(-1, indices)
    others = logits.scatter(-1, indices, float("-inf"))
    return likeliest, temperature * torch.logsumexp(others / temperature, dim=-1)


def likeliest_classes(logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return values, indices and rest as `TopKRows` takes them.

    The largest logit of each row is brought to 0: it changes no probability, and half precision is finest near it.
    """
    logits = full_precision(logits)
    logits = logits - logits.amax(-1, keepdim=True)
    indices = logits.topk(k, dim=-1).indices
    values, rest = bucket(logits, indices, temperature)
    return values, indices, rest
