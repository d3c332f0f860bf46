"""The likeliest classes and the mass of the rest: exact where it can be, a lower bound elsewhere, refused elsewhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hfcompress.distillation.losses.kl import kl_divergence
from hfcompress.errors import TeacherError
from hfcompress.training.cache_building import build, cached
from hfcompress.training.cache_plan import CacheSettings
from hfcompress.training.cached_teacher import CachedTeacher
from hfcompress.training.signals import Signals
from hfcompress.training.top_k import TopKRows, bucket, likeliest_classes
from tests.training.caches import job_of, objective_of, teacher_model, train_from
from tests.training.runs import build as trainer_of
from tests.training.runs import distance, learned, rows, small_student

ALL = slice(None)


def rows_of(teacher, k, temperature):
    values, indices, rest = likeliest_classes(teacher, k, temperature)
    return TopKRows(values, indices, rest, teacher.shape[-1], temperature)


def divergence(student, teacher, temperature):
    return kl_divergence(teacher.log_probabilities(temperature), student.log_probabilities(temperature))


def test_numbers_by_hand():
    """Teacher 3, 1, 2, 1 at T 1, two classes kept: the largest comes to 0, the rest is log(e⁻² + e⁻²)."""
    values, indices, rest = likeliest_classes(torch.tensor([[3.0, 1.0, 2.0, 1.0]]), 2, 1.0)
    assert values.tolist() == [[0.0, -1.0]]
    assert indices.tolist() == [[0, 2]]
    assert rest.item() == pytest.approx(-2 + 0.693147, abs=1e-6)
    likeliest, others = bucket(torch.tensor([[0.0, 4.0, 1.0, 4.0]]), indices, 2.0)
    assert likeliest.tolist() == [[0.0, 1.0]]
    assert others.item() == pytest.approx(4 + 2 * 0.693147, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_all_classes_but_one_give_the_exact_divergence(temperature):
    teacher, student = torch.randn(2, 5, 11, dtype=torch.float64) * 4
    ours, theirs = rows_of(teacher, 10, temperature).beside(Signals(logits=student), ALL)
    exact = divergence(Signals(logits=student), Signals(logits=teacher), temperature)
    assert torch.allclose(divergence(ours, theirs, temperature), exact, rtol=1e-12, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 12),
    temperature=st.floats(0.3, 10),
    scale=st.sampled_from([0.1, 3, 30]),
)
def test_it_is_never_above_the_exact_divergence_and_grows_with_k(seed, k, temperature, scale):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = torch.randn(2, 4, 14, generator=generator, dtype=torch.float64) * scale
    exact = divergence(Signals(logits=student), Signals(logits=teacher), temperature)
    coarse, finer = (
        divergence(*rows_of(teacher, number, temperature).beside(Signals(logits=student), ALL), temperature)
        for number in (k, k + 1)
    )
    assert (coarse >= -1e-12).all()
    assert (coarse <= finer + 1e-9).all()
    assert (finer <= exact + 1e-9).all()


def test_the_gradient_is_right():
    teacher, student = torch.randn(2, 3, 9, dtype=torch.float64)
    student.requires_grad_()
    kept = rows_of(teacher, 4, 2.0)

    def loss(logits):
        return divergence(*kept.beside(Signals(logits=logits), ALL), 2.0)

    assert torch.autograd.gradcheck(loss, (student,))
    # By hand: (q − p) / T on a kept class, and q · (Q_rest − P_rest) / (Q_rest · T) on another.
    loss(student).sum().backward()
    p, q = (torch.softmax(logits.detach() / 2, -1) for logits in (teacher, student))
    others = torch.ones_like(p, dtype=torch.bool).scatter(-1, kept.indices, False)
    p_rest, q_rest = ((x * others).sum(-1, keepdim=True) for x in (p, q))
    expected = torch.where(others, q * (q_rest - p_rest) / q_rest, q - p) / 2
    assert torch.allclose(student.grad, expected, atol=1e-12)


def test_extreme_logits_stay_finite():
    teacher = torch.tensor([[1e4, -1e4, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0]])
    student = torch.tensor([[-1e4, 1e4, 0.0, 5.0], [3e4, 0.0, 0.0, 0.0]], requires_grad=True)
    loss = divergence(*rows_of(teacher, 1, 1.0).beside(Signals(logits=student), ALL), 1.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


def test_a_part_of_the_rows_and_a_student_with_more_classes():
    teacher, student = torch.randn(2, 6, 8)
    padded = torch.cat([student, torch.full((6, 2), 50.0)], dim=-1)
    whole = divergence(*rows_of(teacher, 3, 2.0).beside(Signals(logits=student), ALL), 2.0)
    part = rows_of(teacher, 3, 2.0).beside(Signals(logits=padded[2:4]), slice(2, 4))
    assert torch.allclose(divergence(*part, 2.0), whole[2:4])
    with pytest.raises(TeacherError, match="its 8 cached classes are more than the student's 7"):
        rows_of(teacher, 3, 2.0).beside(Signals(logits=student[:, :7]), ALL)


def test_another_temperature_is_refused_when_asked():
    ours, theirs = rows_of(torch.randn(2, 8), 3, 2.0).beside(Signals(logits=torch.randn(2, 8)), ALL)
    for signals in (ours, theirs):
        with pytest.raises(TeacherError, match="cached at temperature 2, a loss asks for 3"):
            signals.log_probabilities(3.0)


WIDE = {"num_labels": 9, "problem_type": "single_label_classification"}
TOP = CacheSettings(batch_size=8, top_k=8)


def wide_job(losses, settings=TOP):
    return job_of(teacher_model(**WIDE), small_student(**WIDE), losses=losses, settings=settings)


def test_training_on_all_classes_but_one_is_training_on_all(tmp_path):
    losses = {name: {"weight": 0.2, "temperature": 3} for name in ("kl", "jsd", "reverse_kl")} | {"task": 0.3}
    options = {"losses": losses, "optim": "sgd", "learning_rate": 0.05, "gradient_accumulation_steps": 2}
    online = trainer_of(small_student(**WIDE), tmp_path / "online", teacher_model(**WIDE), **options)
    online.train()
    build(wide_job(losses), tmp_path / "cache")
    offline = train_from(tmp_path / "cache", small_student(**WIDE), tmp_path / "offline", **options)
    offline.train()
    assert distance(learned(online), learned(offline)) < 2e-5


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"kl": 1, "logit_mse": 1, "dkd": 1}, "logit_mse, dkd need every class"),
        ({"kl": {"temperature": {"start": 4, "end": 1}}}, "the temperature of kl changes"),
        ({"kl": {"temperature": 4}, "jsd": {"temperature": 2}}, "a cache has one temperature: kl has 4, jsd has 2"),
    ],
)
def test_losses_that_need_more_are_refused(losses, message, tmp_path):
    with pytest.raises(TeacherError, match=message):
        build(wide_job(losses), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_another_temperature_than_the_caches_is_refused(tmp_path):
    found = cached(wide_job({"kl": {"temperature": 4}}), tmp_path / "cache", small_student(**WIDE).config)
    assert found.top_k == 8
    other = {"kl": {"temperature": 4}, "jsd": {"temperature": 2}}
    with pytest.raises(TeacherError, match="the cache has 4 as its temperature: jsd has 2"):
        found.check(objective_of(teacher_model(**WIDE), small_student(**WIDE), other), wide_job(other).teacher.task)


def test_without_a_loss_on_logits_none_are_kept(tmp_path):
    losses = {"hidden_mse": 1}
    build(wide_job(losses), tmp_path / "cache")
    found = CachedTeacher(tmp_path / "cache", small_student(**WIDE).config, rows())
    assert found.contents.logits == "none"
    student = Signals(logits=torch.zeros(2, 9))
    assert found.ask({"cache_row": torch.arange(2)}).rows.beside(student, ALL) == (student, Signals())
    with pytest.raises(TeacherError, match="kl reads logits"):
        found.check(
            objective_of(teacher_model(**WIDE), small_student(**WIDE), {"kl": 1}), wide_job(losses).teacher.task
        )
