"""Length grouping: every row once, an order that seed and epoch decide, less padding than chance."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DataCollatorWithPadding

from hfcompress.training.sampler import LengthGroupedSampler
from tests.training.runs import TOKENIZER, build, rows, small_student

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300)
property_test = settings(max_examples=50, deadline=None)


def _padding(order, sizes, batch_size):
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return sum(max(sizes[i] for i in batch) * len(batch) - sum(sizes[i] for i in batch) for batch in batches)


@property_test
@given(lengths, st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 9))
def test_each_row_comes_once(sizes, batch_size, seed, epoch):
    sampler = LengthGroupedSampler(sizes, batch_size, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(sampler) == len(order)
    assert sorted(order) == list(range(len(sizes)))
    assert all(isinstance(index, int) for index in order)


@property_test
@given(lengths, st.integers(1, 40), st.integers(0, 2**31), st.integers(0, 9))
def test_the_order_depends_on_seed_and_epoch_alone(sizes, batch_size, seed, epoch):
    one, other = (LengthGroupedSampler(sizes, batch_size, seed) for _ in range(2))
    one.set_epoch(epoch)
    first = list(one)
    torch.manual_seed(epoch)
    torch.rand(3)
    other.set_epoch(epoch + 1)
    list(other)
    other.set_epoch(epoch)
    assert list(other) == first


@property_test
@given(st.integers(0, 2**31), st.integers(0, 9))
def test_other_seeds_and_epochs_give_other_orders(seed, epoch):
    def order(seed, epoch):
        sampler = LengthGroupedSampler(range(1, 101), 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert len({tuple(order(*key)) for key in [(seed, epoch), (seed, epoch + 1), (seed + 1, epoch)]}) == 3


@property_test
@given(lengths, st.integers(2, 16), st.integers(0, 2**31))
def test_no_order_within_one_pool_pads_less(sizes, batch_size, seed):
    """Up to 50 full batches are one pool, and sorted neighbours pad least; chance does at best as well."""
    sizes = sizes[: min(50, len(sizes) // batch_size) * batch_size] or [1] * batch_size
    order = list(LengthGroupedSampler(sizes, batch_size, seed))
    by_length = sorted(sizes, reverse=True)
    least = _padding(range(len(sizes)), by_length, batch_size)
    assert _padding(order, sizes, batch_size) == least
    shuffled = random.Random(seed).sample(range(len(sizes)), len(sizes))
    assert least <= _padding(shuffled, sizes, batch_size)


def test_the_incomplete_batch_is_the_last_and_the_shortest():
    sizes = list(range(1, 24))
    order = list(LengthGroupedSampler(sizes, 5, 0))
    assert [sizes[i] for i in order[20:]] == [3, 2, 1]
    longest = sorted(max(sizes[i] for i in order[start : start + 5]) for start in range(0, 20, 5))
    assert longest == [8, 13, 18, 23]


def test_a_real_data_set_is_padded_less_than_half_as_much_as_by_chance():
    sizes = [len(ids) for ids in rows()["input_ids"]]
    grouped = _padding(list(LengthGroupedSampler(sizes, 8, 0)), sizes, 8)
    chances = [_padding(random.Random(seed).sample(range(62), 62), sizes, 8) for seed in range(20)]
    assert grouped < min(chances) / 2


def test_batches_are_mixed_and_not_sorted():
    sizes = list(range(1, 201))
    order = list(LengthGroupedSampler(sizes, 4, 0))
    longest = [max(sizes[i] for i in order[start : start + 4]) for start in range(0, 200, 4)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


class _Seen:
    """A collator that notes the first two tokens' positions by the row's own ids."""

    def __init__(self):
        self.pad, self.rows = DataCollatorWithPadding(TOKENIZER), []

    def __call__(self, features):
        self.rows += [tuple(row["input_ids"]) for row in features]
        return self.pad(features)


@pytest.mark.parametrize("with_teacher", [False, True])
def test_the_trainer_tells_the_sampler_the_epoch(with_teacher, teacher, tmp_path):
    seen = _Seen()
    trainer = build(
        small_student(),
        tmp_path,
        teacher if with_teacher else None,
        given={"data_collator": seen},
        length_grouping=True,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        data_seed=5,
    )
    trainer.train()
    expected = []
    sampler = LengthGroupedSampler([len(ids) for ids in rows()["input_ids"]], 8, 5)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += [tuple(rows()[i]["input_ids"]) for i in sampler]
    assert seen.rows == expected
    assert seen.rows[:62] != seen.rows[62:]
