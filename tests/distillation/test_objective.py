"""The weighted sum that a student is trained on: what it is divided by, and that splitting a batch changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from hfcompress.training.objective import Counts, ModelPair, Signals, build_objective, parse_losses
from tests.distillation.losses.support import DISTILLATION_LOSSES, from_tensors, random_signals, tensors
from tests.tiny import tiny_config

PAIR = ModelPair(tiny_config("bert", 2, 4), tiny_config("bert", 4, 6))


def counts(row, token, label):
    return Counts(torch.tensor(row), torch.tensor(token), torch.tensor(label))


def test_each_term_is_weight_times_sum_over_total_count():
    objective = build_objective(parse_losses({"logit_mse": 0.5, "task": 2}), PAIR)
    student, teacher = Signals(torch.tensor([[1.0, 3.0], [0.0, 0.0]])), Signals(torch.tensor([[1.0, 1.0], [4.0, 0.0]]))
    shares = objective(student, teacher, torch.tensor(0.25), counts(2, 9, 2), counts(8, 30, 5))
    assert {name: share.item() for name, share in shares.items()} == pytest.approx(
        {"logit_mse": 0.5 * (2 + 8) / 8, "task": 2 * 0.25 * 2 / 5}
    )


def test_token_losses_are_divided_by_tokens():
    pair = ModelPair(tiny_config("bert", 1, 4), tiny_config("bert", 1, 4), [(1, 1)])
    objective = build_objective(parse_losses({"hidden_mse": 3}), pair)
    student, teacher = (Signals(torch.zeros(1, 2), (torch.zeros(5, 4), torch.full((5, 4), n))) for n in (1.0, 3.0))
    shares = objective(student, teacher, None, counts(1, 5, 0), counts(2, 20, 0))
    assert shares["hidden_mse"].item() == pytest.approx(3 * 5 * 4 / 20)


def test_nothing_to_divide_by_gives_zero_not_nan():
    objective = build_objective(parse_losses({"kl": 1, "hidden_mse": 1, "task": 1}), PAIR)
    empty = [random_signals(0, shape, rows=0, tokens=0, dtype=torch.float32) for shape in ((2, 4), (4, 6))]
    shares = objective(*empty, torch.tensor(0.0), counts(0, 0, 0), counts(0, 0, 0))
    assert [share.item() for share in shares.values()] == [0, 0, 0]


def test_losses_of_weight_zero_are_left_out():
    objective = build_objective(parse_losses({"kl": 1, "hidden_mse": 0, "task": 0}), PAIR)
    assert (list(objective.terms), objective.task) == (["kl"], None)
    assert not objective.needs_hidden_states


@pytest.mark.parametrize(
    ("losses", "hidden", "token_losses"),
    [("kl,jsd", False, []), ("kl,hidden_mse", True, ["hidden_mse"]), ("task", False, [])],
)
def test_says_what_it_needs_of_the_models(losses, hidden, token_losses):
    objective = build_objective(parse_losses(losses), PAIR)
    assert (objective.needs_hidden_states, objective.token_losses) == (hidden, token_losses)


def test_its_modules_hold_the_projections_where_widths_differ_and_nothing_where_they_agree():
    configs = parse_losses("kl,hidden_mse,hidden_cosine")
    shapes = {name: tuple(p.shape) for name, p in build_objective(configs, PAIR).modules().named_parameters()}
    expected = {f"{loss}.projections.{i}.weight": (6, 4) for loss in ("hidden_mse", "hidden_cosine") for i in range(3)}
    assert shapes == expected
    same_width = ModelPair(tiny_config("bert", 2, 4), tiny_config("bert", 4, 4))
    assert not list(build_objective(configs, same_width).modules().parameters())


def take(signals, rows, tokens):
    return Signals(signals.logits[rows], tuple(states[tokens] for states in signals.hidden_states))


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7), max_size=7),
    seed=st.integers(0, 1000),
)
def test_uneven_micro_batches_give_the_loss_and_gradient_of_the_whole_batch(lengths, cuts, seed):
    torch.manual_seed(seed)
    rows, ends = len(lengths), torch.tensor([0, *lengths]).cumsum(0).tolist()
    student = random_signals(seed, (2, 4), rows, ends[-1])
    teacher = random_signals(seed + 1, (4, 6), rows, ends[-1])
    labels = torch.arange(rows) % 3
    objective = build_objective(parse_losses(dict.fromkeys([*DISTILLATION_LOSSES, "task"], 0.7)), PAIR)
    objective.modules().double()

    def train_on(borders):
        leaf = from_tensors(*(tensor.clone().requires_grad_() for tensor in tensors(student)))
        objective.modules().zero_grad()
        total, whole = 0.0, counts(rows, ends[-1], rows)
        for first, last in zip(borders, borders[1:], strict=False):
            part = slice(first, last), slice(ends[first], ends[last])
            own = take(leaf, *part)
            task_mean = cross_entropy(own.logits, labels[part[0]])
            held = counts(last - first, ends[last] - ends[first], last - first)
            loss = sum(objective(own, take(teacher, *part), task_mean, held, whole).values())
            loss.backward()
            total += loss.item()
        learned = [p.grad.clone() for p in objective.modules().parameters()]
        return torch.tensor(total), leaf.logits.grad, [s.grad for s in leaf.hidden_states], learned

    split = train_on([0, *sorted(cut for cut in cuts if cut < rows), rows])
    torch.testing.assert_close(split, train_on([0, rows]))
