"""Latency: models take turns, ratios are to the first, and the thread count is given back."""

import numpy as np
import pytest
import torch

from hfcompress.measure import latency
from hfcompress.measure.latency import measure_latency, model_call, use_threads
from hfcompress.tasks import TASKS
from tests.tiny import FAMILIES, VISION, tiny_head, tiny_model

TEXTS = TASKS["text-classification"]


class Clock:
    """A clock that only calls move, by milliseconds of their own."""

    def __init__(self, monkeypatch):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)

    def call(self, name, durations):
        durations = iter(durations)

        def run():
            self.order.append(name)
            self.now += next(durations) / 1e3

        return run


def test_medians_and_ratios_by_hand(monkeypatch):
    clock = Clock(monkeypatch)
    calls = {"slow": clock.call("slow", [9, 10, 20, 40, 10]), "fast": clock.call("fast", [9, 5, 5, 30, 2.5])}
    found = measure_latency(calls, rounds=4, warm_up=1)
    assert found["slow"].median_ms == pytest.approx(15)  # of 10, 20, 40, 10
    assert found["slow"].p95_ms == pytest.approx(np.percentile([10, 20, 40, 10], 95))
    assert (found["slow"].ratio, found["slow"].ratio_interval) == (1.0, (1.0, 1.0))
    assert found["fast"].median_ms == pytest.approx(5)  # of 5, 5, 30, 2.5
    assert found["fast"].ratio == pytest.approx(0.375)  # of 0.5, 0.25, 0.75, 0.25: pair by pair
    assert found["fast"].ratio_interval == pytest.approx((0.25, 0.5625))


def test_models_take_turns_and_the_order_is_reversed_every_other_round(monkeypatch):
    clock = Clock(monkeypatch)
    calls = {name: clock.call(name, [1] * 9) for name in "abc"}
    measure_latency(calls, rounds=3, warm_up=2)
    assert "".join(clock.order) == "aabbcc" + "abc" + "cba" + "abc"


def test_threads_are_set_meanwhile_and_given_back():
    seen = []
    torch.set_num_threads(1)
    measure_latency({"x": lambda: seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))}, 2, 1, 2)
    assert seen == [(2, True)] * 3
    assert torch.get_num_threads() == 1
    with pytest.raises(ZeroDivisionError):
        measure_latency({"x": lambda: 1 / 0}, threads=2)
    assert torch.get_num_threads() == 1


def test_use_threads():
    with use_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_call_runs_a_model_on_real_tokens_as_long_as_it_takes(family):
    model = tiny_model(family, layers=1).train()
    seen = {}
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    logits = model_call(model, TEXTS, batch_size=3)().logits
    assert logits.shape == (3, 2)
    assert seen["input_ids"].shape == seen["attention_mask"].shape == (3, 78)
    assert not (seen["input_ids"] == model.config.pad_token_id).any()
    assert seen["attention_mask"].all()
    assert not model.training


def test_every_call_takes_the_same_inputs():
    model = tiny_model(layers=1)
    assert torch.equal(model_call(model, TEXTS, length=16)().logits, model_call(model, TEXTS, length=16)().logits)


@pytest.mark.parametrize("family", VISION)
def test_call_runs_a_model_on_images_of_its_size(family):
    model = tiny_head(family, "ForImageClassification")
    seen = {}
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    assert model_call(model, TASKS["image-classification"], batch_size=2)().logits.shape == (2, 2)
    size = {"vit": 16, "resnet": 224}.get(family, 32)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {"pixel_values": (2, 3, size, size)}


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_call_runs_encoder_and_decoder(family):
    model = tiny_head(family, "ForSeq2SeqLM")
    logits = model_call(model, TASKS["text2text-generation"], batch_size=2, length=7)().logits
    assert logits.shape == (2, 7, 64)


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_an_encoder_and_decoder_that_classifies_finds_the_end_of_its_texts(family):
    assert model_call(tiny_head(family, "ForSequenceClassification"), TEXTS, batch_size=3)().logits.shape == (3, 2)


def test_an_embedding_model_is_called_without_a_head():
    states = model_call(tiny_head("bert"), TASKS["sentence-similarity"], length=9)().last_hidden_state
    assert states.shape == (1, 9, 32)


def test_a_model_of_twice_the_layers_takes_longer():
    models = {layers: tiny_model(layers=layers, width=64) for layers in (8, 2)}
    found = measure_latency({str(n): model_call(model, TEXTS, length=64) for n, model in models.items()}, rounds=10)
    assert 0.02 < found["2"].ratio < 0.8
    assert found["2"].to_dict().keys() == {"median_ms", "p95_ms", "ratio", "ratio_interval"}
