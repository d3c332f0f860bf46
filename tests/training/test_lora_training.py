"""LoRA in the steps that train: what changes, what a model is afterwards, that a stopped run goes on exactly."""

import pytest
import torch

from hfcompress.config import parse
from hfcompress.distillation.distill import DistillConfig, distill
from hfcompress.errors import InterruptedByUserError, RequestError
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.pruning.magnitude import MagnitudeConfig
from hfcompress.training.callbacks import InterruptCallback
from hfcompress.training.finetune import FinetuneConfig, finetune
from hfcompress.training.lora import LoraOptions
from hfcompress.training.run import Run, train
from tests.cli.support import hfcompress
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_inputs, tiny_model, tiny_tokenizer, write_csv
from tests.training.runs import same, weights
from tests.training.test_lora import answer, layers, low_rank

TRAINING = {"per_device_train_batch_size": 8, "num_train_epochs": 4.0, "learning_rate": 1e-2, "save_steps": 3}
"""Four epochs of three steps."""


def options(**lora):
    config = parse(FinetuneConfig, {"lora": {"rank": 2, **lora}})
    config.training = dict(TRAINING)
    return config


def test_only_factors_and_head_change_each_by_no_more_than_the_rank(tmp_path):
    model = low_rank()
    before, kinds = weights(model), layers(model)
    trained = finetune(model, options(), tiny_context(tmp_path))
    assert trained is model
    assert layers(model) == kinds
    assert not model.training
    after = weights(model)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    factors = [name for name in before if name.endswith((".down.weight", ".up.weight"))]
    assert changed == [*factors, "classifier.weight", "classifier.bias"]
    for name in factors:
        sizes = torch.linalg.svdvals(after[name].double() - before[name].double())
        assert sizes[1] > 1e-4
        assert sizes[2] < 1e-5 * sizes[0]


def test_the_result_is_saved_and_loaded_as_it_was(tmp_path):
    model = finetune(low_rank(), options(), tiny_context(tmp_path / "work"))
    model.save_pretrained(tmp_path / "out")
    again = type(model).from_pretrained(tmp_path / "out")
    assert {module.rank for module in again.modules() if isinstance(module, LowRankLinear)} == {6}
    assert torch.equal(answer(again), answer(model))


def test_it_learns(tmp_path):
    """Adapters on random layers, and a head, tell good words from bad."""
    context, config = tiny_context(tmp_path, rows=64), options(rank=4)
    config.training |= {"num_train_epochs": 10.0}
    model = finetune(tiny_model(), config, context)
    batch = context.processor(list(context.data.train["text"]), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**batch).logits.argmax(-1)
    assert (found == torch.tensor(context.data.train["labels"])).float().mean() > 0.8


@pytest.fixture
def stop_at(monkeypatch):
    """Let something happen at the end of an optimizer step of the next training."""

    def stop_at(step, happen):
        inner = InterruptCallback.on_step_end

        def on_step_end(self, args, state, control, **kwargs):
            inner(self, args, state, control, **kwargs)
            if state.global_step == step:
                happen(self, control)

        monkeypatch.setattr(InterruptCallback, "on_step_end", on_step_end)
        return lambda: monkeypatch.setattr(InterruptCallback, "on_step_end", inner)

    return stop_at


def _fail(callback, control):
    raise ZeroDivisionError


def _interrupt(callback, control):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("happen", "error"), [(_fail, ZeroDivisionError), (_interrupt, InterruptedByUserError)], ids=["failed", "stopped"]
)
def test_a_run_that_ended_early_goes_on_exactly(happen, error, stop_at, tmp_path):
    """Checkpoints are at steps 3, 6, …; a run that fails at 5 goes on from 3."""
    config = options(dropout=0.2)
    whole = finetune(low_rank(), config, tiny_context(tmp_path / "whole"))
    go_on = stop_at(5, happen)
    model = low_rank()
    kinds = layers(model)
    with pytest.raises(error):
        finetune(model, config, tiny_context(tmp_path / "stopped"))
    assert layers(model) == kinds
    go_on()
    torch.manual_seed(99)
    resumed = finetune(low_rank(), config, tiny_context(tmp_path / "stopped"))
    assert same(weights(resumed), weights(whole))
    assert not same(weights(resumed), weights(low_rank()))


@pytest.mark.parametrize("kind", [None, False, True])
def test_gradient_checkpointing_changes_nothing(kind, tmp_path):
    """Frozen embeddings must not keep the gradients from the adapters, as they do in transformers 4's own default."""
    plain = finetune(low_rank(), options(), tiny_context(tmp_path / "plain"))
    config = options()
    config.training["gradient_checkpointing"] = True
    if kind is not None:
        config.training["gradient_checkpointing_kwargs"] = {"use_reentrant": kind}
    other = finetune(low_rank(), config, tiny_context(tmp_path / "other"))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(other)[name], tensor, atol=1e-4, rtol=1e-3)


def test_it_does_not_go_with_pruning_in_training(tmp_path):
    model = tiny_model()
    run = Run(
        "both", dict(TRAINING), alterations={"pruning": MagnitudeConfig(train=True).build(model)}, lora=LoraOptions()
    )
    with pytest.raises(RequestError, match=r"lora: does not go with pruning in training\. Train adapters in a later"):
        train(model, run, tiny_context(tmp_path))


@pytest.fixture
def dense(tmp_path):
    """An earlier step's model in a folder, and a context that knows it."""
    context = tiny_context(tmp_path / "work")
    tiny_model(layers=2, seed=4).save_pretrained(tmp_path / "dense")
    context.processor.save_pretrained(tmp_path / "dense")
    context.earlier["dense"] = tmp_path / "dense"
    return context


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"losses": "kl,hidden_mse,minilmv2"},
        {"cache_teacher": "answers"},
        {"student": "cut:layers=1"},
    ],
    ids=["kl", "all", "cached", "student"],
)
def test_the_dense_model_teaches_the_factors(more, dense, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse(DistillConfig, {"teacher": "dense", "lora": {"rank": 2}, **more})
    config.training = {**TRAINING, "learning_rate": 1e-3}
    model = low_rank()
    start = weights(model)
    trained = distill(model, config, dense)
    assert not [name for name in weights(trained) if "lora" in name]
    if "student" in more:
        assert trained.config.num_hidden_layers == 1
        return
    assert trained is model
    frozen = [name for name in start if not name.endswith((".down.weight", ".up.weight")) and "classifier" not in name]
    assert all(torch.equal(weights(trained)[name], start[name]) for name in frozen)
    assert nearer(trained, low_rank(), tiny_model(layers=2, seed=4))


def nearer(trained, start, teacher):
    inputs = tiny_inputs(teacher)
    with torch.no_grad():
        wanted, begun, found = (model(**inputs).logits.softmax(-1) for model in (teacher, start, trained))
    return (found - wanted).abs().mean() < (begun - wanted).abs().mean()


def test_the_command_line_takes_it(tmp_path):
    tiny_model(layers=2).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    data = write_csv(tmp_path / "reviews.csv", 24)
    words = ("distill", "--teacher", tmp_path / "teacher", "--student", "cut:layers=1", "--dataset", data, "--dry-run")
    words += ("--output-dir", tmp_path / "out")
    assert hfcompress(*words, "--lora", '{"rank": 2}').code == 0
    done = hfcompress(*words, "--lora", '{"rank": -2}')
    assert done.code == 2
    assert "lora.rank: input should be greater than 0, got -2." in done.err
