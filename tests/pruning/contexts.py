"""What the tests of one-shot methods share: the surroundings of a step, with tiny rows."""

from datasets import Dataset

from hfcompress.context import Context
from hfcompress.data import TaskData
from hfcompress.tasks import find_task
from tests.tiny import sentences, tiny_tokenizer

LABELS = ("negative", "positive")


def tiny_context(folder, rows=24, seed=0):
    """Text classification on a few rows of different lengths."""
    texts, names = zip(*sentences(rows), strict=True)
    data = Dataset.from_dict({"text": list(texts), "labels": [LABELS.index(name) for name in names]})
    task_data = TaskData(data, data, LABELS, max_length=None)
    return Context(find_task("text-classification"), task_data, tiny_tokenizer(), seed, folder, {}, progress=False)
