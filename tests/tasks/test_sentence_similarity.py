"""Sentence similarity: pooling, cosines, correlations and neighbours by hand, and what there must be to score."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from hfcompress.data import DataConfig, load_data, load_validation
from hfcompress.errors import DataError
from hfcompress.measure.quality import predict, score
from hfcompress.tasks import TASKS, is_trained, task_of_class, task_of_config
from hfcompress.tasks.sentence_similarity import mean_pool
from tests.tiny import FAMILIES, sentences, tiny_config, tiny_head

TASK = TASKS["sentence-similarity"]


def write(path, header, rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]))
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    """Twelve pairs of texts of different lengths, with scores."""
    texts = [text for text, _ in sentences(24)]
    rows = [(a, b, score / 2) for score, (a, b) in enumerate(zip(texts[::2], texts[1::2], strict=True))]
    return write(tmp_path / "pairs.csv", ("sentence1", "sentence2", "score"), rows)


@pytest.fixture
def singles(tmp_path):
    return write(tmp_path / "singles.csv", ("text", "label"), sentences(24))


def test_mean_pooling_leaves_padding_out():
    hidden = torch.tensor([[[1.0, 2], [3, 4], [100, 100]], [[5, 6], [0, 0], [0, 0]], [[7, 7], [7, 7], [7, 7]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert mean_pool(hidden, mask).tolist() == [[2.0, 3.0], [5.0, 6.0], [0.0, 0.0]]


def embedding(model, tokenizer, text):
    """The mean of the last hidden states of one text alone, without padding."""
    with torch.no_grad():
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        return model(**inputs).last_hidden_state[0].mean(dim=0).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_to_pairs_are_the_cosines_of_their_embeddings(pairs, tokenizer, family):
    rows = load_validation(DataConfig(pairs), (), 0, TASK).validation
    model = tiny_head(family)
    answers = predict(model, tokenizer, rows, TASK, None, batch_size=5)
    assert answers.shape == (12, 1)
    for row, answer in zip(rows, answers[:, 0], strict=True):
        one, other = (embedding(model, tokenizer, row[name]) for name in ("text", "text_pair"))
        assert answer == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)


def test_answers_to_single_texts_are_their_embeddings(singles, tokenizer):
    rows = load_validation(DataConfig(singles), (), 0, TASK).validation
    model = tiny_head("bert")
    answers = predict(model, tokenizer, rows, TASK, None, batch_size=5)
    assert answers.shape == (24, 32)
    for row, answer in zip(rows, answers, strict=True):
        assert answer == pytest.approx(embedding(model, tokenizer, row["text"]), abs=1e-5)


def test_a_pair_gives_two_entries_and_no_labels(pairs, tokenizer):
    rows = load_validation(DataConfig(pairs), (), 0, TASK).validation
    encoded = TASK.encode(rows, tokenizer, 8)
    assert encoded["row"][:4] == [0, 0, 1, 1]
    assert "labels" not in encoded.column_names
    assert max(map(len, encoded["input_ids"])) == 8
    batch = TASK.collator(tokenizer)([encoded[0], encoded[1]])
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask"}


def test_correlations_of_cosines_by_hand():
    cosines, scores = np.array([[0.1], [0.2], [0.9]]), np.array([0.0, 2.5, 5.0])
    found = TASK.metrics(cosines, scores)
    assert found == {"spearman": pytest.approx(1.0), "pearson": pytest.approx(np.corrcoef(cosines[:, 0], scores)[0, 1])}
    assert TASK.main_of(found) == "spearman"
    assert TASK.row_scores(cosines, scores) is None
    assert TASK.metrics(cosines[::-1], scores)["spearman"] == pytest.approx(-1)


def test_nearest_neighbours_by_hand():
    # The direction decides, not the length: 0 and 1 are each other's nearest, 2's is 3, 3's is 2, 4's is 3.
    embeddings = np.array([[1.0, 0], [9, 1], [0, 1], [1, 9], [-1, 3]])
    classes = np.array([0, 0, 1, 1, 0])
    # 4 (-1, 3) is nearest to 2 (0, 1): its cosine is 0.949 against 0.907 with (1, 9).
    assert TASK.row_scores(embeddings, classes).tolist() == [1, 1, 1, 1, 0]
    found = TASK.metrics(embeddings, classes)
    assert found == {"nearest_neighbour_accuracy": 0.8}
    assert TASK.main_of(found) == "nearest_neighbour_accuracy"
    assert TASK.for_metric(embeddings, classes) == ([0, 0, 1, 1, 1], [0, 0, 1, 1, 0])


def test_equal_texts_are_neighbours_and_no_text_is_its_own():
    embeddings = np.array([[1.0, 0], [1, 0], [0, 0]])
    assert TASK.row_scores(embeddings, np.array([3, 3, 3])).tolist() == [1, 1, 1]
    assert TASK.row_scores(embeddings[:1], np.array([3])).tolist() == [0]


def test_neighbours_are_found_alike_however_many_rows_are_compared_at_once(monkeypatch):
    from hfcompress.tasks import sentence_similarity as module

    embeddings = np.random.default_rng(0).normal(size=(50, 4))
    assert module._nearest(embeddings, at_once=7).tolist() == module._nearest(embeddings).tolist()


def test_the_interval_of_neighbours_is_that_of_their_mean(singles, tokenizer):
    rows = load_validation(DataConfig(singles), (), 0, TASK).validation
    answers = predict(tiny_head("bert"), tokenizer, rows, TASK, None)
    found = score(answers, TASK.references(rows), TASK)
    low, high = found.interval
    assert found.main == "nearest_neighbour_accuracy"
    assert low <= found.value <= high


def test_training_needs_only_text(tmp_path):
    path = write(tmp_path / "texts.csv", ("text",), [(text,) for text, _ in sentences(20)])
    data = load_data(DataConfig(path), 0, TASK)
    assert data.train.column_names == ["text"]
    for ask in (lambda: TASK.references(data.validation), lambda: load_validation(DataConfig(path), (), 0, TASK)):
        with pytest.raises(DataError, match="there is nothing to score embeddings against. Name a second text and"):
            ask()


def test_classes_are_held_out_in_proportion_and_numbered_alike(singles):
    data = load_data(DataConfig(singles, validation=8), 0, TASK)
    assert sorted(data.validation["labels"]) == [0] * 4 + [1] * 4
    assert data.label_names == ()


def test_scores_of_single_texts_and_missing_classes_are_refused(tmp_path):
    path = write(tmp_path / "rows.csv", ("text", "label"), [("a film", 0.5), ("the cast", 1.5)])
    with pytest.raises(DataError, match="have scores or lists, but single texts.*--text-pair-column"):
        load_validation(DataConfig(path), (), 0, TASK)
    path = write(tmp_path / "gaps.csv", ("text", "label"), [("a film", "x"), ("the cast", "")])
    with pytest.raises(DataError, match=r"1 validation rows have no label \(the first is row 1, from 0\)"):
        load_validation(DataConfig(path), (), 0, TASK)


def test_a_pair_without_a_score_is_refused(tmp_path):
    path = write(tmp_path / "rows.csv", ("sentence1", "sentence2", "score"), [("a", "b", "1.0"), ("c", "d", "none")])
    with pytest.raises(DataError, match="1 validation rows have a label that is no number"):
        load_validation(DataConfig(path), (), 0, TASK)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertModel", "sentence-similarity"),
        ("MPNetModel", "sentence-similarity"),
        ("GPT2DoubleHeadsModel", None),
        ("BertForSequenceClassification", "text-classification"),
        ("ResNetForImageClassification", "image-classification"),
    ],
)
def test_a_class_without_a_head_gives_embeddings(name, task):
    found = task_of_class(name)
    assert (found and found.name) == task


def test_a_language_models_head_is_no_embedding():
    for name in ("GPT2LMHeadModel", "BertLMHeadModel"):
        assert task_of_class(name) is not TASK


@pytest.mark.parametrize(
    ("family", "architecture", "task"),
    [
        ("bert", "BertModel", "text-classification"),
        ("vit", "ViTModel", "image-classification"),
        ("resnet", "ResNetModel", "image-classification"),
        ("vit", "ViTForImageClassification", "image-classification"),
    ],
)
def test_a_pretrained_encoder_is_taken_for_what_it_reads(family, architecture, task):
    config = tiny_config(family)
    config.architectures = [architecture]
    assert task_of_config(config, "x").name == task


@pytest.mark.parametrize(
    ("architecture", "trained"), [("BertModel", True), ("BertForSequenceClassification", True), (None, False)]
)
def test_any_checkpoint_has_embeddings(architecture, trained):
    config = tiny_config("bert")
    config.architectures = architecture and [architecture]
    assert is_trained(config, TASK) is trained
    assert is_trained(config, TASKS["text-classification"]) is (architecture == "BertForSequenceClassification")


def test_a_column_of_texts_gives_one_row_each(tokenizer):
    encoded = TASK.encode(Dataset.from_dict({"text": ["the film", "a cast"]}), tokenizer, None)
    assert encoded["row"][:] == [0, 1]
