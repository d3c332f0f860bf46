"""Token classification: one tag a word, whatever its pieces, its padding and its cuts; scored as entities."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List, concatenate_datasets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import TokenClassifierOutput as Output

from hfcompress.data import DataConfig, encode, load_data, load_validation
from hfcompress.errors import DataError
from hfcompress.measure.quality import predict, score
from hfcompress.tasks import TASKS, task_of_class
from tests.tasks.runs import first_losses, fresh, train
from tests.tiny import BAD, GOOD, sentences, tiny_head, tiny_tokenizer

TASK = TASKS["token-classification"]
NAMES = ["B-BAD", "B-GOOD", "O"]


def tags_of(words):
    return ["B-GOOD" if word in GOOD else "B-BAD" if word in BAD else "O" for word in words]


def write(folder, records, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def tagged(count, seed=0):
    texts = [text.split() for text, _ in sentences(count, seed)]
    return [{"tokens": words, "ner_tags": tags_of(words)} for words in texts]


def load(path, model=None, **config):
    return load_data(DataConfig(path, **{"validation": 2, **config}), 0, TASK, model)


def refusal(path, model=None, **config):
    with pytest.raises(DataError) as error:
        load(path, model, **config)
    return str(error.value)


def data_of(texts, tags, names=NAMES):
    rows = Dataset.from_dict({"text": texts, "labels": [[names.index(tag) for tag in row] for row in tags]})
    return rows.cast_column("labels", List(ClassLabel(names=names)))


def pieces_tokenizer():
    """A tokenizer that cuts words into letters."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "##a": 5}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", model_max_length=64)  # noqa: S106


def test_tags_are_numbered_and_keep_their_names(tmp_path):
    data = load(write(tmp_path, tagged(10)))
    assert data.label_names == ("B-BAD", "B-GOOD", "O")
    assert data.train.features["labels"].feature.names == list(data.label_names)
    assert data.train.column_names == ["text", "labels"]
    for row in data.train:
        assert [data.label_names[place] for place in row["labels"]] == tags_of(row["text"])
    assert list(TASK.references(data.train)) == [" ".join(tags_of(words)) for words in data.train["text"]]


def test_a_trained_models_order_is_followed(tmp_path):
    data = load(write(tmp_path, tagged(10)), model=("O", "b-good", "b-bad", "b-other"))
    assert data.label_names == ("O", "b-good", "b-bad", "b-other")
    expected = [
        " ".join(tags_of(words)).replace("B-GOOD", "b-good").replace("B-BAD", "b-bad") for words in data.train["text"]
    ]
    assert list(TASK.references(data.train)) == expected
    held_out = load_validation(DataConfig(write(tmp_path, tagged(1))), ("O", "B-GOOD", "B-BAD"), 0, TASK)
    assert list(TASK.references(held_out.validation)) == [" ".join(tagged(1)[0]["ner_tags"])]


def test_numbers_are_named_by_the_data_or_the_user(tmp_path):
    records = [{"words": ["x", "y"], "tags": [i % 2, 2]} for i in range(6)]
    path = write(tmp_path, records)
    assert load(path).label_names == ("0", "1", "2")
    assert load(path, label_names=["N", "V", "O"]).label_names == ("N", "V", "O")
    rows = Dataset.from_list(records).cast_column("tags", List(ClassLabel(names=["N", "V", "O"])))
    rows.to_parquet(tmp_path / "rows.parquet")
    assert load(str(tmp_path / "rows.parquet"), ("O", "V", "N")).train["labels"][0][1] == 0


@pytest.mark.parametrize(
    ("records", "model", "says"),
    [
        (
            [{"tokens": ["a", "b"], "tags": ["O"]}] * 4,
            None,
            ["labels: 2 training rows do not have one tag a word (the first is row 0, from 0: 1 tags, 2 words).",
             "labels: 2 validation rows do not have one tag a word (the first is row 0, from 0: 1 tags, 2 words)."],
        ),
        ([{"tokens": ["a"], "tags": "O"}] * 4, None, ["training rows have tags that are not lists", "validation rows"]),
        (
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": [], "tags": []}] * 2,
            None,
            ["2 of the 4 training rows have no list of words (rows 1, 3, from 0; the first has [])."],
        ),
        ([{"tokens": "a b", "tags": ["O", "O"]}] * 4, None, ["4 of the 4 training rows have no list of words (rows 0"]),
        ([{"tokens": ["a"], "tags": ["O"]}] * 4, None, ["all words of the training rows have the tag 'O': nothing to"]),
        (
            [{"tokens": ["a", "b"], "tags": ["O", "B-PR"]}] * 4,
            ("O", "B-PER"),
            ["training rows have unknown labels: B-PR. Did you mean 'B-PER'? Allowed: O, B-PER.", "validation rows"],
        ),
        (
            [{"tokens": ["a", "b"], "tags": ["O", "B-PER"]}] * 4,
            ("LABEL_0", "LABEL_1", "LABEL_2"),
            ["the data has 2 labels (B-PER, O), the model was trained with 3"],
        ),
        ([{"tokens": ["a", "b"], "tags": ["O", None]}] * 4, None, ["unknown labels: None", "validation"]),
    ],
)  # fmt: skip
def test_tags_that_cannot_be_learned_are_refused(tmp_path, records, model, says):
    lines = refusal(write(tmp_path, records), model).splitlines()
    assert len(lines) == len(says)
    assert all(words in line for words, line in zip(says, lines, strict=True))


def test_the_first_piece_of_each_word_has_its_tag():
    rows = data_of([["a", "aaa", "aa"], ["aa"]], [["O", "B-BAD", "B-GOOD"], ["B-GOOD"]])
    encoded = encode(rows, TASK, pieces_tokenizer(), None)
    assert encoded[0]["input_ids"] == [2, 4, 4, 5, 5, 4, 5, 3]
    assert encoded[0]["labels"] == [-100, 2, 0, -100, -100, 1, -100, -100]
    assert encoded[0]["row_mask"] == [0, 1, 1, 0, 0, 1, 0, 0]
    assert encoded["words"] == [[0, 1, 2], [0]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_padded_on_the_tokenizers_side(side):
    tokenizer = pieces_tokenizer()
    tokenizer.padding_side = side
    rows = data_of([["aa", "a"], ["a"]], [["O", "B-BAD"], ["B-GOOD"]])
    batch = TASK.collator(tokenizer)(list(encode(rows, TASK, tokenizer, None)))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels", "row_mask"}
    padded = {
        "right": ([-100, 1, -100, -100, -100], [0, 1, 0, 0, 0]),
        "left": ([-100, -100, -100, 1, -100], [0, 0, 0, 1, 0]),
    }
    assert batch["labels"].tolist() == [[-100, 2, -100, 0, -100], padded[side][0]]
    assert batch["row_mask"].tolist() == [[0, 1, 0, 1, 0], padded[side][1]]
    logits = torch.arange(30.0).reshape(2, 5, 3)
    values, labels = TASK.rows(Output(logits=logits), batch)
    assert torch.equal(values, logits[[0, 0, 1], [1, 3, {"right": 1, "left": 3}[side]]])
    assert labels.tolist() == [2, 0, 1]
    assert TASK.count_rows(batch).item() == TASK.count_labels(batch).item() == 3


def test_rows_without_tags_are_compared_too():
    tokenizer = pieces_tokenizer()
    labelled = data_of([["aa", "a"]], [["O", "B-BAD"]])
    unlabelled = Dataset.from_dict({"text": [["a", "aa", "a"]]})
    unlabelled = unlabelled.add_column("labels", TASK.unknown_labels(unlabelled, labelled["labels"][0]))
    rows = concatenate_datasets([labelled, unlabelled.cast(labelled.features)])
    batch = TASK.collator(tokenizer)(list(encode(rows, TASK, tokenizer, None)))
    values, labels = TASK.rows(Output(logits=torch.zeros(2, 6, 3)), batch)
    assert values.shape == (5, 3)
    assert labels.tolist() == [2, 0, -100, -100, -100]
    assert (TASK.count_rows(batch).item(), TASK.count_labels(batch).item()) == (5, 2)
    without = {name: value for name, value in batch.items() if name != "labels"}
    assert TASK.rows(Output(logits=torch.zeros(2, 6, 3)), without)[1] is None


def test_a_batch_of_a_users_own_is_compared_where_its_labels_are():
    logits = torch.randn(1, 4, 3)
    values, labels = TASK.rows(Output(logits=logits), {"labels": torch.tensor([[-100, 2, 0, -100]])})
    assert torch.equal(values, logits[0, 1:3])
    assert labels.tolist() == [2, 0]


def test_words_that_are_cut_are_outside():
    tokenizer = pieces_tokenizer()
    rows = data_of([["aa", "aa", "a"], ["a"]], [["B-BAD", "B-GOOD", "B-BAD"], ["B-GOOD"]])
    encoded = encode(rows, TASK, tokenizer, 5)  # [CLS] a ##a a [SEP]
    assert encoded["words"] == [[0, 1], [0]]
    found = TASK.finish([np.array([0, 1]), np.array([1])], encoded, rows, tokenizer)
    assert list(found) == ["B-BAD B-GOOD O", "B-GOOD"]
    assert found.dtype.kind == "U"
    assert score(found, TASK.references(rows), TASK).metrics["recall"] == 3 / 4
    plain = data_of(rows["text"], [["X", "Y", "X"], ["Y"]], ["X", "Y"])
    assert list(TASK.finish([np.array([0, 1]), np.array([1])], encoded, plain, tokenizer)) == ["X Y X", "Y"]


def test_words_without_a_piece_are_outside_and_shift_nothing():
    tokenizer = pieces_tokenizer()
    rows = data_of([["a", " ", "a"]], [["B-BAD", "B-GOOD", "B-BAD"]])
    encoded = encode(rows, TASK, tokenizer, None)
    assert encoded["words"] == [[0, 2]]
    assert list(TASK.finish([np.array([0, 1])], encoded, rows, tokenizer)) == ["B-BAD O B-GOOD"]


def test_the_main_metric_is_f1_of_entities_and_accuracy_of_plain_tags():
    assert score(np.array(["B-X O"]), np.array(["B-X O"]), TASK).main == "f1"
    quality = score(np.array(["N V", "V"]), np.array(["N N", "V"]), TASK)
    assert (quality.main, quality.value) == ("accuracy", 2 / 3)
    assert quality.interval[0] <= quality.value <= quality.interval[1]


def test_names_with_spaces_stay_one_tag():
    rows = data_of([["a", "b"]], [["a noun", "O"]], ["a noun", "O"])
    assert list(TASK.references(rows)) == ["a_noun O"]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "albert", "deberta-v2", "modernbert", "gpt2"])
def test_answers_do_not_depend_on_the_padding(family):
    model, tokenizer = tiny_head(family, "ForTokenClassification", num_labels=3), tiny_tokenizer()
    assert task_of_class(type(model).__name__) is TASK
    texts = [text.split() for text, _ in sentences(9)]
    rows = data_of(texts, [tags_of(words) for words in texts])
    batches = [predict(model, tokenizer, rows, TASK, None, batch_size=size) for size in (1, 4, 9)]
    assert list(batches[0]) == list(batches[1]) == list(batches[2])
    assert [len(row.split()) for row in batches[0]] == list(map(len, texts))


def test_byte_level_tokenizers_read_words_as_inside_a_text():
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "Ġ": 2, "a": 3, "Ġa": 4}
    core = Tokenizer(models.BPE(vocabulary, [("Ġ", "a")], unk_token="[UNK]"))  # noqa: S106
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")  # noqa: S106
    rows = data_of([["a", "aa"]], [["O", "B-BAD"]])
    encoded = encode(rows, TASK, tokenizer, None)
    assert encoded[0]["input_ids"] == [4, 4, 3]
    assert encoded[0]["labels"] == [2, 0, -100]
    assert tokenizer("a")["input_ids"] == [3]  # the user's own is as it was


def test_a_model_learns_every_tag_from_the_encoded_rows_and_teaches_it(tmp_path):
    data = load(write(tmp_path, tagged(96)), validation=24)
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    teacher = fresh(TASK, 2, num_labels=3, id2label=dict(enumerate(NAMES)))
    train(teacher, TASK, encode(data.train, TASK, tokenizer, None), tmp_path, num_train_epochs=5)
    references = TASK.references(data.validation)
    perfect = dict.fromkeys(["f1", "precision", "recall", "accuracy"], 1.0)
    assert score(predict(teacher, tokenizer, data.validation, TASK, None), references, TASK).metrics == perfect

    texts = data.train.remove_columns("labels")  # the student learns from the teacher alone
    texts = texts.add_column("labels", TASK.unknown_labels(texts, None))
    encoded = encode(texts, TASK, tokenizer, None)
    student = fresh(TASK, 1, num_labels=3, id2label=dict(enumerate(NAMES)))
    losses = {"kl": {"temperature": 2}, "task": 1.0}
    trainer = train(student, TASK, encoded, tmp_path, teacher, num_train_epochs=5, losses=losses)
    assert first_losses(trainer)["loss_task"] == 0
    assert score(predict(student, tokenizer, data.validation, TASK, None), references, TASK).metrics == perfect


def test_the_first_loss_is_the_one_computed_by_hand(tmp_path):
    tokenizer = tiny_tokenizer()
    texts = [record["tokens"] for record in tagged(8)]
    labelled = data_of(texts[:6], list(map(tags_of, texts[:6])))
    unknown = Dataset.from_dict({"text": texts[6:]})
    unknown = unknown.add_column("labels", TASK.unknown_labels(unknown, None)).cast(labelled.features)
    encoded = encode(concatenate_datasets([labelled, unknown]), TASK, tokenizer, None)
    torch.manual_seed(0)
    shuffled = {0: "O", 1: "B-BAD", 2: "B-GOOD"}
    teacher = tiny_head("bert", "ForTokenClassification", num_labels=3, id2label=shuffled)
    student = fresh(TASK, 1, num_labels=3, id2label=dict(enumerate(NAMES)))
    divergences, surprises = [], []
    for row in encoded:  # one at a time, so that nothing is padded
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "token_type_ids", "attention_mask")}
        with torch.no_grad():
            own = student(**inputs).logits[0].log_softmax(-1)
            other = teacher(**inputs).logits[0, :, [1, 2, 0]].log_softmax(-1)
        for place in np.flatnonzero(row["row_mask"]):
            divergences.append((other[place].exp() * (other[place] - own[place])).sum().item())
            if row["labels"][place] >= 0:
                surprises.append(-own[place, row["labels"][place]].item())
    assert (len(divergences), len(surprises)) == (sum(map(len, texts)), sum(map(len, texts[:6])))
    losses = {"kl": {"weight": 1, "temperature": 1}, "task": 1}
    for steps in (1, 4):
        trainer = train(
            deepcopy(student), TASK, encoded, tmp_path, teacher, losses=losses, max_steps=1,
            per_device_train_batch_size=8 // steps, gradient_accumulation_steps=steps,
        )  # fmt: skip
        found = first_losses(trainer)
        assert found["loss_kl"] == pytest.approx(np.mean(divergences), rel=1e-3)
        assert found["loss_task"] == pytest.approx(np.mean(surprises), rel=1e-3)
