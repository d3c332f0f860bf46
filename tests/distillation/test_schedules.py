"""Weights and temperatures that change over training: their values, their faults, and that they reach every loss."""

import json
from math import cos, pi, sqrt

import pytest
import torch

from hfcompress.errors import RequestError
from hfcompress.training.objective import build_objective, parse_losses
from hfcompress.training.schedules import Schedule, largest, value_at
from hfcompress.training.signals import Counts
from tests.distillation.losses.support import DISTILLATION_LOSSES, logits, model_pair

CHANGING = {
    "kl": {"weight": {"start": 1, "end": 0, "schedule": "cosine"}, "temperature": {"start": 4, "end": 1}},
    "task": {"weight": {"start": 0, "end": 2}},
}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("linear", [4.0, 3.25, 2.5, 1.75, 1.0]),
        ("cosine", [4.0, 2.5 + 1.5 / sqrt(2), 2.5, 2.5 - 1.5 / sqrt(2), 1.0]),
        ("constant", [4.0] * 5),
    ],
)
def test_values_over_training(kind, values):
    schedule = Schedule(4.0, 1.0, kind)
    assert [schedule.at(progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(values, abs=1e-15)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.0, 1.0), (0.3, 0.7), (4.0, 1.0)])
def test_the_ends_are_exact(kind, start, end):
    schedule = Schedule(start, end, kind)
    assert (schedule.at(0), schedule.at(1)) == (start, end)


def test_linear_unless_told():
    assert Schedule(1.0, 0.0).schedule == "linear"


def test_a_number_stays_as_it_is():
    assert [value_at(0.7, progress) for progress in (0, 0.5, 1)] == [0.7] * 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.5, 0.5), (Schedule(1, 3), 3), (Schedule(3, 1, "cosine"), 3), (Schedule(1, 3, "constant"), 1)],
)
def test_the_largest_value(value, expected):
    assert largest(value) == expected


@pytest.mark.parametrize("losses", [CHANGING, json.dumps(CHANGING)])
def test_losses_are_read_with_schedules(losses):
    configs = parse_losses(losses)
    assert configs["kl"].weight == Schedule(1.0, 0.0, "cosine")
    assert configs["kl"].temperature == Schedule(4.0, 1.0, "linear")
    assert configs["task"].weight == Schedule(0.0, 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weight": {"start": -1, "end": 0}},
            "losses.kl.weight.start: input should be greater than or equal to 0, got -1.",
        ),
        (
            {"weight": {"start": 1, "end": -0.5}},
            "losses.kl.weight.end: input should be greater than or equal to 0, got -0.5.",
        ),
        ({"weight": {"start": 1}}, "losses.kl.weight.end: is missing."),
        ({"weight": {}}, "losses.kl.weight.start: is missing.\nlosses.kl.weight.end: is missing."),
        (
            {"weight": {"start": float("inf"), "end": 0}},
            "losses.kl.weight.start: input should be a finite number, got inf.",
        ),
        (
            {"weight": {"start": 1, "end": 0, "schedule": "step"}},
            "losses.kl.weight.schedule: input should be 'linear', 'cosine' or 'constant', got 'step'.",
        ),
        ({"weight": {"start": 1, "end": 0, "shedule": "cosine"}}, "losses.kl.weight.shedule: there is no such key."),
        ({"weight": [1, 0]}, "losses.kl.weight: input should be a valid number, got [1, 0]."),
        ({"temperature": {"start": 1, "end": 0}}, "losses.kl.temperature: must stay above 0, got 1 to 0."),
        (
            {"temperature": {"start": 0, "end": 1, "schedule": "constant"}},
            "losses.kl.temperature: must stay above 0, got 0 to 1.",
        ),
        ({"temperature": 0}, "losses.kl.temperature: input should be greater than 0, got 0."),
    ],
)
def test_names_the_fault_once_and_at_its_place(options, message):
    with pytest.raises(RequestError) as error:
        parse_losses({"kl": options})
    assert str(error.value).split(" Did you mean")[0] == message


def test_weights_that_are_zero_from_start_to_end_leave_nothing_to_train_on():
    never = {"weight": {"start": 0, "end": 0, "schedule": "cosine"}}
    with pytest.raises(RequestError, match="every weight is 0"):
        parse_losses({"kl": never, "task": {"weight": {"start": 0, "end": 5, "schedule": "constant"}}})
    objective = build_objective(parse_losses({"kl": never, "jsd": 1}), model_pair())
    assert list(objective.terms) == ["jsd"]


def test_a_weight_that_starts_at_zero_is_kept():
    objective = build_objective(parse_losses({"kl": {"weight": {"start": 0, "end": 1}}}), model_pair())
    assert list(objective.terms) == ["kl"]


def test_progress_reaches_every_loss():
    weight = {"weight": {"start": 1, "end": 3}}
    objective = build_objective(parse_losses(dict.fromkeys([*DISTILLATION_LOSSES, "task"], weight)), model_pair())
    losses = [*objective.terms.values(), objective.task]
    assert len(losses) == len(DISTILLATION_LOSSES) + 1
    for progress in (0.0, 0.25, 1.0):
        objective.set_progress(progress)
        assert [loss.weight for loss in losses] == [1 + 2 * progress] * len(losses)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "dkd"])
def test_a_share_is_that_of_the_weight_and_temperature_of_the_moment(name, progress):
    one = torch.tensor(1)
    says = logits((1.0, 2.0, 0.0)), logits((0.0, -1.0, 3.0))

    def share(options, progress):
        objective = build_objective(parse_losses({name: options}), model_pair())
        objective.set_progress(progress)
        return objective.row_shares(*says, Counts(one, one, one, one))[name]

    changing = share(
        {"weight": {"start": 1, "end": 0, "schedule": "cosine"}, "temperature": {"start": 4, "end": 1}}, progress
    )
    fixed = share({"weight": 1, "temperature": 4 - 3 * progress}, 0.0)
    torch.testing.assert_close(changing, (1 + cos(pi * progress)) / 2 * fixed)


def test_the_tasks_share_follows_its_schedule():
    objective = build_objective(parse_losses(CHANGING), model_pair())
    four = torch.tensor(4)
    shares = []
    for progress in (0.0, 0.5, 1.0):
        objective.set_progress(progress)
        shares.append(objective.task_share(torch.tensor(6.0), Counts(four, four, four, four)).item())
    assert shares == [0.0, 1.5, 3.0]
