"""Low-rank token embeddings and what is tied to them: equal at full rank, loaded again, trained, pruned, merged."""

import copy

import pytest
import torch
import transformers
from safetensors import safe_open
from torch import nn

import hfcompress
from hfcompress.errors import ModelError
from hfcompress.measure.size import measure_size
from hfcompress.modeling.embedding_tables import merge_embeddings, put_embedding, rebuild, tied_to, token_table
from hfcompress.modeling.low_rank_embedding import (
    LowRankEmbedding,
    Tied,
    TiedEmbedding,
    TiedHead,
    low_rank_embedding_like,
    tied_like,
)
from hfcompress.modeling.structure import structure_of
from hfcompress.modeling.surgery import keep_hidden, keep_layers
from hfcompress.modeling.vocabulary import keep_rows
from hfcompress.tasks import find_task
from tests.tiny import HEADS, VISION, tiny_head, tiny_inputs
from tests.tiny import tiny_model as tiny_classifier

WORDS = ("ForMaskedLM", "ForCausalLM", "ForSeq2SeqLM")
CASES = [
    (family, head)
    for family, heads in HEADS.items()
    if family not in VISION
    for head in heads
    if head in ("ForSequenceClassification", *WORDS)
]
each_head = pytest.mark.parametrize(("family", "head"), CASES)
TIED = [
    ("bert", "ForMaskedLM"),
    ("gpt2", "ForCausalLM"),
    ("t5", "ForSeq2SeqLM"),
    ("bart", "ForSeq2SeqLM"),
    ("llama", "ForCausalLM"),
]
each_tied = pytest.mark.parametrize(("family", "head"), TIED)


def tiny(family, head):
    """BART's config does not save two labels under transformers 5."""
    return tiny_head(family, head, num_labels=3, **({"tie_word_embeddings": True} if family == "llama" else {}))


def outputs(model):
    with torch.no_grad():
        return model.eval()(**tiny_inputs(model))[0]


def factorized(model, rank=None):
    """The model with its table cut to its first singular values; whole where no rank is given."""
    name = token_table(model)
    left, sizes, right = torch.linalg.svd(model.get_submodule(name).weight.double(), full_matrices=False)
    return put_embedding(model, name, (left * sizes)[:, :rank], right[:rank].T)


def table_of(model):
    (found,) = {id(one): one for one in model.modules() if isinstance(one, LowRankEmbedding)}.values()
    return found


def tied(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, Tied)}


def merged(model):
    structure = structure_of(model.config)
    merge_embeddings(model, structure)
    hfcompress.modeling.structure.write_structure(model.config, structure)
    return model


@each_head
def test_at_full_rank_it_answers_as_before_and_merging_brings_the_stock_model_back(family, head):
    model = tiny(family, head)
    expected, before, names = outputs(model), model.config.to_dict(), set(model.state_dict())
    same = tied_to(model, token_table(model))
    factorized(model)
    assert torch.allclose(outputs(model), expected, atol=1e-5)
    assert set(tied(model)) == set(same)
    merged(model)
    assert torch.allclose(outputs(model), expected, atol=1e-5)
    assert set(model.state_dict()) == names
    assert model.config.to_dict() == before
    assert tied_to(model, token_table(model)) == same


@each_head
def test_saved_and_loaded_it_is_tied_and_computes_the_same(family, head, tmp_path):
    model = factorized(tiny(family, head), rank=4)
    name, expected = token_table_name(model), outputs(model)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = [key for key in file.keys() if key.endswith(("table.weight", "projection.weight"))]
        assert stored == [f"{name}.projection.weight", f"{name}.table.weight"]
        assert not {f"{place}.weight" for place in (name, *tied(model))} & {*file.keys()}
    again, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert torch.equal(outputs(again), expected)
    assert again.num_parameters() == model.num_parameters()
    assert set(tied(again)) == set(tied(model))
    assert all(one.table is table_of(again).table for one in tied(again).values())
    again.tie_weights()
    assert torch.equal(outputs(again), expected)
    model.load_state_dict(copy.deepcopy(again.state_dict()), strict=True)
    assert torch.equal(outputs(model), expected)


def token_table_name(model):
    return next(name for name, module in model.named_modules() if isinstance(module, LowRankEmbedding))


@each_tied
def test_a_training_step_changes_table_and_head_alike(family, head):
    model = factorized(tiny(family, head), rank=4).train()
    table, head_module = table_of(model), model.get_output_embeddings()
    assert isinstance(head_module, TiedHead)
    assert model.get_input_embeddings() is table
    before = table.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**tiny_inputs(model))[0].square().mean().backward()
    optimizer.step()
    assert not torch.equal(table.weight, before)
    assert torch.equal(head_module.weight, table.weight)
    assert table.table.weight.grad is not None
    assert table.projection.weight.grad is not None
    twin = copy.deepcopy(model)
    assert tied(twin)
    assert all(one.table is table_of(twin).table for one in tied(twin).values())
    assert table_of(twin) is not table


def test_the_layer_by_hand():
    layer = LowRankEmbedding(3, 2, 1, padding_idx=0, scale=10.0)
    with torch.no_grad():
        layer.table.weight.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
        layer.projection.weight.copy_(torch.tensor([[3.0], [4.0]]))
    assert layer(torch.tensor([2, 0])).tolist() == [[60, 80], [0, 0]]
    assert layer.weight.tolist() == layer.dense().tolist() == [[0, 0], [3, 4], [6, 8]]
    assert (layer.num_embeddings, layer.embedding_dim, layer.rank, layer.padding_idx) == (3, 2, 1, 0)
    head = TiedHead(layer, nn.Parameter(torch.tensor([0.0, 0.0, 1.0])))
    assert head(torch.tensor([1.0, 1.0])).tolist() == [0, 7, 15]
    assert TiedEmbedding(layer, 2.0)(torch.tensor([1])).tolist() == [[6, 8]]
    both = [nn.ModuleList([layer, head]).state_dict(), nn.ModuleList([head, layer]).state_dict()]
    assert [sorted(one) for one in both] == [
        ["0.projection.weight", "0.table.weight", "1.bias"],
        ["0.bias", "1.projection.weight", "1.table.weight"],
    ]
    assert "rank=1" in repr(layer)


def test_what_is_no_plain_table_is_refused():
    table = nn.Embedding(4, 3)
    with pytest.raises(ValueError, match="no plain table"):
        low_rank_embedding_like(nn.Linear(3, 4), 1)
    with pytest.raises(ValueError, match="does not fit"):
        low_rank_embedding_like(table, 1, tokens=5)
    with pytest.raises(ValueError, match="neither"):
        tied_like(nn.Conv1d(1, 1, 1), low_rank_embedding_like(table, 1))


@pytest.mark.parametrize("family", VISION)
def test_a_model_of_images_is_refused(family):
    with pytest.raises(ModelError, match="no table to factorize"):
        token_table(tiny_head(family, "ForImageClassification"))


def test_what_is_of_low_rank_already_is_refused():
    with pytest.raises(ModelError, match="merge"):
        token_table(factorized(tiny_classifier(), rank=4))


def test_weights_that_are_not_tied_as_the_config_says_are_refused():
    model = tiny("gpt2", "ForCausalLM")
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with pytest.raises(ModelError, match="lm_head and transformer.wte are tied, but their weights are two"):
        token_table(model)
    model.config.tie_word_embeddings = False
    head = model.lm_head
    factorized(model, rank=4)
    assert model.lm_head is head  # an untied head is left alone


@pytest.mark.parametrize("sizes", [[64, 4], [64, 4, 33], [63, 4, 32], [64, 0, 32], "64", [64, 4, 32, 1]])
def test_a_damaged_manifest_is_refused(sizes, tmp_path):
    model = tiny_classifier()
    modules = {"embeddings.word_embeddings": {"low_rank_embedding": sizes}}
    model.config.quantization_config = {"quant_method": "hfcompress", "modules": modules}
    with pytest.raises(ModelError, match="low_rank_embedding|does not fit"):
        rebuild(model)


def test_a_classifier_s_body_becomes_a_model_of_words_and_the_other_way_round(tmp_path):
    model = factorized(tiny_classifier(), rank=4)
    model.save_pretrained(tmp_path / "classifier")
    words = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "classifier")
    assert isinstance(words.get_output_embeddings(), TiedHead)
    assert torch.equal(table_of(words).weight, table_of(model).weight)
    words.save_pretrained(tmp_path / "words")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "words")
    assert torch.equal(table_of(again).weight, table_of(model).weight)


@each_tied
def test_rows_of_the_vocabulary_can_leave_before_and_after(family, head, tmp_path):
    model = tiny(family, head)
    inputs = tiny_inputs(model)
    before = factorized(copy.deepcopy(model), rank=4)
    tokens = {int(token) for name, ids in inputs.items() if name.endswith("input_ids") for token in ids.flatten()}
    rows = sorted(tokens | {0, 1, 2, 3})
    expected = outputs(before)
    keep_rows(before, rows)
    numbers = torch.full((64,), -1)
    numbers[rows] = torch.arange(len(rows))
    new = {name: numbers[value] if name.endswith("input_ids") else value for name, value in inputs.items()}
    with torch.no_grad():
        found = before.eval()(**new)[0]
        assert torch.allclose(found, expected[..., rows], atol=1e-6)
        before.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        assert torch.equal(again(**new)[0], found)
    assert table_of(again).num_embeddings == len(rows)
    assert structure_of(again.config).modules[relative(again)]["low_rank_embedding"][0] == len(rows)
    after = factorized(keep_rows(model, rows), rank=4)
    assert table_of(after).num_embeddings == len(rows)


def relative(model):
    return token_table_name(model).removeprefix(f"{model.base_model_prefix}.")


def test_dimensions_of_the_hidden_state_and_layers_can_leave(tmp_path):
    model = factorized(tiny("bert", "ForMaskedLM"), rank=4)
    twin = merged(copy.deepcopy(model))
    assert outputs(keep_layers(model, [1])).shape == outputs(model).shape
    keep_hidden(model, range(24)), keep_hidden(twin, range(24))
    assert torch.allclose(outputs(model), outputs(twin), atol=1e-5)
    assert table_of(model).embedding_dim == 24
    model.save_pretrained(tmp_path)
    assert torch.equal(outputs(type(model).from_pretrained(tmp_path)), outputs(model))
    merged(model).save_pretrained(tmp_path / "merged")
    assert torch.allclose(outputs(type(model).from_pretrained(tmp_path / "merged")), outputs(twin), atol=1e-5)


def test_its_parameters_are_those_of_the_embeddings():
    model = tiny_classifier()
    task = find_task("text-classification")
    dense = measure_size(model.config, task)
    small = measure_size(factorized(model, rank=4).config, task)
    assert dense.components["embeddings"] - small.components["embeddings"] == 64 * 32 - 4 * (64 + 32)
    assert small.macs - dense.macs == small.length * 4 * 32  # looked up for nothing, and then projected


def test_a_table_cannot_be_resized():
    with pytest.raises(TypeError, match="LowRankEmbedding"):
        factorized(tiny_classifier(), rank=4).resize_token_embeddings(70)
