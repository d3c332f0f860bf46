"""The weighted sum that a student is trained on: what it is divided by, and that splitting a batch changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from hfcompress.errors import RequestError
from hfcompress.training.objective import ModelPair, build_objective, parse_losses
from hfcompress.training.signals import Counts, Needs, Signals
from tests.distillation.losses.support import (
    BATCHWISE,
    DISTILLATION_LOSSES,
    mapped,
    model_pair,
    random_signals,
    take,
    tensors,
)
from tests.tiny import tiny_config

SMALLER, LARGER = (2, 4), (4, 6)
PAIR = model_pair(SMALLER, LARGER)


def counts(row=1, token=1, text=1, label=1):
    return Counts(*map(torch.tensor, (row, token, text, label)))


def numbers(shares):
    return {name: share.item() for name, share in shares.items()}


def test_losses_on_logits_are_weight_times_sum_over_all_rows():
    objective = build_objective(parse_losses({"logit_mse": 0.5, "hidden_mse": 1, "task": 2}), PAIR)
    student, teacher = Signals(torch.tensor([[1.0, 3.0], [0.0, 0.0]])), Signals(torch.tensor([[1.0, 1.0], [4.0, 0.0]]))
    shares = objective.row_shares(student, teacher, counts(row=8, token=30, text=3, label=5))
    assert numbers(shares) == pytest.approx({"logit_mse": 0.5 * (2 + 8) / 8})


def test_losses_on_tokens_are_divided_by_tokens_and_on_texts_by_texts():
    objective = build_objective(
        parse_losses({"kl": 1, "hidden_mse": 3, "embedding_mse": 2}), model_pair((1, 4), (1, 4))
    )
    student, teacher = (
        Signals(hidden_states=(torch.full((5, 4), n),) * 2, embeddings=torch.full((2, 4), n)) for n in (1.0, 3.0)
    )
    shares = objective.other_shares(student, teacher, counts(row=7, token=20, text=6, label=9))
    assert numbers(shares) == pytest.approx({"hidden_mse": 3 * 5 * 4 / 20, "embedding_mse": 2 * 2 * 4 / 6})


def test_the_tasks_loss_is_divided_by_labels():
    objective = build_objective(parse_losses({"kl": 1, "task": 2}), PAIR)
    share = objective.task_share(torch.tensor(0.5), counts(row=8, token=30, text=7, label=5))
    assert share.item() == pytest.approx(2 * 0.5 / 5)


def test_nothing_to_divide_by_gives_zero_not_nan():
    objective = build_objective(parse_losses(dict.fromkeys([*DISTILLATION_LOSSES, "task"], 1)), PAIR)
    empty = [random_signals(0, shape, rows=0, lengths=(), dtype=torch.float32) for shape in (SMALLER, LARGER)]
    nothing = counts(0, 0, 0, 0)
    shares = {**objective.row_shares(*empty, nothing), **objective.other_shares(*empty, nothing)}
    assert numbers(shares) == dict.fromkeys(DISTILLATION_LOSSES, 0)
    assert objective.task_share(torch.tensor(0.0), nothing).item() == 0


def test_losses_of_weight_zero_are_left_out():
    objective = build_objective(parse_losses({"kl": 1, "hidden_mse": 0, "task": 0}), PAIR)
    assert (list(objective.terms), objective.task) == (["kl"], None)
    assert not objective.student_needs.any


@pytest.mark.parametrize(
    ("losses", "student", "teacher"),
    [
        ("kl,jsd,dkd,logit_mse,task", Needs(), Needs()),
        ("kl,hidden_mse", Needs(hidden_states=True), Needs(hidden_states=True)),
        ("attention_mse", Needs(attentions=True), Needs(attentions=True)),
        ("embedding_mse", Needs(embeddings=True), Needs(embeddings=True)),
        ("rkd", Needs(embeddings=True), Needs(embeddings=True)),
        ("minilm", Needs(projections=(1,)), Needs(projections=(3,))),
        ('{"minilmv2": {"teacher_layer": 2}, "minilm": 1}', Needs(projections=(1,)), Needs(projections=(1, 3))),
        (
            "hidden_cosine,attention_kl,embedding_cosine",
            Needs(hidden_states=True, embeddings=True, attentions=True),
            Needs(hidden_states=True, embeddings=True, attentions=True),
        ),
    ],
)
def test_says_what_it_needs_of_each_model(losses, student, teacher):
    objective = build_objective(parse_losses(losses), PAIR)
    assert (objective.student_needs, objective.teacher_needs) == (student, teacher)


def test_names_the_losses_that_compare_token_by_token():
    objective = build_objective(parse_losses(",".join(DISTILLATION_LOSSES)), PAIR)
    assert objective.token_losses == [
        *("attention_kl", "attention_mse", "hidden_cosine", "hidden_mse", "minilm", "minilmv2"),
    ]


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "dkd"])
def test_losses_on_probabilities_are_refused_for_a_regression(name):
    one_number = ModelPair(tiny_config(num_labels=1), tiny_config(num_labels=1))
    with pytest.raises(RequestError, match=f"losses: {name} compare probabilities of classes.* Use logit_mse"):
        build_objective(parse_losses(f"{name},logit_mse"), one_number)
    assert list(build_objective(parse_losses("logit_mse,rkd"), one_number).terms) == ["logit_mse", "rkd"]


def test_its_modules_hold_the_projections_where_widths_differ_and_nothing_where_they_agree():
    configs = parse_losses("kl,hidden_mse,hidden_cosine,embedding_mse")
    shapes = {name: tuple(p.shape) for name, p in build_objective(configs, PAIR).modules().named_parameters()}
    expected = {f"{loss}.projections.{i}.weight": (6, 4) for loss in ("hidden_mse", "hidden_cosine") for i in range(3)}
    assert shapes == {**expected, "embedding_mse.projection.weight": (6, 4)}
    same_width = model_pair((2, 4), (4, 4))
    assert not list(build_objective(configs, same_width).modules().parameters())


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7), max_size=7),
    seed=st.integers(0, 1000),
)
def test_uneven_micro_batches_give_the_loss_and_gradient_of_the_whole_batch(lengths, cuts, seed):
    torch.manual_seed(seed)
    texts, tokens = len(lengths), sum(lengths)
    student, teacher = (random_signals(seed + i, shape, texts, lengths) for i, shape in enumerate((SMALLER, LARGER)))
    labels = torch.arange(texts) % 3
    losses = dict.fromkeys([*sorted(set(DISTILLATION_LOSSES) - BATCHWISE), "task"], 0.7)
    objective = build_objective(parse_losses(losses), PAIR)
    objective.modules().double()

    def train_on(borders):
        leaf = mapped(student, lambda tensor: tensor.clone().requires_grad_())
        objective.modules().zero_grad()
        total, whole = 0.0, counts(texts, tokens, texts, texts)
        for first, last in zip(borders, borders[1:], strict=False):
            part = list(range(first, last))
            own, other = take(leaf, part, part), take(teacher, part, part)
            task = objective.task_share(cross_entropy(own.logits, labels[part], reduction="sum"), whole)
            shares = {**objective.row_shares(own, other, whole), **objective.other_shares(own, other, whole)}
            loss = task + sum(shares.values())
            loss.backward()
            total += loss.item()
        learned = [p.grad.clone() for p in objective.modules().parameters()]
        return torch.tensor(total), [tensor.grad for tensor in tensors(leaf) if tensor.grad is not None], learned

    split = train_on([0, *sorted(cut for cut in cuts if cut < texts), texts])
    torch.testing.assert_close(split, train_on([0, texts]))
