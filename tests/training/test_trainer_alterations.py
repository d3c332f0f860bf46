"""Pruning while training: what the Trainer does for a pruner."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, EarlyStoppingCallback

from hfcompress.errors import RequestError
from hfcompress.modeling.targets import targets_of
from hfcompress.pruning.magnitude import MagnitudeConfig
from tests.tiny import tiny_model
from tests.training.pruners import ROWS, ScoredConfig
from tests.training.runs import (
    At,
    build,
    distance,
    learned,
    logged,
    rows,
    same,
    small_student,
    summed_cross_entropy,
    weights,
)

HALF = {"method": "magnitude", "sparsity": 0.5, "every": 1}
SGD = {"optim": "sgd", "learning_rate": 0.05}


def prune(folder, pruning=None, teacher=None, given=None, student=None, **options):
    given = {"pruning": pruning if pruning is not None else HALF, **(given or {})}
    return build(student if student is not None else small_student(), folder, teacher, given=given, **options)


def zeros(model):
    return [int((module.weight == 0).sum()) for module in targets_of(model).values()]


HALVES = ([512] * 4 + [1024] * 2) * 2


@pytest.mark.parametrize("taught", [False, True])
def test_the_trained_model_has_true_zeros(taught, tmp_path):
    trainer = prune(tmp_path, teacher=tiny_model(layers=4) if taught else None, num_train_epochs=2)
    trainer.train()
    assert zeros(trainer.model) == HALVES
    assert not any(module._forward_pre_hooks for module in trainer.model.modules())
    trainer.save_model(str(tmp_path / "saved"))
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert zeros(saved) == HALVES
    assert logged(trainer, "sparsity")[-1] == 0.5
    assert logged(trainer, "sparsity") == sorted(logged(trainer, "sparsity"))
    assert 0 < logged(trainer, "sparsity")[1] < 0.5
    assert ("loss_kl" in trainer.state.log_history[0]) is taught


def test_configs_pruners_and_names_are_the_same(tmp_path):
    found = []
    for pruning in (
        HALF,
        MagnitudeConfig(sparsity=0.5, every=1),
        MagnitudeConfig(sparsity=0.5, every=1).build(small_student()),
    ):
        trainer = prune(tmp_path, pruning)
        trainer.train()
        found.append(weights(trainer.model))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_sparsity_0_trains_as_without_pruning(tmp_path):
    pruned = prune(tmp_path, {"method": "magnitude", "sparsity": 0}, student=tiny_model(seed=1))
    pruned.train()
    plain = build(tiny_model(seed=1), tmp_path)
    plain.train()
    assert same(weights(pruned.model), weights(plain.model))
    assert logged(pruned, "loss") == logged(plain, "loss")
    assert logged(pruned, "grad_norm") == logged(plain, "grad_norm")


def test_evaluation_is_at_the_sparsity_of_the_moment(tmp_path):
    """What was evaluated at a step is what the checkpoint of that step gives with its masks, and not without them."""
    trainer = prune(
        tmp_path,
        num_train_epochs=2,
        given={"eval_dataset": rows(20)},
        **{"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4, "learning_rate": 1e-2},
    )
    trainer.train()
    (entry,) = [e for e in trainer.state.log_history if "eval_loss" in e and e["step"] == 4]
    folder = tmp_path / "checkpoint-4"
    dense = AutoModelForSequenceClassification.from_pretrained(folder)
    masks = load_file(folder / "pruning.safetensors")
    share = 1 - sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert entry["sparsity"] == round(share, 4)
    assert 0 < share < 0.5
    assert zeros(dense) == [0] * 12
    plain = build(dense, tmp_path, given={"eval_dataset": rows(20)}).evaluate()["eval_loss"]
    for name, mask in masks.items():
        dense.get_submodule(name).weight.data.mul_(mask)
    masked = build(dense, tmp_path, given={"eval_dataset": rows(20)}).evaluate()["eval_loss"]
    assert entry["eval_loss"] == masked != plain


def test_training_again_prunes_again(tmp_path):
    trainer = prune(tmp_path)
    trainer.train()
    first = [module.weight == 0 for module in targets_of(trainer.model).values()]
    trainer.train()
    assert zeros(trainer.model) == HALVES
    assert all(
        torch.equal(module.weight == 0, then)
        for module, then in zip(targets_of(trainer.model).values(), first, strict=True)
    )


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("strength", [0.0, 0.05])
def test_accumulation_of_1_4_and_8_gives_the_same_weights_and_scores(strength, taught, tmp_path):
    # Without a teacher and such a function, transformers 5 adds up the micro-batches' means of a classifier's loss.
    given = {} if taught else {"compute_loss_func": summed_cross_entropy}

    def run(micro_batches):
        trainer = prune(
            tmp_path,
            ScoredConfig(strength),
            tiny_model(layers=4) if taught else None,
            given,
            data=rows(64),
            per_device_train_batch_size=16 // micro_batches,
            gradient_accumulation_steps=micro_batches,
            **SGD,
        )
        trainer.train()
        return trainer

    whole, *split = (run(count) for count in (1, 4, 8))
    assert "rows.values" in learned(whole)
    for one in split:
        assert distance(learned(one), learned(whole)) < 2e-6
        assert logged(one, "loss") == pytest.approx(logged(whole, "loss"), abs=1.1e-4)


def test_the_penalty_by_hand(tmp_path):
    """One step of SGD moves the scores by the penalty's gradient and the loss's, each once."""
    strength = 0.05
    found = {}
    for given in (0.0, strength):
        trainer = prune(tmp_path, ScoredConfig(given), max_steps=1, data=rows(16), max_grad_norm=0.0, **SGD)
        start = weights(trainer.pruner.learned)["rows.values"]
        trainer.train()
        found[given] = weights(trainer.pruner.learned)["rows.values"] - start
        found[f"loss {given}"] = logged(trainer, "loss")[0]
    slope = torch.sigmoid(start) * (1 - torch.sigmoid(start))
    torch.testing.assert_close(found[strength] - found[0.0], -0.02 * strength * slope, rtol=0, atol=2e-7)
    penalty = float(strength * torch.sigmoid(start).sum())
    assert found[f"loss {strength}"] - found["loss 0.0"] == pytest.approx(penalty, abs=1e-4)


def test_scores_have_their_own_learning_rate_and_are_clipped_by_themselves(tmp_path):
    trainer = prune(tmp_path, ScoredConfig(100.0), max_steps=1, data=rows(16), lr_scheduler_type="constant", **SGD)
    start = weights(trainer.pruner.learned)["rows.values"]
    trainer.train()
    moved = (weights(trainer.pruner.learned)["rows.values"] - start).norm()
    assert moved == pytest.approx(0.02 * trainer.args.max_grad_norm, rel=1e-3)
    groups = trainer.optimizer.param_groups
    assert [(group["lr"], len(group["params"])) for group in groups][2:] == [(0.02, 1)]
    assert not any(
        parameter.grad is not None and parameter.grad.any() for parameter in trainer.pruner.learned.parameters()
    )


def test_what_is_learned_becomes_true(tmp_path):
    trainer = prune(tmp_path, ScoredConfig(), num_train_epochs=2)
    trainer.train()
    gone = trainer.pruner.learned["rows"].values <= 0
    module = trainer.model.get_submodule(ROWS)
    assert 0 < int(gone.sum()) < 64
    assert not module.weight[gone].any()
    assert not module.bias[gone].any()
    assert module.weight[~gone].any(dim=1).all()
    assert trainer.pruner.steps == list(range(8))
    assert (trainer.pruner.length.steps, trainer.pruner.length.steps_per_epoch) == (8, 4)


def test_epochs_are_counted_in_optimizer_steps(tmp_path):
    trainer = prune(
        tmp_path, ScoredConfig(), num_train_epochs=3, per_device_train_batch_size=8, gradient_accumulation_steps=3
    )
    trainer.train()
    assert (trainer.pruner.length.steps, trainer.pruner.length.steps_per_epoch) == (9, 3)


def test_an_optimizer_that_lacks_the_scores_is_refused(tmp_path):
    student = small_student()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    trainer = prune(tmp_path, ScoredConfig(), student=student, given={"optimizers": (optimizer, None)})
    with pytest.raises(RequestError, match="optimizers: the optimizer passed in lacks the scores"):
        trainer.train()


def test_the_same_trainer_goes_on_from_a_checkpoint(tmp_path):
    options = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 5}
    whole = prune(tmp_path / "whole", **options)
    whole.train()
    stop = At(6, lambda control: setattr(control, "should_training_stop", True))
    trainer = prune(tmp_path / "stopped", given={"callbacks": [stop]}, **options)
    trainer.train()
    assert zeros(trainer.model) != [0] * 12
    trainer.remove_callback(stop)
    trainer.train(resume_from_checkpoint=True)
    assert same(weights(trainer.model), weights(whole.model))


BEST = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "num_train_epochs": 3}
BEST |= {"load_best_model_at_end": True, "metric_for_best_model": "score", "greater_is_better": True}


def scores_that_fall():
    """Metrics by which each evaluation is worse than the one before."""
    left = iter(range(100, 0, -1))
    return lambda _: {"score": next(left)}


def test_the_best_model_is_one_of_the_final_sparsity_with_its_own_masks(tmp_path):
    pruning = {**HALF, "schedule": "constant", "warmup": 3, "cooldown": 1}
    given = {"eval_dataset": rows(20), "compute_metrics": scores_that_fall()}
    trainer = prune(tmp_path, pruning, given=given, **BEST)
    trainer.train()
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-4"
    masks = load_file(tmp_path / "checkpoint-4" / "pruning.safetensors")
    dense = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    for name, mask in masks.items():
        assert torch.equal(trainer.model.get_submodule(name).weight, dense[f"{name}.weight"] * mask)
    assert zeros(trainer.model) == HALVES
    last = load_file(tmp_path / "checkpoint-12" / "pruning.safetensors")
    assert not same(masks, last)


def test_the_best_model_needs_the_masks_of_checkpoints(tmp_path):
    with pytest.raises(
        RequestError,
        match="load_best_model_at_end: with save_only_model, checkpoints lack what the best model would need",
    ):
        prune(tmp_path, given={"eval_dataset": rows(20)}, save_only_model=True, **BEST)


def test_stopping_early_leaves_true_zeros(tmp_path):
    given = {"eval_dataset": rows(20), "compute_metrics": scores_that_fall(), "callbacks": [EarlyStoppingCallback(1)]}
    trainer = prune(tmp_path, {**HALF, "cooldown": 8}, given=given, **BEST)
    trainer.train()
    assert trainer.state.global_step < 12
    assert zeros(trainer.model) == HALVES


def test_a_checkpoint_without_masks_is_refused(tmp_path):
    build(small_student(), tmp_path, save_strategy="steps", save_steps=2).train()
    with pytest.raises(RequestError, match=r"was made without pruning: pruning.safetensors is missing"):
        prune(tmp_path).train(resume_from_checkpoint=True)


def test_without_pruning_nothing_is_saved_or_logged(tmp_path):
    trainer = build(small_student(), tmp_path, save_strategy="epoch")
    trainer.train()
    assert not list(tmp_path.glob("checkpoint-*/pruning.safetensors"))
    assert not logged(trainer, "sparsity")


@pytest.mark.parametrize(
    ("pruning", "said"),
    [
        (5, "pruning: takes the config of a method that prunes in training, got int. Methods: .*magnitude"),
        ({"sparsity": 0.5}, "pruning.method: is missing. Allowed: .*magnitude"),
        ({"method": "magnitud"}, "Did you mean 'magnitude'"),
        ({"method": "wanda", "sparsity": 0.5}, "'wanda' does not prune in training. Those that do: .*magnitude"),
        ({"method": "magnitude", "sparsity": 2}, "pruning.sparsity: input should be less than 1"),
        ({"method": "magnitude", "sparsity": 0.5, "losses": "kl"}, "pruning: losses would do nothing here"),
        ({"method": "magnitude", "sparsity": 0.5, "modules": ["*.x"]}, "'\\*.x' matches nothing"),
    ],
)
def test_bad_requests_are_refused_before_training(pruning, said, tmp_path):
    with pytest.raises(RequestError, match=said):
        prune(tmp_path, pruning)


def test_a_schedule_longer_than_the_training_is_refused_before_a_step(tmp_path):
    trainer = prune(tmp_path, {**HALF, "warmup": "2ep", "cooldown": 0})
    before = weights(trainer.model)
    with pytest.raises(RequestError, match=r"warmup \(2ep: 8 steps\) .* leave no step to prune in: the training has 4"):
        trainer.train()
    assert same(weights(trainer.model), before)


def test_model_init_is_refused(tmp_path):
    with pytest.raises(RequestError, match="pruning: needs the model at once"):
        build(None, tmp_path, given={"model_init": lambda: small_student(), "pruning": HALF})
