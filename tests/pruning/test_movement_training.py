"""Movement pruning inside `CompressionTrainer` and as a step: resume, distillation, the soft variant, reload."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfcompress import registry
from hfcompress.config import parse
from hfcompress.errors import RequestError
from hfcompress.pruning.movement import MovementConfig
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_inputs, tiny_model
from tests.training.runs import At, build, logged, rows, same, small_student, weights

STEPS = 12


def trainer_of(folder, model=None, teacher=None, callbacks=None, learning=None, **options):
    """A run of 12 steps in batches of 8; `learning` goes to its arguments, other options to the method."""
    options = {"warmup": 2, "cooldown": 3, "score_learning_rate": 0.1, **options}
    learning = {"max_steps": STEPS, "per_device_train_batch_size": 8, **(learning or {})}
    given = {"pruning": {"method": "movement", **options}, "eval_dataset": rows(16)}
    model = small_student() if model is None else model
    return build(model, folder, teacher, given=given, callbacks=callbacks, **learning)


def test_without_sparsity_it_is_the_trainer_bit_for_bit(tmp_path):
    plain = build(small_student(), tmp_path, max_steps=STEPS, per_device_train_batch_size=8)
    plain.train()
    pruned = trainer_of(tmp_path, sparsity=0.0)
    pruned.train()
    assert same(weights(plain.model), weights(pruned.model))


@pytest.mark.parametrize(("structure", "stop"), [("none", 6), ("none", 10), ("heads_and_neurons", 6)])
def test_a_stopped_run_resumes_exactly(structure, stop, tmp_path):
    """The checkpoint is at step 5 or 9: stopped while the sparsity grows, or in the cool-down."""
    options = {"sparsity": 0.6, "structure": structure, "every": 3}
    whole = trainer_of(tmp_path / "whole", **options)
    whole.train()
    save = At(stop - 1, lambda control: setattr(control, "should_save", True))
    halt = At(stop, lambda control: setattr(control, "should_training_stop", True))
    trainer_of(tmp_path / "stopped", callbacks=[save, halt], **options).train()
    torch.manual_seed(99)
    resumed = trainer_of(tmp_path / "stopped", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / f"checkpoint-{stop - 1}"))
    assert same(weights(resumed.model), weights(whole.model))
    assert same(resumed.pruner.state(), whole.pruner.state())
    assert logged(resumed, "loss") == logged(whole, "loss")
    assert logged(resumed, "sparsity") == logged(whole, "sparsity")


def test_the_best_model_is_pruned_as_it_was(tmp_path):
    """Of those at the final sparsity, which the rounding to whole heads puts below what was asked for."""
    steps = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    learning = {**steps, "load_best_model_at_end": True, "learning_rate": 5e-2}
    trainer = trainer_of(tmp_path, sparsity=0.6, structure="heads_and_neurons", cooldown=6, learning=learning)
    trainer.train()
    found = trainer.state.best_metric
    late = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry and entry["step"] >= 6]
    assert found == min(late)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(found, abs=1e-5)


def test_scores_learn_what_the_definition_says(tmp_path):
    """One step of SGD without pruning yet: S = -lr * dL/dW * W."""
    model = small_student()
    before = weights(model)
    learning = {"max_steps": 1, "optim": "sgd", "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    options = {"sparsity": 0.5, "warmup": 0, "cooldown": 0, "init": "zero"}
    trainer = trainer_of(tmp_path, model, learning=learning, **options)
    trainer.pruner.set_step = lambda step: None
    trainer.train()
    name = "bert.encoder.layer.0.output.dense"
    gradient = (before[f"{name}.weight"] - weights(model)[f"{name}.weight"]) / 1e-3
    expected = -0.1 * gradient * before[f"{name}.weight"]
    torch.testing.assert_close(trainer.pruner.state()[f"scores.{name}"], expected, atol=1e-6, rtol=1e-2)


def test_it_ends_at_the_sparsity_and_logs_it(tmp_path):
    trainer = trainer_of(tmp_path, sparsity=0.6, scope="global", remove_empty=False)
    trainer.train()
    seen = logged(trainer, "sparsity")
    assert seen[0] == 0.0
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.6, abs=1e-4)
    inside = [p for p in trainer.model.bert.encoder.parameters() if p.dim() == 2]
    total = sum(p.numel() for p in inside)
    assert sum(int((p == 0).sum()) for p in inside) == round(0.6 * total)


def test_more_regularization_leaves_fewer_weights(tmp_path):
    found = []
    for strength in (0.0, 1.0, 1000.0):
        trainer = trainer_of(
            tmp_path, variant="soft", threshold=0.45, regularization=strength, learning={"max_grad_norm": 0.0}
        )
        trainer.train()
        assert trainer.pruner.target is None
        found.append(trainer.pruner.sparsity)
    assert 0 < found[0] < found[1] < found[2] <= 1


def test_heads_and_neurons_are_removed_and_reload(tmp_path):
    trainer = trainer_of(tmp_path, sparsity=0.75, structure="heads_and_neurons")
    before = sum(p.numel() for p in trainer.model.parameters())
    trainer.train()
    layer = trainer.model.bert.encoder.layer[0]
    assert layer.intermediate.dense.weight.shape == (16, 32)
    assert layer.attention.self.query.weight.shape == (8, 32)
    assert sum(p.numel() for p in trainer.model.parameters()) < before
    trainer.save_model(str(tmp_path / "saved"))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    inputs, model = tiny_inputs(loaded), trainer.model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_evaluation_is_at_the_present_sparsity(tmp_path):
    """What was evaluated last is what comes out."""
    learning = {"eval_strategy": "steps", "eval_steps": STEPS}
    trainer = trainer_of(tmp_path, sparsity=0.75, structure="heads_and_neurons", learning=learning)
    trainer.train()
    during = logged(trainer, "eval_loss")[-1]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(during, abs=1e-5)


@pytest.mark.parametrize("structure", ["none", "block_and_neurons"])
def test_it_learns_from_a_teacher_too(structure, tmp_path):
    options = {"structure": structure, "block": [8, 8]} if structure != "none" else {}
    losses = {"kl": 0.5, "hidden_mse": 0.3, "task": 0.2}
    trainer = trainer_of(tmp_path, None, tiny_model(layers=4), sparsity=0.5, learning={"losses": losses}, **options)
    trainer.train()
    assert trainer.pruner.sparsity == pytest.approx(trainer.pruner.target, abs=1e-12)
    assert len(logged(trainer, "loss_hidden_mse")) == STEPS


def test_scores_learn_alike_with_accumulated_batches(tmp_path):
    """With a teacher: without one, some versions of the Trainer add up the batches' means, whatever is pruned."""
    options = {"variant": "soft", "warmup": 0, "cooldown": 0, "score_learning_rate": 100.0}
    found = []
    for batch, steps in ((8, 1), (2, 4)):
        learning = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "max_steps": 3}
        learning |= {"optim": "sgd", "max_grad_norm": 0.0}
        trainer = trainer_of(tmp_path, None, tiny_model(layers=4), learning=learning, **options)
        trainer.train()
        found.append({name: state for name, state in trainer.pruner.state().items() if name.startswith("scores.")})
    assert max(scores.abs().max().item() for scores in found[0].values()) > 0.1
    for name, scores in found[0].items():
        torch.testing.assert_close(found[1][name], scores, atol=1e-5, rtol=1e-4)


def test_it_is_a_step(tmp_path):
    method = registry.find("pruning", "movement")
    assert method.config is MovementConfig
    training = {"max_steps": 6, "per_device_train_batch_size": 8}
    options = {"sparsity": 0.75, "structure": "neurons", "warmup": 1, "cooldown": 1, "training": training}
    config = parse(MovementConfig, {**options, "losses": "kl"})
    model = method.target(tiny_model(), config, tiny_context(tmp_path))
    assert model.bert.encoder.layer[1].output.dense.weight.shape == (32, 16)
    assert not any("forward_pre" in name and hooks for m in model.modules() for name, hooks in vars(m).items())


def test_training_again_goes_on_pruning(tmp_path):
    """Scores and whole heads are gone from the first optimizer; the second training makes its own."""
    trainer = trainer_of(tmp_path, sparsity=0.3, structure="heads_and_neurons")
    trainer.train()
    once = sum(parameter.numel() for parameter in trainer.model.parameters())
    trainer.train()
    assert trainer.state.global_step == STEPS
    assert sum(parameter.numel() for parameter in trainer.model.parameters()) <= once


def test_a_trainer_that_has_removed_heads_cannot_resume(tmp_path):
    trainer = trainer_of(tmp_path, sparsity=0.3, structure="heads_and_neurons")
    trainer.train()
    with pytest.raises(RequestError, match="has removed parts of its model already"):
        trainer.train(resume_from_checkpoint=True)
