"""The recipe four-bit-qlora runs from start to end, shortened: four bits after NF4 and after the adapters."""

import json

import pytest
from transformers import AutoModelForSequenceClassification

from tests.cli.support import hfcompress
from tests.tiny import sentences, tiny_head, tiny_tokenizer

pytest.importorskip("peft")
bnb = pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.usefixtures("brisk")


@pytest.fixture
def words(tmp_path):
    """A tiny model and tiny rows in the places of the real ones, and short steps."""
    tiny_head("bert", "ForMaskedLM", width=64).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"text": text, "label": label, "source": "rotten_tomatoes"} for text, label in sentences(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = (f"data.dataset={tmp_path / 'rows.jsonl'}", "data.validation=20", "data.max_length=16")
    steps = ("steps.0.finetune", "steps.2.distill")
    short = [f"{step}.{key}" for step in steps for key in ("num_train_epochs=1", "warmup_steps=0")]
    short.append("steps.2.distill.learning_rate=0.1")  # what moves a weight by less than half a step is rounded away
    return ("run", "four-bit-qlora", "--output-dir", tmp_path / "out", f"model={tmp_path / 'model'}", *data, *short)


def test_four_bit_qlora_gives_a_model_in_four_bits(words, tmp_path):
    done = hfcompress(*words, "keep_steps=true", "--json")
    assert done.code == 0, done.err
    assert [row["name"] for row in done.json["results"]] == ["original", "finetuned", "four-bit", "recovered"][-3:]
    four, recovered = (
        AutoModelForSequenceClassification.from_pretrained(folder)
        for folder in (next((tmp_path / "out" / "steps").glob("2-*")), tmp_path / "out")
    )
    kinds = [[name for name, one in m.named_modules() if isinstance(one, bnb.nn.Linear4bit)] for m in (four, recovered)]
    assert len(kinds[0]) == 12
    assert kinds[0] == kinds[1]
    assert not any(
        bool((before.weight == after.weight).all())
        for before, after in ((m.get_submodule(name) for m in (four, recovered)) for name in kinds[0])
    )
