"""Students of every kind: cuts of each family, other models, other tokenizers; teachers that must be trained first."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tests.cli.support import distill_words, hfcompress, tree
from tests.tiny import FAMILIES, sentences, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("brisk")

LABELS = {0: "negative", 1: "positive"}


def save(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    if tokenizer is not False:
        (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"bert"}))
def test_a_cut_of_every_family_is_a_stock_model(family, csv, tmp_path):
    teacher = save(tmp_path / "teacher", tiny_model(family, layers=3, id2label=LABELS))
    words = distill_words(teacher, csv, tmp_path / "out", "--losses", "kl,hidden_mse", "--max-train-samples", "16")
    done = hfcompress(*words, "--student", "cut:layers=0,2")
    assert done.code == 0, done.err
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert (model.config.model_type, model.config.num_hidden_layers) == (family, 2)


@pytest.fixture
def distilbert(tmp_path):
    return save(tmp_path / "student", tiny_model("distilbert", layers=1).base_model)


def test_a_distilbert_folder_learns_from_a_bert_teacher(teacher_dir, csv, tmp_path, distilbert):
    words = distill_words(teacher_dir, csv, tmp_path / "out", "--losses", "kl,hidden_mse", student=distilbert)
    done = hfcompress(*words)
    assert done.code == 0, done.err
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "DistilBertForSequenceClassification"
    assert model.config.id2label == LABELS
    (step,) = json.loads((tmp_path / "out" / "compression.json").read_text())["steps"]
    assert step["config"]["student"]["model"] == "student"
    assert list(step["config"]["student"]["sha256"]) == ["model.safetensors"]


def test_another_student_under_the_same_name_is_trained_anew(teacher_dir, csv, tmp_path, distilbert, monkeypatch):
    words = distill_words(teacher_dir, csv, tmp_path / "out", student=distilbert)
    with monkeypatch.context() as patch:
        patch.setattr("hfcompress.pipeline.runner.finish", lambda *_, **__: 1 / 0)
        assert hfcompress(*words).code == 1
    save(distilbert, tiny_model("distilbert", layers=1, seed=9).base_model)
    done = hfcompress(*words)
    assert done.code == 0
    assert "done already" not in done.err


@pytest.fixture
def other_words(tmp_path):
    """A student that reads the same words as other numbers."""
    return save(tmp_path / "student", tiny_model("bert", layers=1).base_model, tiny_tokenizer(extra=["zebra", "yak"]))


def test_a_student_with_another_tokenizer_learns_from_logits(teacher_dir, csv, tmp_path, other_words):
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", student=other_words))
    assert done.code == 0, done.err
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()["zebra"] == 5


def test_hidden_states_of_other_tokens_are_not_compared(teacher_dir, csv, tmp_path, other_words):
    before = tree(tmp_path)
    words = distill_words(teacher_dir, csv, tmp_path / "out", "--losses", "kl,hidden_mse", student=other_words)
    done = hfcompress(*words)
    assert done.code == 2
    assert "tokenizer differs from the student's" in done.err
    assert "hidden_mse" in done.err
    assert "losses on logits still work: kl." in done.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("student", "more", "said"),
    [
        ("cut:layers=9", (), "cut:layers=9: the teacher has 4 layers, 9 were asked for. Allowed: 1 to 4."),
        ("cut:layers=0,7", (), "the teacher has no layer 7."),
        ("cut:heads=2", (), "there is no cut 'heads'. Allowed: layers."),
        ("./nothing", (), "./nothing: there is no such folder."),
        ("cut:layers=2", ("--losses", "hidden_mse", "--layer-map", "1:9"), "the teacher has no hidden state 9."),
        ("cut:layers=2", ("--losses", "hidden_mse", "--layer-map", "3:1"), "the student has no hidden state 3."),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_does_not_exist_is_refused_at_once(student, more, said, dry, teacher_dir, csv, tmp_path):
    done = hfcompress(*distill_words(teacher_dir, csv, tmp_path / "out", *more, *dry, student=student))
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("kind", ["no head", "a head as it was initialised"])
def test_an_untrained_teacher_is_refused_and_fine_tuned_on_request(kind, csv, tmp_path):
    model = tiny_model("bert", layers=2, trained_head=False)
    teacher = save(tmp_path / "teacher", model.base_model if kind == "no head" else model)
    before = tree(tmp_path)
    words = distill_words(teacher, csv, tmp_path / "out", "--json", student="cut:layers=1")
    done = hfcompress(*words)
    assert done.code == 2
    assert "--finetune-teacher" in done.err
    assert tree(tmp_path) == before
    done = hfcompress(*words, "--finetune-teacher", "--max-steps", "1")
    assert done.code == 0, done.err
    assert [(step["name"], step["method"]) for step in done.json["steps"]] == [
        ("teacher", "finetune"),
        ("student", "distill"),
    ]
    assert done.json["steps"][1]["before"] == done.json["steps"][0]["after"]
    assert "teacher" in [row["name"] for row in done.json["results"]]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.label2id == {"negative": 0, "positive": 1}


def test_pairs_of_texts(teacher_dir, tmp_path):
    rows = [(a, b, label) for (a, label), (b, _) in zip(sentences(24), sentences(24, seed=1), strict=True)]
    data = tmp_path / "pairs.csv"
    data.write_text("one,two,label\n" + "\n".join(",".join(row) for row in rows))
    columns = ("--text-column", "one", "--text-pair-column", "two", "--validation", "8")
    done = hfcompress(*distill_words(teacher_dir, data, tmp_path / "out", *columns))
    assert done.code == 0, done.err
    answer = pipeline("text-classification", model=str(tmp_path / "out"))({"text": "fine", "text_pair": "dull"})
    assert answer["label"] in LABELS.values()
    done = hfcompress("evaluate", "--model", tmp_path / "out", "--dataset", data, *columns[:4], "--json")
    assert done.json["rows"] == 24


def test_texts_longer_than_the_model_takes_are_cut(teacher_dir, tmp_path):
    data = tmp_path / "long.csv"
    data.write_text("text,label\n" + "\n".join(f"{text * 30},{label}" for text, label in sentences(12)))
    assert hfcompress(*distill_words(teacher_dir, data, tmp_path / "out", "--validation", "4")).code == 0


def test_the_seed_decides_the_weights(teacher_dir, csv, tmp_path):
    def weights(name, *more):
        words = distill_words(teacher_dir, csv, tmp_path / name, "--max-train-samples", "24", *more)
        assert hfcompress(*words).code == 0
        return AutoModelForSequenceClassification.from_pretrained(tmp_path / name).state_dict()

    one, same, other = weights("one"), weights("same"), weights("other", "--seed", "7")
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
