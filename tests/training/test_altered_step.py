"""Pruning as a step that trains: what it learns from, interruption, pruning and retraining by turns."""

import os
import signal

import pytest
import torch

from hfcompress.config import parse
from hfcompress.errors import InterruptedByUserError, RequestError, TeacherError
from hfcompress.modeling.targets import targets_of
from hfcompress.pruning.magnitude import MagnitudeConfig, MagnitudePruner, magnitude
from hfcompress.training import altered_step
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_model

TRAINING = {"per_device_train_batch_size": 8, "num_train_epochs": 4.0, "learning_rate": 1e-3, "save_steps": 3}


def config(**options):
    made = parse(MagnitudeConfig, {"train": True, "every": 1, "sparsity": 0.5, **options})
    made.training = dict(TRAINING)
    return made


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def zeros(model):
    return [module.weight == 0 for module in targets_of(model).values()]


@pytest.fixture
def asked(monkeypatch):
    """What is to be trained, which then is not."""
    seen = []
    monkeypatch.setattr(altered_step, "train", lambda model, run, context: seen.append(run) or model)
    return seen


def test_without_losses_it_learns_from_the_labels(asked, tmp_path):
    magnitude(tiny_model(), config(), tiny_context(tmp_path))
    (run,) = asked
    assert (run.title, run.losses, list(run.teachers), run.training) == ("magnitude", None, [], TRAINING)
    assert isinstance(run.alterations["pruning"], MagnitudePruner)


@pytest.mark.parametrize("given", [{"losses": "kl"}, {"alpha": 0.7}, {"temperature": 2.0}])
def test_with_losses_it_learns_from_the_model_as_it_came_in(given, asked, tmp_path):
    model = tiny_model()
    magnitude(model, config(**given), tiny_context(tmp_path))
    (run,) = asked
    ((teacher, processor),) = run.teachers
    assert run.losses["kl"]["weight"] == 0.7
    assert run.losses["task"]["weight"] == 0.3
    assert teacher is not model
    assert same(weights(teacher), weights(model))
    assert processor.get_vocab()


def test_a_named_teacher_is_an_earlier_step(asked, tmp_path):
    context = tiny_context(tmp_path / "work")
    tiny_model(layers=3, seed=5).save_pretrained(tmp_path / "first")
    context.processor.save_pretrained(tmp_path / "first")
    context.earlier["first"] = tmp_path / "first"
    magnitude(tiny_model(), config(teacher="first"), context)
    (run,) = asked
    assert same(weights(run.teachers[0][0]), weights(tiny_model(layers=3, seed=5)))
    assert set(run.losses) == {"kl", "task"}


@pytest.mark.parametrize("given", [{}, {"losses": "kl,hidden_mse"}])
def test_the_step_returns_a_model_with_zeros_that_has_learned(given, tmp_path):
    before = tiny_model()
    model = magnitude(tiny_model(), config(**given), tiny_context(tmp_path))
    assert [int(part.sum()) for part in zeros(model)] == [round(0.5 * part.numel()) for part in zeros(model)]
    assert not model.training
    assert not same(weights(model.classifier), weights(before.classifier))


def test_a_run_that_was_interrupted_goes_on_exactly(tmp_path, monkeypatch):
    whole = magnitude(tiny_model(), config(losses="kl"), tiny_context(tmp_path / "whole"))
    inner = MagnitudePruner.set_step

    def set_step(self, step):
        inner(self, step)
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(MagnitudePruner, "set_step", set_step)
        with pytest.raises(InterruptedByUserError, match="Stopped at step 5 of 12"):
            magnitude(tiny_model(), config(losses="kl"), tiny_context(tmp_path / "stopped"))
    resumed = magnitude(tiny_model(), config(losses="kl"), tiny_context(tmp_path / "stopped"))
    assert same(weights(resumed), weights(whole))


def test_pruning_and_retraining_by_turns(tmp_path):
    """Han et al. 2015: each turn's zeros stay in the next."""
    model = tiny_model()
    found = []
    for turn, sparsity in enumerate((0.4, 0.6, 0.8)):
        options = {"sparsity": sparsity, "schedule": "one_shot", "warmup": 0}
        model = magnitude(model, config(**options), tiny_context(tmp_path / str(turn)))
        found.append(zeros(model))
        assert [int(part.sum()) for part in found[-1]] == [round(sparsity * part.numel()) for part in found[-1]]
    for then, now in zip(found, found[1:], strict=False):
        assert all(bool((later | ~earlier).all()) for earlier, later in zip(then, now, strict=True))


def test_a_schedule_longer_than_the_training_is_refused_before_a_step(tmp_path):
    model = tiny_model()
    with pytest.raises(RequestError, match=r"warmup \(10 steps\) and cooldown \(2 steps\) leave no step .* has 12"):
        magnitude(model, config(warmup=10, cooldown=2), tiny_context(tmp_path))
    assert same(weights(model), weights(tiny_model()))


def test_filters_are_checked_before_a_teacher_is_loaded(tmp_path):
    with pytest.raises(RequestError, match="matches nothing"):
        magnitude(tiny_model(), config(modules=["*.x"], teacher="no/where"), tiny_context(tmp_path))


def test_a_model_whose_head_was_never_trained_cannot_teach_itself():
    with pytest.raises(TeacherError, match="its head was never trained"):
        config(losses="kl").check_start(trained=False)
    config(losses="kl").check_start(trained=True)
    config(losses="kl", teacher="first").check_start(trained=False)
    config().check_start(trained=False)
