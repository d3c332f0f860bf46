"""How sparse a model is at each step of its training."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfcompress.config import parse
from hfcompress.errors import RequestError
from hfcompress.pruning.schedules import SparsitySchedule, span_steps
from hfcompress.training.alteration import Length

TEN = Length(steps=10, steps_per_epoch=4)


def sparsities(length=TEN, **options):
    course = parse(SparsitySchedule, {"every": 1, **options}).over(length)
    return [course.at(step) for step in range(length.steps)]


def test_cubic_by_hand():
    """Warm-up of 2 steps, 4 of pruning with a quarter, half, three quarters and all of the way, cool-down of 4."""
    got = sparsities(sparsity=0.8, warmup=2, cooldown=4)
    way = [0.8 * (1 - left**3) for left in (0.75, 0.5, 0.25, 0)]
    assert got == pytest.approx([0, 0, *way, 0.8, 0.8, 0.8, 0.8])
    assert got[2] == pytest.approx(0.4625)


def test_linear_by_hand():
    got = sparsities(sparsity=0.5, initial_sparsity=0.1, schedule="linear", warmup=1, cooldown=5)
    assert got == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])


def test_masks_are_decided_every_so_often_and_at_the_end():
    course = parse(SparsitySchedule, {"sparsity": 0.6, "schedule": "linear", "warmup": 1, "cooldown": 3, "every": 4})
    course = course.over(TEN)
    assert [step for step in range(10) if course.updates(step)] == [1, 5, 6]
    assert [course.at(step) for step in range(10)] == pytest.approx([0, 0.1, 0.1, 0.1, 0.1, 0.5, 0.6, 0.6, 0.6, 0.6])


def test_constant_is_decided_anew_and_one_shot_once():
    options = {"sparsity": 0.5, "warmup": 2, "cooldown": 4, "every": 2}
    constant, once = (
        parse(SparsitySchedule, {**options, "schedule": kind}).over(TEN) for kind in ("constant", "one_shot")
    )
    for course in (constant, once):
        assert [course.at(step) for step in range(4)] == [0, 0, 0.5, 0.5]
    assert [step for step in range(10) if constant.updates(step)] == [2, 4, 5]
    assert [step for step in range(10) if once.updates(step)] == [2]


@pytest.mark.parametrize(
    ("span", "steps"),
    [(0, 0), (3, 3), ("3", 3), (0.25, 2), ("0.5", 5), (0.0, 0), ("1.5ep", 6), ("1 epoch", 4), ("0.5 epochs", 2)],
)
def test_parts_of_the_training(span, steps):
    assert span_steps(span, TEN) == steps
    parse(SparsitySchedule, {"sparsity": 0.5, "warmup": span, "cooldown": 0})


@pytest.mark.parametrize("span", [-1, 1.5, "1.0", "ep", "half", "1e400"])
def test_what_is_no_part_of_the_training_is_refused(span):
    with pytest.raises(RequestError, match=r"warmup: is not a part of the training.*epochs \('1.5ep'\)"):
        parse(SparsitySchedule, {"sparsity": 0.5, "warmup": span})


def test_nan_is_no_part_of_the_training():
    with pytest.raises(RequestError, match=r"^warmup: input should be a finite number, or a valid string, got nan"):
        parse(SparsitySchedule, {"sparsity": 0.5, "warmup": float("nan")})


@pytest.mark.parametrize("sparsity", [1, 1.0, -0.1, float("nan"), "all"])
def test_sparsity_is_from_0_up_to_below_1(sparsity):
    with pytest.raises(RequestError, match="sparsity"):
        parse(SparsitySchedule, {"sparsity": sparsity})


def test_sparsity_is_needed_and_only_grows():
    with pytest.raises(RequestError, match="sparsity: is missing"):
        parse(SparsitySchedule, {})
    with pytest.raises(RequestError, match="initial_sparsity: is 0.6, above the final sparsity 0.5"):
        parse(SparsitySchedule, {"sparsity": 0.5, "initial_sparsity": 0.6})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup": 6, "cooldown": 4}, r"warmup \(6 steps\) and cooldown \(4 steps\) leave no step .* has 10"),
        ({"warmup": 20, "cooldown": 0}, "leave no step to prune in"),
        ({"warmup": "2.5ep", "cooldown": 0}, "2.5ep: 10 steps"),
        ({"warmup": 10, "schedule": "one_shot"}, r"warmup: warmup \(10 steps\) leave no step"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(options, said):
    config = parse(SparsitySchedule, {"sparsity": 0.5, **options})
    with pytest.raises(RequestError, match=said):
        config.over(TEN)


def test_shares_that_fill_any_training_are_refused_at_once():
    with pytest.raises(RequestError, match="are 1 of the training and leave no part of it"):
        parse(SparsitySchedule, {"sparsity": 0.5, "warmup": 0.75, "cooldown": 0.25})
    parse(SparsitySchedule, {"sparsity": 0.5, "warmup": 0.75, "cooldown": 0.25, "schedule": "one_shot"})


@given(
    st.integers(1, 300),
    st.sampled_from(["cubic", "linear", "constant", "one_shot"]),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.integers(1, 40),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_sparsity_grows_and_ends_exactly_at_the_final_one(steps, kind, final, start, every, warmup, cooldown):
    options = {"sparsity": final, "initial_sparsity": final * start, "schedule": kind, "every": every}
    config = parse(SparsitySchedule, {**options, "warmup": warmup, "cooldown": cooldown})
    if steps - warmup - (0 if kind == "one_shot" else cooldown) < 1:
        with pytest.raises(RequestError):
            config.over(Length(steps, 1))
        return
    course = config.over(Length(steps, 1))
    got = [course.at(step) for step in range(steps)]
    assert got == sorted(got)
    assert got[-1] == final
    assert all(sparsity == final * start for sparsity in got[:warmup])
    assert all(got[step] == got[step - 1] for step in range(1, steps) if not course.updates(step))


@given(st.integers(1, 400))
def test_the_defaults_fit_every_training(steps):
    assert sparsities(Length(steps, 5), sparsity=0.7)[-1] == 0.7
