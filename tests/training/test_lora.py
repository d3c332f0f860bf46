"""LoRA: where adapters stand, what is trained beside them, that merging them is exact and leaves the model's layers."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.embedding_tables import put_embedding
from hfcompress.modeling.factors import Factors, put_factors
from hfcompress.modeling.linear import matrix
from hfcompress.modeling.low_rank import ConvChain, LowRankLinear, chain_of
from hfcompress.modeling.targets import targets_of
from hfcompress.training.finetune import FinetuneConfig
from hfcompress.training.lora import LoraOptions, adapted
from tests.tiny import CONVOLUTIONAL, ENCODER_DECODERS, FAMILIES, HEADS, tiny_head, tiny_inputs, tiny_model


def low_rank(family="bert", head="ForSequenceClassification", modules=None):
    """A tiny model whose linear layers have rank 6."""
    model = tiny_head(family, head)
    generator = torch.Generator().manual_seed(3)
    found = {}
    for name, module in targets_of(model, modules=modules).items():
        outputs, inputs = matrix(module).shape
        found[name] = Factors(*(torch.randn(size, generator=generator) / 6 for size in ((6, inputs), (outputs, 6))))
    return put_factors(model, found)


def adapters(model):
    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def learn(model):
    """Give all adapters random weights, as if they had learned."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)


def answer(model):
    with torch.no_grad():
        return model(**tiny_inputs(model))[0]


def layers(model):
    return [(name, type(module)) for name, module in model.named_modules()]


MODELS = {
    **{
        family: (family, "ForSequenceClassification")
        for family in [*FAMILIES, "albert", "squeezebert", "gpt2", "llama"]
    },
    **{f"{family}, generating": (family, "ForSeq2SeqLM") for family in ENCODER_DECODERS},
    **{family: (family, "ForImageClassification") for family in CONVOLUTIONAL},
    "gpt2, generating": ("gpt2", "ForCausalLM"),
    "bert, masked": ("bert", "ForMaskedLM"),
    "bert, no head": ("bert", ""),
}


@pytest.mark.parametrize("name", MODELS)
def test_merged_adapters_answer_as_they_did_and_leave_the_layers_as_they_were(name):
    model = tiny_head(*MODELS[name])
    names, kinds, first = list(model.state_dict()), layers(model), answer(model)
    with adapted(model, LoraOptions(rank=4), 0):
        assert adapters(model)
        torch.testing.assert_close(answer(model), first, atol=1e-6, rtol=1e-6)  # they begin with nothing
        learn(model)
        learned = answer(model)
    assert (learned - first).abs().max() > 1e-4
    torch.testing.assert_close(answer(model), learned, atol=1e-5, rtol=1e-5)
    assert list(model.state_dict()) == names
    assert layers(model) == kinds
    assert not hasattr(model, "peft_config")
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2"])
def test_factors_get_the_adapters_and_stay_factors(family, tmp_path):
    modules = ["*.c_fc"] if family == "gpt2" else None
    model = low_rank(family, modules=modules)
    manifest, kinds = model.config.to_dict()["quantization_config"], layers(model)
    factors = [name for name, kind in kinds if name.endswith((".down", ".up"))]
    with adapted(model, LoraOptions(rank=2), 0):
        assert adapters(model) == factors
        learn(model)
        learned = answer(model)
    torch.testing.assert_close(answer(model), learned, atol=1e-5, rtol=1e-5)
    assert layers(model) == kinds
    assert model.config.to_dict()["quantization_config"] == manifest
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert [module.rank for module in again.modules() if isinstance(module, LowRankLinear)] == [6] * (len(factors) // 2)
    assert torch.equal(answer(again), answer(model))


def test_a_chain_of_convolutions_gets_adapters_too():
    model = tiny_head("resnet", "ForImageClassification")
    place = next(name for name, m in targets_of(model).items() if m.kernel_size == (3, 3) and m.stride == (1, 1))
    dense = model.get_submodule(place)
    narrow, wide = dense.in_channels, dense.out_channels
    core = [
        [4, narrow, 1, 1, 1, 1, 0, 0, 1, 1, 1],
        [4, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1],
        [wide, 4, 1, 1, 1, 1, 0, 0, 1, 1, 1],
    ]
    parent, _, last = place.rpartition(".")
    setattr(model.get_submodule(parent), last, chain_of(core, dense.bias is not None).eval())
    with adapted(model, LoraOptions(rank=2), 0):
        assert adapters(model) == [f"{place}.{part}" for part in range(3)]
        learn(model)
        learned = answer(model)
    torch.testing.assert_close(answer(model), learned, atol=1e-5, rtol=1e-5)
    assert isinstance(model.get_submodule(place), ConvChain)


def test_without_low_rank_layers_the_layers_of_the_block_table_get_them():
    model = tiny_model()
    with adapted(model, LoraOptions(), 0):
        found = adapters(model)
    assert found == list(targets_of(model))


def test_patterns_choose_where_they_stand():
    model = low_rank(modules=["*.query"])
    with adapted(model, LoraOptions(modules=["*.key", "*.0.*.up", "classifier"]), 0):
        found = adapters(model)
    keys = [f"bert.encoder.layer.{number}.attention.self.key" for number in range(2)]
    assert sorted(found) == sorted([*keys, "bert.encoder.layer.0.attention.self.query.up", "classifier"])


def test_of_shared_layers_there_is_one_adapter():
    model = tiny_head("albert", "ForSequenceClassification", layers=3)
    with adapted(model, LoraOptions(), 0):
        assert len(adapters(model)) == 6


def test_rank_alpha_and_dropout_are_those_of_the_adapters():
    model = tiny_model()
    with adapted(model, LoraOptions(rank=3, alpha=6, dropout=0.25), 0):
        one = model.get_submodule("bert.encoder.layer.0.attention.self.query")
        sizes = (one.lora_A["default"].weight.shape, one.lora_B["default"].weight.shape)
        assert sizes == ((3, 32), (32, 3))
        assert one.scaling["default"] == 2
        assert one.lora_dropout["default"].p == 0.25
    with adapted(model, LoraOptions(rank=3), 0):
        assert model.get_submodule("bert.encoder.layer.0.attention.self.query").scaling["default"] == 1


def test_the_weight_grows_by_the_product_of_the_adapter():
    model = tiny_model()
    layer = model.bert.encoder.layer[0].intermediate.dense
    before = layer.weight.detach().clone()
    with adapted(model, LoraOptions(rank=2, alpha=6), 0):
        learn(model)
        one = model.bert.encoder.layer[0].intermediate.dense
        product = one.lora_B["default"].weight @ one.lora_A["default"].weight
    assert model.bert.encoder.layer[0].intermediate.dense is layer
    torch.testing.assert_close(layer.weight, before + 3 * product)


def test_the_seed_decides_how_they_begin_and_nothing_else_is_drawn():
    def first(seed):
        model, state = tiny_model(), torch.get_rng_state()
        with adapted(model, LoraOptions(), seed):
            assert torch.equal(torch.get_rng_state(), state)
            return torch.cat([p.detach().flatten() for name, p in model.named_parameters() if ".lora_A" in name])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("family", "head", "expected"),
    [
        ("bert", "ForSequenceClassification", {"classifier"}),
        ("bert", "ForTokenClassification", {"classifier"}),
        ("bert", "ForQuestionAnswering", {"qa_outputs"}),
        ("bert", "ForMaskedLM", set()),
        ("bert", "", set()),
        ("distilbert", "ForSequenceClassification", {"classifier", "pre_classifier"}),
        ("gpt2", "ForSequenceClassification", {"score"}),
        ("gpt2", "ForCausalLM", set()),
        ("t5", "ForSeq2SeqLM", set()),
        ("t5", "ForQuestionAnswering", {"qa_outputs"}),
        ("t5", "ForSequenceClassification", {"classification_head"}),
        ("resnet", "ForImageClassification", {"classifier"}),
    ],
)
def test_beside_the_adapters_the_head_is_trained(family, head, expected):
    model = tiny_head(family, head)
    with adapted(model, LoraOptions(rank=4), 0):
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {name.partition(".")[0] for name in trained if ".lora_" not in name} == expected
    assert any(".lora_" in name for name in trained)


def test_every_head_of_every_family_is_trained_unless_it_is_a_language_models():
    for family, heads in HEADS.items():
        for head in set(heads) - {"", "ForMaskedLM", "ForCausalLM", "ForSeq2SeqLM"}:
            model = tiny_head(family, head, layers=1)
            with adapted(model, LoraOptions(rank=4), 0):
                trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
            assert [name for name in trained if ".lora_" not in name], (family, head)


def test_what_was_frozen_before_stays_frozen_and_is_so_afterwards():
    model = tiny_model()
    model.classifier.bias.requires_grad_(False)
    with adapted(model, LoraOptions(), 0):
        assert not model.classifier.bias.requires_grad
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["classifier.bias"]


def test_they_are_removed_when_training_fails():
    model = tiny_model()
    kinds = layers(model)
    with pytest.raises(ZeroDivisionError), adapted(model, LoraOptions(), 0):
        _ = 1 / 0
    assert layers(model) == kinds


def test_a_pattern_that_matches_nothing_is_refused():
    model = tiny_model()
    with pytest.raises(RequestError, match=r"lora\.modules: '\*\.fc9' matches nothing\. There are for example"):
        adapted(model, LoraOptions(modules=["*.fc9"]), 0).__enter__()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_unknown_architecture_needs_patterns(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(model.config, "model_type", "unheard-of")
    with pytest.raises(ModelError, match="give modules"):
        adapted(model, LoraOptions(), 0).__enter__()
    with adapted(model, LoraOptions(modules=["*.query"]), 0):
        assert len(adapters(model)) == 2


def test_convolutions_of_several_groups_are_left_out_and_refused_by_name():
    model = tiny_head("mobilenet_v1", "ForImageClassification")
    with adapted(model, LoraOptions(), 0):
        found = [model.get_submodule(name).get_base_layer() for name in adapters(model)]
    assert {layer.groups for layer in found} == {1}
    with pytest.raises(RequestError, match=r"lora\.modules: mobilenet_v1\.layer\.0\.convolution .* several groups"):
        adapted(model, LoraOptions(modules=["*.convolution"]), 0).__enter__()


def test_what_tied_embeddings_are_made_of_is_refused():
    model = tiny_head("bert", "ForMaskedLM")
    put_embedding(model, "bert.embeddings.word_embeddings", torch.randn(64, 4), torch.randn(32, 4))
    with pytest.raises(RequestError, match=r"lora\.modules: .*word_embeddings\.projection .* the head uses, too"):
        adapted(model, LoraOptions(modules=["*.projection"]), 0).__enter__()


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for attempt in (
        lambda: parse(FinetuneConfig, {"lora": {"rank": 8}}),
        lambda: adapted(tiny_model(), LoraOptions(), 0).__enter__(),
    ):
        with pytest.raises(RequestError, match=r"lora: needs peft, .* Run: pip install 'hfcompress\[peft\]'"):
            attempt()
    assert parse(FinetuneConfig, {}).lora is None


@pytest.mark.parametrize("given", [{"rank": 4, "modules": ["*.fc1"]}, '{"rank": 4, "modules": ["*.fc1"]}'])
def test_options_are_read_from_recipes_and_from_the_command_line(given):
    assert parse(FinetuneConfig, {"lora": given}).lora == LoraOptions(rank=4, modules=["*.fc1"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rnak": 4}, r"lora\.rnak: there is no such key"),
        ({"rank": 0}, r"lora\.rank: input should be greater than 0, got 0"),
        ({"alpha": 0}, r"lora\.alpha: input should be greater than 0, got 0"),
        ({"alpha": float("inf")}, r"lora\.alpha: input should be a finite number, got inf"),
        ({"dropout": 1}, r"lora\.dropout: input should be less than 1, got 1"),
        ('{"rank": 4', r"lora: is not valid JSON: .* Write for example {\"rank\": 8}\."),
        ("8", r"lora: input should be a dictionary"),
        (True, r"lora: input should be a dictionary"),
    ],
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(RequestError, match=message):
        parse(FinetuneConfig, {"lora": given})
