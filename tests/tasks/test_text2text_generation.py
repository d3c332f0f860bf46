"""Text-to-text generation: targets as labels, what the decoder reads, and ROUGE-L of what is written."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hfcompress.data import DataConfig, load_data
from hfcompress.errors import DataError, ModelError
from hfcompress.measure.quality import predict
from hfcompress.tasks import TASKS, find_task, task_of_class
from hfcompress.tasks.text2text_generation import shift_right
from tests.tiny import tiny_config, tiny_head, tiny_tokenizer

TASK = TASKS["text2text-generation"]
TOKENIZER = tiny_tokenizer()
ROWS = Dataset.from_dict({"text": ["the film is warm", "a dull plot"], "labels": ["warm", "dull cold plot"]})


def batch():
    return TASK.collator(TOKENIZER)(list(TASK.encode(ROWS, TOKENIZER, None)))


def test_it_is_found_by_name_and_by_class():
    assert find_task("text2text-generation") is TASK
    assert task_of_class("T5ForConditionalGeneration") is TASK


def test_sources_and_targets_are_tokenized_and_cut():
    examples = list(TASK.encode(ROWS, TOKENIZER, 4))
    assert [set(example) for example in examples] == [{"input_ids", "attention_mask", "labels"}] * 2
    tokens = {name: [TOKENIZER(text)["input_ids"] for text in ROWS[name]] for name in ("text", "labels")}
    assert examples[0]["input_ids"] == [*tokens["text"][0][:3], 3]
    assert examples[0]["labels"] == tokens["labels"][0]
    assert examples[1]["labels"] == [*tokens["labels"][1][:3], 3]


def test_sources_and_targets_are_padded_each_to_its_own_length():
    padded = batch()
    assert padded["input_ids"].shape == padded["attention_mask"].shape == (2, 6)
    assert padded["labels"].shape == (2, 5)
    assert padded["labels"][0].tolist() == [2, TOKENIZER.convert_tokens_to_ids("warm"), 3, -100, -100]
    assert padded["attention_mask"].sum(1).tolist() == [6, 5]


@pytest.mark.parametrize(("family", "start"), [("t5", 0), ("bart", 3)])
def test_the_decoder_reads_the_start_token_and_all_labels_but_the_last(family, start):
    labels = torch.tensor([[7, 8, 3, -100], [9, 3, -100, -100]])
    found = shift_right(labels, tiny_config(family))
    assert found.tolist() == [[start, 7, 8, 3], [start, 9, 3, 0]]
    assert labels.tolist() == [[7, 8, 3, -100], [9, 3, -100, -100]]


MBART = {"vocab_size": 64, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip


@pytest.mark.parametrize("family", ["t5", "mt5", "bart", "mbart"])
def test_it_reads_what_the_model_would_make_of_the_labels_itself(family):
    config = AutoConfig.for_model("mbart", **MBART) if family == "mbart" else tiny_config(family)
    model = AutoModelForSeq2SeqLM.from_config(config)
    labels = torch.tensor([[7, 8, 3, 5], [9, 3, 6, -100]])
    found = TASK.prepare_inputs({"labels": labels}, model.config)["decoder_input_ids"]
    assert torch.equal(found, model.prepare_decoder_input_ids_from_labels(labels=labels))


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_model_without_labels_gives_the_logits_it_gives_with_them(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    with_labels = model(**batch()).logits
    inputs = TASK.prepare_inputs(batch(), model.config)
    del inputs["labels"]
    assert torch.equal(model(**inputs).logits, with_labels)


def test_what_the_decoder_reads_is_left_as_it_is_given():
    given = {"labels": torch.tensor([[7, 3]]), "decoder_input_ids": torch.tensor([[9, 9]])}
    assert TASK.prepare_inputs(given, tiny_config("t5")) == given
    assert TASK.prepare_inputs({"input_ids": 1}, tiny_config("t5")) == {"input_ids": 1}


def test_a_config_without_a_start_token_is_refused():
    config = tiny_config("bart")
    config.decoder_start_token_id = None
    with pytest.raises(ModelError, match=r"^config: names no decoder_start_token_id\. Set it as the model"):
        shift_right(torch.tensor([[7, 3]]), config)


def test_targets_must_be_texts(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("document,summary\nthe film,warm\na plot,\nthe end,cold\nthe cast,\n")
    with pytest.raises(
        DataError, match=r"labels: 2 of the 4 validation rows have no target text \(rows 1, 3, from 0\)"
    ):
        load_data(DataConfig(str(file), validation=str(file)), 0, TASK)


def test_columns_are_found_by_their_usual_names(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("document,summary\n" + "the film,warm\na plot,cold\n" * 5)
    data = load_data(DataConfig(str(file), validation=2), 0, TASK)
    assert data.train.column_names == ["text", "labels"]
    assert (len(data.train), len(data.validation)) == (8, 2)
    assert data.label_names == ()


def test_rows_without_targets_are_refused():
    with pytest.raises(DataError, match=r"^unlabeled_dataset: rows without a target text teach this task nothing"):
        TASK.unknown_labels(ROWS, "warm")


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_teacher_forced_scores_need_labels_alone(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    answers = predict(model, TOKENIZER, ROWS, TASK, None)
    assert answers[:, 2].tolist() == [3, 5]
    total = model(**batch()).loss.item() * 8
    assert answers[:, 0].sum() == pytest.approx(total, rel=1e-5)


def test_rouge_l_is_of_what_the_model_writes():
    model = tiny_head("t5", "ForSeq2SeqLM")
    calls = []

    def generate(**options):
        calls.append(options)
        return torch.tensor([[0, *TOKENIZER("warm", add_special_tokens=False)["input_ids"], 3], [0, 2, 3]])

    model.generate = generate
    inputs = batch()
    found = TASK.written(model, inputs, TOKENIZER)
    assert found.tolist() == [[1.0], [0.0]]
    assert torch.equal(calls[0]["input_ids"], inputs["input_ids"])
    assert calls[0]["num_beams"] == 1
    assert not calls[0]["do_sample"]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_real_model_writes_and_rouge_l_joins_the_metrics(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    written = TASK.written(model, batch(), TOKENIZER)
    assert written.shape == (2, 1)
    answers = np.concatenate([predict(model, TOKENIZER, ROWS, TASK, None), written], axis=1)
    metrics = TASK.metrics(answers, TASK.references(ROWS))
    assert list(metrics) == ["accuracy", "cross_entropy", "perplexity", "rouge_l"]
    assert metrics["rouge_l"] == written.mean()


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_example_inputs_run(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    outputs = model(**TASK.example_inputs(model.config, batch_size=2, length=8))
    assert outputs.logits.shape == (2, 8, 64)
