"""Losses on what happens inside the models, through the Trainer, for every kind of architecture."""

import pytest
import torch
from datasets import Dataset

from hfcompress import CompressionArguments, CompressionTrainer
from hfcompress.errors import RequestError
from tests.tiny import CONVOLUTIONAL, tiny_head, tiny_inputs, tiny_model

ENCODERS = ["bert", "distilbert", "roberta", "mpnet", "albert", "deberta-v2", "modernbert", "squeezebert"]
DECODERS = ["gpt2", "llama", "qwen2", "qwen3"]


def head_of(family):
    if family == "vit":
        return "ForImageClassification"
    return "ForSeq2SeqLM" if family in ("bart", "t5") else "ForCausalLM" if family in DECODERS else "ForMaskedLM"


def trainer_of(family, losses, tmp_path, head=None, **options):
    """A trainer of a 2-layer student and a 4-layer teacher of one family."""
    head = head or head_of(family)
    teacher, student = (tiny_head(family, head, layers=layers, seed=layers) for layers in (4, 2))
    args = CompressionArguments(
        output_dir=str(tmp_path), losses=losses, report_to="none", use_cpu=True, logging_steps=1, **options
    )
    return CompressionTrainer(student, args, teacher=teacher)


def batch_for(model):
    batch = tiny_inputs(model)
    if "pixel_values" in batch:
        return {**batch, "labels": torch.tensor([0, 1])}
    ids = batch["input_ids"]
    labels = ids.masked_fill(batch["attention_mask"] == 0, -100)
    return {**batch, "labels": batch.get("decoder_input_ids", labels)}


def loss_of(trainer, batch):
    """The loss of one batch, in training, without dropout."""
    trainer.model.train()
    for module in trainer.model.modules():
        for name in ("p", "dropout", "dropout_prob", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    trainer.current_gradient_accumulation_steps = 1
    (batch,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    return trainer.compute_loss(trainer.model, batch, num_items_in_batch=count)


@pytest.mark.parametrize("loss", ["hidden_mse", "minilmv2", "minilm", "attention_kl", "attention_mse", "rkd"])
@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS, "bart", "t5", "vit"])
def test_every_loss_reads_every_kind_of_model_and_reaches_its_weights(family, loss, tmp_path):
    trainer = trainer_of(family, {loss: 1.0}, tmp_path)
    value = loss_of(trainer, batch_for(trainer.model))
    assert torch.isfinite(value)
    assert value > 0 or (family, loss) == ("vit", "rkd")  # two images have one distance, which is its own mean
    value.backward()
    gradients = [weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("loss", ["kl", "hidden_mse", "minilmv2", "minilm", "attention_kl", "attention_mse"])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "bart"])
def test_more_padding_changes_nothing(family, loss, tmp_path):
    trainer = trainer_of(family, {loss: 1.0}, tmp_path)
    batch = batch_for(trainer.model)
    value = loss_of(trainer, batch)
    pad = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    longer = {name: torch.nn.functional.pad(batch[name], (0, 3), value=pad[name]) for name in pad if name in batch}
    if "decoder_input_ids" in batch:
        longer["labels"] = batch["labels"]
        longer["decoder_input_ids"] = batch["decoder_input_ids"]
    torch.testing.assert_close(loss_of(trainer, longer), value, rtol=1e-5, atol=1e-7)


def test_attention_losses_switch_both_models_to_eager_and_say_so(tmp_path, caplog):
    trainer = trainer_of("llama", {"attention_kl": 1.0}, tmp_path)
    assert trainer.model.config._attn_implementation == "eager"
    assert trainer.distiller.teacher.model.config._attn_implementation == "eager"
    assert "eager attention" in caplog.text


def test_a_bert_on_fast_attention_gives_its_attentions(tmp_path):
    trainer = trainer_of("bert", {"attention_kl": 1.0}, tmp_path)
    attentions = trainer.distiller.teacher.ask(batch_for(trainer.model)).signals.attentions
    assert len(attentions) == 4
    torch.testing.assert_close(attentions[0].sum(-1), torch.ones(3, 4, 9))


def test_relations_leave_the_models_on_fast_attention(tmp_path):
    trainer = trainer_of("bert", {"minilmv2": 1.0}, tmp_path)
    assert trainer.model.config._attn_implementation == "sdpa"
    assert trainer.distiller.teacher.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", CONVOLUTIONAL)
def test_attention_of_a_model_without_any_is_refused(family, tmp_path):
    with pytest.raises(RequestError, match="attention"):
        trainer_of(family, {"attention_kl": 1.0}, tmp_path, head="ForImageClassification")


def test_several_teachers_give_the_mean_of_their_probabilities(tmp_path):
    one, two, student = (tiny_model("bert", layers=2, seed=seed) for seed in (1, 2, 3))
    batch = {"input_ids": torch.tensor([[2, 6, 7, 3]]), "labels": torch.tensor([1])}
    args = CompressionArguments(output_dir=str(tmp_path), losses={"kl": {"temperature": 2.0}}, use_cpu=True)
    trainer = CompressionTrainer(student, args, teacher=[one, two], teacher_weights=[3, 1])
    value = loss_of(trainer, batch)
    with torch.no_grad():
        p = sum(
            weight * torch.softmax(model(batch["input_ids"]).logits / 2, -1)
            for weight, model in ((0.75, one), (0.25, two))
        )
        q = torch.log_softmax(student(batch["input_ids"]).logits / 2, -1)
    torch.testing.assert_close(value, 4 * (p * (p.log() - q)).sum())


def test_several_teachers_cannot_teach_hidden_states(tmp_path):
    teachers = [tiny_model("bert", layers=2, seed=seed) for seed in (1, 2)]
    args = CompressionArguments(output_dir=str(tmp_path), losses={"hidden_mse": 1.0}, use_cpu=True)
    with pytest.raises(RequestError, match="predictions alone"):
        CompressionTrainer(tiny_model("bert"), args, teacher=teachers)


def test_the_teacher_whose_labels_disagree_is_named(tmp_path):
    teachers = [tiny_model("bert", num_labels=count) for count in (2, 3)]
    args = CompressionArguments(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(RequestError, match="teacher 2: has 3 labels, the student 2"):
        CompressionTrainer(tiny_model("bert"), args, teacher=teachers)


def test_a_schedule_moves_with_the_training(tmp_path):
    student, teacher = (tiny_model("bert", seed=seed) for seed in (1, 2))
    rows = Dataset.from_dict({"input_ids": [[2, 6, 3]] * 8, "labels": [0, 1] * 4})
    args = CompressionArguments(
        output_dir=str(tmp_path),
        losses={"kl": {"weight": {"start": 1.0, "end": 0.0}}, "task": 1.0},
        use_cpu=True, max_steps=4, per_device_train_batch_size=2, report_to="none", save_strategy="no",
    )  # fmt: skip
    trainer = CompressionTrainer(student, args, teacher=teacher, train_dataset=rows)
    seen = []
    inner = trainer.training_step

    def step(*args, **kwargs):
        seen.append(trainer.distiller.objective.terms["kl"].weight)
        return inner(*args, **kwargs)

    trainer.training_step = step
    trainer.train()
    assert seen == [1.0, 0.75, 0.5, 0.25]
