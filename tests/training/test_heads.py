"""Deferred heads: logits, loss and gradients are the model's own; a model that changes its logits is left alone."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

from hfcompress.training.heads import DeferredHead
from tests.tiny import tiny_head, tiny_inputs, tiny_model

MASKED = ["bert", "distilbert", "roberta", "electra", "mpnet", "modernbert", "albert", "deberta-v2"]
CAUSAL = ["gpt2", "llama", "qwen2", "qwen3", "bart"]
SEQ2SEQ = ["t5", "mt5", "bart"]
EVERY = [(family, "ForMaskedLM") for family in MASKED]
EVERY += [(family, "ForCausalLM") for family in CAUSAL]
EVERY += [(family, "ForSeq2SeqLM") for family in SEQ2SEQ]
each = pytest.mark.parametrize(("family", "head"), EVERY, ids=["-".join(pair) for pair in EVERY])


def model_of(family, head, **overrides):
    model = tiny_head(family, head, **overrides)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    return model


def inputs_of(model):
    batch = tiny_inputs(model)
    return batch, torch.randint(5, 60, batch.get("decoder_input_ids", batch["input_ids"]).shape)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def plain_loss(model, batch, labels):
    return cross_entropy(model(**batch).logits.flatten(0, 1), labels.flatten())


def deferred_loss(head, model, batch, labels, size=7):
    """The loss in parts of 7 rows, each computed again for the gradient."""
    with head.deferred():
        rows = model(**batch).logits.flatten(0, 1)

    def part_of_loss(values, wanted):
        return cross_entropy(head(values), wanted, reduction="sum")

    parts = zip(rows.split(size), labels.flatten().split(size), strict=True)
    return sum(checkpoint(part_of_loss, *part, use_reentrant=False) for part in parts) / labels.numel()


@each
def test_logits_loss_and_every_gradient_are_the_models_own(family, head):
    model = model_of(family, head)
    batch, labels = inputs_of(model)
    deferred = DeferredHead.of(model)
    logits = model(**batch).logits
    assert deferred.vocabulary == logits.shape[-1] == 64
    with torch.no_grad(), deferred.deferred():
        hidden = model(**batch).logits
    assert hidden.shape[:2] == logits.shape[:2]
    assert hidden.shape[2] < 64
    torch.testing.assert_close(deferred(hidden.flatten(0, 1)), logits.flatten(0, 1), rtol=1e-5, atol=1e-5)

    wanted = gradients(model, plain_loss(model, batch, labels))
    found = gradients(model, deferred_loss(deferred, model, batch, labels))
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@each
def test_the_model_is_afterwards_as_it_was(family, head):
    model = model_of(family, head)
    batch, _ = inputs_of(model)
    model.train()
    modes = [part.training for part in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    deferred = DeferredHead.of(model)
    with deferred.deferred():
        model(**batch)
    with pytest.raises(Exception, match="index out of range"), deferred.deferred():
        model(input_ids=batch["input_ids"] + 1000)
    assert [part.training for part in model.modules()] == modes
    assert "forward" not in deferred.module.__dict__
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_trying_a_model_draws_no_random_numbers():
    model = model_of("bert", "ForMaskedLM").train()
    before = torch.get_rng_state()
    DeferredHead.of(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_tied_weights_get_the_gradient_of_both_their_places():
    model = model_of("gpt2", "ForCausalLM")
    assert model.lm_head.weight is model.transformer.wte.weight
    batch, labels = inputs_of(model)
    wanted = gradients(model, plain_loss(model, batch, labels))["transformer.wte.weight"]
    found = gradients(model, deferred_loss(DeferredHead.of(model), model, batch, labels))["transformer.wte.weight"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert (wanted != 0).all()  # each word of the vocabulary, also those that no text holds


@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside the model's forward pass"])
def test_under_autocast_the_head_computes_as_the_model_would(inside):
    model = model_of("llama", "ForCausalLM")
    batch, _ = inputs_of(model)
    deferred = DeferredHead.of(model)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    if inside:
        model.forward = autocast(model.forward)
        logits = model(**batch).logits
        with deferred.deferred():
            hidden = model(**batch).logits
        found = deferred(hidden.float())
    else:
        with autocast:
            logits = model(**batch).logits
            with deferred.deferred():
                hidden = model(**batch).logits
            found = deferred(hidden)
    assert found.dtype == logits.dtype == torch.bfloat16
    torch.testing.assert_close(found, logits)


def test_gradient_checkpointing_gives_the_same_gradients():
    model = model_of("gpt2", "ForCausalLM", attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    batch, labels = inputs_of(model)
    wanted = gradients(model.train(), plain_loss(model, batch, labels))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients(model, deferred_loss(DeferredHead.of(model), model, batch, labels))
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


class Wrapped(nn.parallel.DistributedDataParallel):
    """DDP without processes."""

    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module

    def forward(self, **batch):
        return self.module(**batch)


def test_a_wrapped_model_is_unwrapped():
    model = model_of("bert", "ForMaskedLM")
    wrapped = Wrapped(model)
    deferred = DeferredHead.of(wrapped)
    assert deferred.model is model
    with deferred.deferred():
        assert wrapped(**tiny_inputs(model)).logits.shape[-1] == 32


def test_a_forward_pass_that_was_replaced_before_is_put_back():
    model = model_of("gpt2", "ForCausalLM")
    own = model.lm_head.forward
    model.lm_head.forward = lambda hidden: own(hidden)
    replaced = model.lm_head.__dict__["forward"]
    deferred = DeferredHead.of(model)
    with deferred.deferred():
        assert model.lm_head.__dict__["forward"] is not replaced
    assert model.lm_head.__dict__["forward"] is replaced


SIZES = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 64, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("gemma2", {"final_logit_softcapping": 30.0}),
        ("cohere", {"logit_scale": 0.0625}),
        ("granite", {"logits_scaling": 8.0}),
    ],
)
def test_a_model_that_changes_its_logits_after_the_head_is_left_alone(family, options):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **options))
    assert DeferredHead.of(model) is None


def test_models_without_a_head_of_words_have_none():
    assert DeferredHead.of(tiny_model("bert")) is None
    assert DeferredHead.of(tiny_head("bert")) is None
    assert DeferredHead.of(tiny_head("resnet", "ForImageClassification")) is None
    assert DeferredHead.of(nn.Linear(2, 2)) is None
    assert DeferredHead.of(tiny_head("mobilebert", "ForMaskedLM")) is None  # multiplies by its embeddings directly


@pytest.mark.parametrize(
    ("rows", "vocabulary", "size", "parts"), [(0, 50, 1, 0), (5, 2**24, 1, 5), (5, 2**25, 1, 5), (700, 50_257, 333, 3)]
)
def test_parts_cover_all_rows_and_stay_small(rows, vocabulary, size, parts):
    head = DeferredHead(None, None, vocabulary)
    found = head.in_chunks(rows)
    assert len(found) == parts
    assert [row for part in found for row in range(rows)[part]] == list(range(rows))
    assert all(part.stop - part.start <= size for part in found)
