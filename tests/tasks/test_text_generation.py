"""Text generation: blocks of tokens that are their own labels, ends of texts, padding on either side."""

import pytest
import torch
from datasets import Dataset
from transformers.utils.generic import ModelOutput

from hfcompress.errors import DataError
from hfcompress.measure.quality import predict
from hfcompress.tasks import TASKS, find_task, task_of_class
from tests.tiny import tiny_head, tiny_tokenizer

TASK = TASKS["text-generation"]
WORDS = "the film is warm and its cast funny"


def decoder_tokenizer(eos="stop", pad="[PAD]", ends=False):
    """A tokenizer that adds nothing to a text, or its end."""
    from tokenizers import processors

    tokenizer = tiny_tokenizer(extra=["stop"])
    tokenizer.eos_token, tokenizer.pad_token = eos, pad
    template = "$A stop" if ends else "$A"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("stop", 5)]
    )
    return tokenizer


def encode(*rows, tokenizer=None, max_length=None):
    return list(TASK.encode(Dataset.from_dict({"text": list(rows)}), tokenizer or decoder_tokenizer(), max_length))


def ids(text):
    return decoder_tokenizer()(text)["input_ids"]


def test_it_is_found_by_name_and_by_class():
    assert find_task("text-generation") is TASK
    assert task_of_class("GPT2LMHeadModel") is task_of_class("LlamaForCausalLM") is TASK


@pytest.mark.parametrize("ends", [False, True])
def test_a_text_is_its_own_label_and_ends_once(ends):
    (example,) = encode(WORDS, tokenizer=decoder_tokenizer(ends=ends))
    tokens = [*ids(WORDS), 5]
    assert example == {"input_ids": tokens, "attention_mask": [1] * 9, "labels": tokens, "row": 0}


def test_without_an_end_token_a_text_just_stops():
    (example,) = encode(WORDS, tokenizer=decoder_tokenizer(eos=None))
    assert example["input_ids"] == ids(WORDS)


@pytest.mark.parametrize("max_length", [2, 3, 4, 5, 8, 9])
def test_every_token_but_the_first_is_predicted_once_whatever_the_blocks(max_length):
    blocks = encode(WORDS, max_length=max_length)
    assert all(2 <= len(block["input_ids"]) <= max_length for block in blocks)
    assert [token for block in blocks for token in block["labels"][1:]] == [*ids(WORDS)[1:], 5]
    ends = [block["input_ids"][-1] for block in blocks]
    assert ends[:-1] == [block["input_ids"][0] for block in blocks[1:]]


def test_texts_are_not_joined_and_one_without_a_next_token_is_left_out():
    tokenizer = decoder_tokenizer(eos=None)
    blocks = encode("the film", "warm", "a plot", tokenizer=tokenizer)
    assert [block["row"] for block in blocks] == [0, 2]
    rows = Dataset.from_dict({"text": ["the film", "warm", "a plot"]})
    answers = predict(tiny_head("gpt2", "ForCausalLM"), tokenizer, rows, TASK, None)
    assert answers[:, 2].tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"^text: no text has two tokens: there is no next token to predict\.$"):
        encode("warm", tokenizer=tokenizer)


def test_the_end_token_is_learned_also_where_it_pads():
    tokenizer = decoder_tokenizer(pad=None)
    batch = TASK.collator(tokenizer)(encode("the film", WORDS, tokenizer=tokenizer))
    assert batch["input_ids"][0].tolist() == [*ids("the film"), *[5] * 7]
    assert batch["labels"][0].tolist() == [*ids("the film"), 5, *[-100] * 6]
    assert TASK.targets(batch)[0].tolist() == [*ids("film"), 5, *[-100] * 7]


def padded(rows, length, side):
    """Rows padded by hand, with positions that count real tokens alone."""
    batch = {"input_ids": [], "attention_mask": [], "labels": [], "position_ids": []}
    for row in rows:
        missing = length - len(row)
        values = (row, [1] * len(row), [-100, *row[1:]], list(range(len(row))))
        for column, value, filler in zip(batch.values(), values, (0, 0, -100, 0), strict=True):
            column.append([filler] * missing + value if side == "left" else value + [filler] * missing)
    return {name: torch.tensor(values) for name, values in batch.items()}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_rows_are_the_same_whichever_side_is_padded(family):
    model = tiny_head(family, "ForCausalLM")
    rows = [[7, 8, 9], [10, 11, 12, 13, 14]]
    found = {}
    for side in ("left", "right"):
        batch = padded(rows, 6, side)
        found[side] = TASK.rows(model(**batch), batch)
        assert TASK.count_rows(batch) == 6
    assert found["left"][1].tolist() == found["right"][1].tolist() == [8, 9, 11, 12, 13, 14]
    torch.testing.assert_close(found["left"][0], found["right"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_a_text_is_scored_the_same_alone_and_padded(family):
    model, rows = tiny_head(family, "ForCausalLM"), encode("the film", WORDS)
    collate = TASK.collator(decoder_tokenizer())
    together, alone = collate(rows), collate(rows[:1])
    with torch.no_grad():
        theirs, own = (TASK.answers(model(**batch), batch)[0] for batch in (together, alone))
    assert theirs == pytest.approx(own, rel=1e-5)


def test_a_model_that_copies_the_right_token_is_all_right():
    batch = TASK.collator(decoder_tokenizer())(encode(WORDS))
    logits = torch.nn.functional.one_hot(TASK.targets(batch).clamp(min=0), 64) * 50.0
    answers = TASK.answers(ModelOutput(logits=logits), batch)
    assert answers[0, 1:].tolist() == [8, 8]
    assert answers[0, 0] == pytest.approx(0, abs=1e-6)
