"""The files that the pages' snippets name, made of tiny random models and tiny data."""

import json

import numpy as np
from PIL import Image
from transformers import ViTImageProcessor

from tests.tiny import sentences, tiny_head, tiny_model, tiny_tokenizer, write_csv

LABELS = {0: "negative", 1: "positive"}
TAGS = {0: "O", 1: "B-FILM"}


def write_files(folder):
    """Write everything into a folder."""
    tokenizer = tiny_tokenizer()
    models = {
        "my-model": tiny_model(layers=4, id2label=LABELS),
        "other-model": tiny_model(layers=4, seed=1, id2label=LABELS),
        "my-tagger": tiny_head("bert", "ForTokenClassification", id2label=TAGS),
        "my-reader": tiny_head("bert", "ForQuestionAnswering"),
        "my-encoder": tiny_head("bert", "ForMaskedLM"),
        "my-gpt2": tiny_head("gpt2", "ForCausalLM"),
        "my-t5": tiny_head("t5", "ForSeq2SeqLM"),
        "my-embedder": tiny_head("bert"),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    tiny_head("vit", "ForImageClassification", id2label=LABELS).save_pretrained(folder / "my-vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / "my-vit")
    write_csv(folder / "reviews.csv", 96)
    for name, rows in tables().items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    _write_pairs(folder / "pairs.csv")
    _write_photos(folder)


def tables(count=24):
    """Rows of json lines by file."""
    texts = [text for text, _ in sentences(count, seed=1)]
    words = [text.split() for text in texts]
    answers = [{"text": [row[1]], "answer_start": [len(row[0]) + 1]} for row in words]
    return {
        "texts.jsonl": [{"text": text} for text in texts],
        "more-text.jsonl": [{"text": f"{text} {index} more"} for index, text in enumerate(texts * 4)],
        "entities.jsonl": [{"tokens": row, "ner_tags": [TAGS[int(word == "film")] for word in row]} for row in words],
        "questions.jsonl": [
            {"question": "the story", "context": text, "answers": answer}
            for text, answer in zip(texts, answers, strict=True)
        ],
        "summaries.jsonl": [{"text": text, "summary": " ".join(text.split()[:3])} for text in texts],
    }


def _write_pairs(path):
    pairs = zip(sentences(24), sentences(24, seed=2), strict=True)
    lines = [f"{one},{other},{index % 5 + 0.5}" for index, ((one, _), (other, _)) in enumerate(pairs)]
    path.write_text("\n".join(["sentence1,sentence2,score", *lines]) + "\n", encoding="utf-8")


def _write_photos(folder):
    (folder / "photos").mkdir()
    lines = ["image,label"]
    for index in range(24):
        pixels = np.full((16, 16, 3), 200 if index % 2 else 40, dtype=np.uint8)
        pixels[index % 16] = index
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
        lines.append(f"photos/{index}.png,{LABELS[index % 2]}")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
