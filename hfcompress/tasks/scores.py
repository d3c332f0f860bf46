"""Scores of answers, computed without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def classification(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score logits `(rows, classes)` against labels `(rows,)`: accuracy and macro-averaged F1."""
    from sklearn.metrics import accuracy_score, f1_score

    predicted = logits.argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
    }


def multi_label(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score logits `(rows, classes)` against 0 or 1 for each class: a class is predicted where its logit is above 0."""
    from sklearn.metrics import accuracy_score, f1_score

    predicted, wanted = logits > 0, labels > 0.5
    return {
        "accuracy": float((predicted == wanted).mean()),
        "exact_match": float(accuracy_score(wanted, predicted)),
        "f1_micro": float(f1_score(wanted, predicted, average="micro", zero_division=0.0)),
        "f1_macro": float(f1_score(wanted, predicted, average="macro", zero_division=0.0)),
    }


def correlation(predicted: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Score numbers `(rows, 1)` against `(rows,)`: correlations (0 where one side is constant) and squared error."""
    import numpy as np
    from scipy.stats import pearsonr, spearmanr

    values, wanted = predicted.reshape(len(predicted)).astype(float), wanted.astype(float)
    constant = len(values) < 2 or np.ptp(values) == 0 or np.ptp(wanted) == 0
    return {
        "spearman": 0.0 if constant else float(spearmanr(values, wanted).statistic),
        "pearson": 0.0 if constant else float(pearsonr(values, wanted).statistic),
        "mean_squared_error": float(((values - wanted) ** 2).mean()),
    }
