"""What trimming the vocabulary of MiniLM, fine-tuned on Rotten Tomatoes sentences, saves and what it costs.

The tokens of the 7,530 training sentences are kept. On these sentences the predictions must be the same; the 1,000 held
out ones (the split of the quickstart) have words that nobody saw. Run it with `python benchmarks/vocabulary.py`.
The result goes to `benchmarks/results/vocabulary.json`.
"""

import time

import numpy as np
from quality import DATA, TASK, teacher
from report import RESULTS, write

from hfcompress.context import Context
from hfcompress.data import DataConfig, encode, load_data
from hfcompress.measure.quality import predict, score
from hfcompress.modeling.load import load_model, load_processor
from hfcompress.pruning.vocabulary import VocabularyConfig, vocabulary

CASES = {"used tokens": {}, "used twice or more": {"min_count": 2}, "used tokens, no fallback": {"fallback": False}}
EXACT = "used tokens"
"""The case whose predictions on the training sentences are compared too."""


def main():
    rows = load_data(DataConfig(**DATA), 42, TASK)
    model, tokenizer = start()
    whole = {
        "tokens": len(tokenizer),
        "embedding_parameters": embeddings(model),
        "parameters": model.num_parameters(),
        "accuracy": accuracy(model, tokenizer, rows),
    }
    answers = predict(model, tokenizer, rows.train, TASK, rows.max_length)
    print(f"{'before':<26}{describe(whole)}", flush=True)
    cases = {}
    for name, options in CASES.items():
        cases[name] = case(options, rows, answers if name == EXACT else None)
        smaller = 1 - cases[name]["embedding_parameters"] / whole["embedding_parameters"]
        cases[name]["embeddings_smaller"] = round(smaller, 4)
        print(f"{name:<26}{describe(cases[name])}  words' table {smaller:.1%} smaller", flush=True)
    result = {
        "what": __doc__.split("\n")[0],
        "before": whole,
        "cases": cases,
        "training_rows": len(rows.train),
        "held_out_rows": len(rows.validation),
    }
    write("vocabulary", result)


def start():
    folder = str(teacher("minilm"))
    return load_model(folder, TASK), load_processor(folder, TASK)


def case(options, rows, answers):
    """Trim a fresh copy; compare its predictions on the training sentences where those of the whole model are given."""
    model, old = start()
    context = Context(TASK, rows, old, 42, RESULTS, {}, progress=False)
    begin = time.perf_counter()
    vocabulary(model, VocabularyConfig(**options), context)
    seconds = time.perf_counter() - begin
    new = context.processor
    found = {
        "options": options,
        "tokens": len(new),
        "embedding_parameters": embeddings(model),
        "parameters": model.num_parameters(),
        "seconds": round(seconds, 1),
        "accuracy": accuracy(model, new, rows),
        "held_out_rows_read_otherwise": changed(old, new, rows.validation, rows.max_length),
        "training_rows_read_otherwise": changed(old, new, rows.train, rows.max_length),
    }
    if answers is not None:
        after = predict(model, new, rows.train, TASK, rows.max_length)
        found["training_predictions_changed"] = int((after.argmax(-1) != answers.argmax(-1)).sum())
        found["largest_difference_of_logits"] = float(np.abs(after - answers).max())
    return found


def embeddings(model):
    return model.get_input_embeddings().weight.numel()


def accuracy(model, tokenizer, rows):
    answers = predict(model, tokenizer, rows.validation, TASK, rows.max_length)
    return score(answers, TASK.references(rows.validation), TASK).value


def changed(old, new, rows, max_length):
    """Return the share of rows that two tokenizers cut into different pieces."""
    pieces = [
        [tokenizer.convert_ids_to_tokens(ids) for ids in encode(rows, TASK, tokenizer, max_length)["input_ids"]]
        for tokenizer in (old, new)
    ]
    return round(float(np.mean([one != other for one, other in zip(*pieces, strict=True)])), 4)


def describe(found):
    text = f"{found['tokens']:>7} tokens  {found['parameters']:>10} parameters  accuracy {found['accuracy']:.1%}"
    if "seconds" in found:
        text += f"  {found['held_out_rows_read_otherwise']:.1%} of the held-out rows read otherwise"
    if "largest_difference_of_logits" in found:
        text += f"  training rows: {found['training_predictions_changed']} predictions changed, "
        text += f"logits differ by {found['largest_difference_of_logits']:.1e}"
    return text


if __name__ == "__main__":
    main()
