"""Fill-mask: which tokens are masked and how, the same every time; long texts in blocks."""

from collections import Counter

import pytest
from datasets import Dataset
from transformers import CanineTokenizer

from hfcompress.errors import DataError, ModelError
from hfcompress.measure.quality import predict
from hfcompress.tasks import TASKS, find_task, task_of_class
from hfcompress.tasks.fill_mask import mask_tokens
from tests.tiny import sentences, tiny_head, tiny_tokenizer

TASK = TASKS["fill-mask"]
PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL, ORDINARY = {PAD, UNK, CLS, SEP, MASK}, list(range(5, 29))


def texts(*rows):
    return Dataset.from_dict({"text": list(rows)})


def encode(*rows, max_length=None):
    return list(TASK.encode(texts(*rows), tiny_tokenizer(), max_length))


def unmasked(example):
    """The tokens as they were."""
    pairs = zip(example["input_ids"], example["labels"], strict=True)
    return [token if label == -100 else label for token, label in pairs]


def test_it_is_found_by_name_and_by_class():
    assert find_task("fill-mask") is TASK
    assert task_of_class("RobertaForMaskedLM") is TASK


def test_a_text_is_tokenized_and_some_of_it_masked():
    (example,) = encode("the film is very warm and funny")
    assert set(example) == {"input_ids", "attention_mask", "labels", "row"}
    assert unmasked(example) == tiny_tokenizer()("the film is very warm and funny")["input_ids"]
    assert example["attention_mask"] == [1] * 9
    assert sum(label != -100 for label in example["labels"]) == 1  # 15 % of 7
    assert example["row"] == 0


@pytest.mark.parametrize(("count", "masked"), [(1, 1), (2, 1), (9, 1), (10, 2), (20, 3), (40, 6)])
def test_fifteen_percent_are_masked_and_at_least_one(count, masked):
    _, labels = mask_tokens([CLS, *[5] * count, SEP], SPECIAL, ORDINARY, MASK)
    assert sum(label != -100 for label in labels) == masked


def test_special_tokens_are_never_masked():
    for word in range(5, 29):
        _, labels = mask_tokens([CLS, UNK, word, MASK, SEP], SPECIAL, ORDINARY, MASK)
        assert labels == [-100, -100, word, -100, -100]


def test_eight_in_ten_are_hidden_and_one_replaced_by_an_ordinary_token():
    fates = Counter()
    for number in range(4000):
        tokens = [CLS, 5 + number % 24, 5 + number // 24 % 24, *divmod(number, 64), SEP]
        masked, labels = mask_tokens(tokens, SPECIAL, ORDINARY, MASK)
        (place,) = (place for place, label in enumerate(labels) if label != -100)
        assert [*masked[:place], *masked[place + 1 :]] == [*tokens[:place], *tokens[place + 1 :]]
        assert masked[place] not in {PAD, UNK, CLS, SEP}
        fates["hidden" if masked[place] == MASK else "kept" if masked[place] == tokens[place] else "replaced"] += 1
    # One replacement in 24 is the token itself: 0.1 · 23/24 replaced. Four standard deviations are 0.025 and 0.019.
    assert fates["hidden"] / 4000 == pytest.approx(0.8, abs=0.025)
    assert fates["replaced"] / 4000 == pytest.approx(0.096, abs=0.019)


def test_the_masks_of_a_text_are_known_for_ever():
    assert mask_tokens([CLS, 5, 6, 7, 8, 9, 10, SEP], SPECIAL, ORDINARY, MASK) == (
        [CLS, 5, 6, MASK, 8, 9, 10, SEP],
        [-100, -100, -100, 7, -100, -100, -100, -100],
    )


def test_the_same_text_has_the_same_masks_wherever_it_stands():
    rows = [text for text, _ in sentences(30)]
    there = {tuple(unmasked(example)): example["input_ids"] for example in encode(*rows)}
    back = {tuple(unmasked(example)): example["input_ids"] for example in encode(*reversed(rows))}
    assert there == back
    masks = {tuple(place for place, label in enumerate(e["labels"]) if label != -100) for e in encode(*rows)}
    assert len(masks) > 5  # and other texts have others


def test_a_long_text_becomes_blocks_with_their_own_special_tokens():
    words = " ".join(["the film is warm and its cast funny"] * 3)  # 24 words
    blocks = encode("the end", words, max_length=12)
    assert [block["row"] for block in blocks] == [0, 1, 1, 1]
    assert [len(block["input_ids"]) for block in blocks] == [4, 12, 12, 6]
    assert all(block["input_ids"][0] == CLS and block["input_ids"][-1] == SEP for block in blocks)
    inside = [token for block in blocks[1:] for token in unmasked(block)[1:-1]]
    assert inside == tiny_tokenizer()(words)["input_ids"][1:-1]


def test_the_blocks_of_a_row_are_scored_together():
    rows = texts("the end", " ".join(["the film is warm and its cast funny"] * 3), "zzz", "a plot")
    encoded = TASK.encode(rows, tiny_tokenizer(), 12)
    answers = predict(tiny_head("bert", "ForMaskedLM"), tiny_tokenizer(), rows, TASK, 12)
    assert answers.shape == (4, 3)
    masked = Counter()
    for example in encoded:
        masked[example["row"]] += sum(label != -100 for label in example["labels"])
    assert answers[:, 2].tolist() == [masked[row] for row in range(4)] == [1, 5, 0, 1]  # 'zzz' is unknown


def test_a_slow_tokenizer_makes_the_same_kind_of_blocks():
    tokenizer = CanineTokenizer(model_max_length=8)
    blocks = list(TASK.encode(texts("abcdefghij"), tokenizer, None))
    assert [len(block["input_ids"]) for block in blocks] == [8, 6]
    assert [unmasked(block)[1:-1] for block in blocks] == [[*map(ord, "abcdef")], [*map(ord, "ghij")]]


def test_a_tokenizer_without_a_mask_token_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match=r"^tokenizer: has no mask token, which fill-mask needs\."):
        TASK.encode(texts("the film"), tokenizer, None)


def test_texts_of_nothing_but_unknown_words_are_refused():
    with pytest.raises(DataError, match=r"^text: no text has a token that could be masked\.$"):
        encode("zzz", "yyy zzz")
