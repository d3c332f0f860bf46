"""The `kmeans` step: which matrices share weights, what stays, what the record says, what is refused."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from hfcompress.calibration import calibration_inputs
from hfcompress.calibration.sensitivity import surprise
from hfcompress.clustering.container import pack
from hfcompress.clustering.information import weight_information
from hfcompress.clustering.kmeans import KmeansConfig, kmeans
from hfcompress.config import parse
from hfcompress.errors import ModelError, RequestError
from hfcompress.modeling.factors import Factors, put_factors
from tests.pruning.contexts import tiny_context
from tests.tiny import CONVOLUTIONAL, FAMILIES, tiny_head, tiny_inputs, tiny_model

OTHERS = ["deberta-v2", "albert", "squeezebert", "t5", "gpt2", "vit", *CONVOLUTIONAL]


def run(model, folder, **options):
    """Share weights; return the findings."""
    context = tiny_context(folder)
    assert kmeans(model, parse(KmeansConfig, options), context) is model
    return context.findings["weight_sharing"]


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_every_family_shares_weights(family, tmp_path):
    model = tiny_head(family)
    before = {name: one.clone() for name, one in model.named_parameters()}
    found = run(model, tmp_path, clusters=4)
    shared = {row["name"] for row in found["matrices"]}
    for name, weight in model.named_parameters():
        if name.removesuffix(".weight") in shared:
            assert len(weight.unique()) <= 5
        else:
            assert torch.equal(weight, before[name])
    large = [name for name, one in before.items() if one.dim() > 1 and one.numel() >= 1024 and name.endswith(".weight")]
    assert {name.removesuffix(".weight") for name in large} >= shared
    assert len(shared) >= len(large) - 2
    with torch.no_grad():
        assert all(one.isfinite().all() for one in model(**tiny_inputs(model)).values() if torch.is_tensor(one))


def test_a_stock_model_comes_out(tmp_path):
    model = tiny_model("bert")
    run(model, tmp_path, clusters=8)
    model.save_pretrained(tmp_path / "out")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert not hasattr(again.config, "quantization_config")
    assert len(again.bert.embeddings.word_embeddings.weight.unique()) == 8 + 1  # the row of padding is zero
    assert all(torch.equal(one, again.get_parameter(name)) for name, one in model.named_parameters())


def test_tied_weights_stay_tied(tmp_path):
    model = tiny_head("bert", "ForMaskedLM")
    found = run(model, tmp_path, clusters=8)
    names = [row["name"] for row in found["matrices"]]
    assert [name for name in names if "decoder" in name or "word" in name] == ["bert.embeddings.word_embeddings"]
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    model.save_pretrained(tmp_path / "out")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert len(again.get_output_embeddings().weight.unique()) == 8 + 1


def test_pruned_zeros_stay_zero(tmp_path):
    model = tiny_model("bert")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight[module.weight.abs() < module.weight.abs().median()] = 0
    zeros = {name: one == 0 for name, one in model.named_parameters()}
    found = run(model, tmp_path, clusters=4, bit_price=0.05, start="density")
    assert all(torch.equal(one == 0, zeros[name]) for name, one in model.named_parameters())
    assert sum(row["zeros"] for row in found["matrices"]) > 0


def test_low_rank_factors_share_weights(tmp_path):
    model = tiny_model("bert", intermediate_size=128)
    name = "bert.encoder.layer.0.intermediate.dense"
    put_factors(model, {name: Factors(torch.randn(16, 32), torch.randn(128, 16))})
    found = run(model, tmp_path, clusters=4)
    assert f"{name}.up" in {row["name"] for row in found["matrices"]}
    assert len(model.get_submodule(name).up.weight.unique()) == 4


def test_embeddings_have_clusters_of_their_own(tmp_path):
    model = tiny_model("bert")
    run(model, tmp_path, clusters=4, embedding_clusters=11)
    assert len(model.bert.embeddings.word_embeddings.weight.unique()) == 11 + 1
    assert len(model.bert.encoder.layer[0].output.dense.weight.unique()) == 4


def test_filters_choose(tmp_path):
    model = tiny_model("bert")
    found = run(model, tmp_path, clusters=4, modules=["*.output.dense", "*word*"], exclude=["*layer.1*"])
    assert [row["name"] for row in found["matrices"]] == [
        "bert.embeddings.word_embeddings",
        "bert.encoder.layer.0.attention.output.dense",
        "bert.encoder.layer.0.output.dense",
    ]


def test_the_record_says_what_the_container_takes(tmp_path):
    model = tiny_model("bert", vocab_size=4000)
    found = run(model, tmp_path, clusters=4, outliers=0.01)
    model.save_pretrained(tmp_path / "out")
    report = pack(tmp_path / "out", tmp_path / "model.hfz")
    packed = sum(one["packed"] for one in report.tensors.values())
    assert found["packed_bytes"] == pytest.approx(packed, rel=0.1)
    table = found["matrices"][0]
    assert (table["name"], table["weights"], table["exact"]) == ("bert.embeddings.word_embeddings", 128_000, 1280)
    assert 1.5 < table["bits_per_weight"] < 2.6
    assert 0.05 < table["error"] < 0.2


def test_information_is_the_mean_squared_gradient_of_single_rows(tmp_path):
    model, context = tiny_model("bert"), tiny_context(tmp_path)
    names = ["bert.embeddings.word_embeddings", "bert.encoder.layer.1.output.dense"]
    rows = calibration_inputs(model, context, 4, 1)
    found = weight_information(model, names, rows, context.task, seed=0)
    generator = torch.Generator().manual_seed(0)
    expected = {name: 0 for name in names}
    for row in rows:
        loss = surprise(model(**row), row, context.task, generator)
        for name in names:
            gradient = torch.autograd.grad(loss, model.get_submodule(name).weight, retain_graph=True)[0]
            expected[name] += gradient**2 / len(rows)
    for name in names:
        torch.testing.assert_close(found[name], expected[name])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_fisher_information_moves_the_values(tmp_path):
    plain, informed = tiny_model("bert"), tiny_model("bert")
    run(plain, tmp_path, clusters=4)
    run(informed, tmp_path, clusters=4, fisher=True, examples=8)
    weight = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(plain.get_parameter(weight), informed.get_parameter(weight))
    assert len(informed.get_parameter(weight).unique()) == 4


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"clusters": 1}, "clusters: input should be greater than or equal to 2, got 1"),
        ({"clusters": 257}, "clusters: input should be less than or equal to 256, got 257"),
        ({"embedding_clusters": 1}, "embedding_clusters"),
        ({"outliers": 0.2}, "outliers"),
        ({"groups": 0}, "groups"),
        ({"start": "linaer"}, "start"),
        ({"bit_price": -1}, "bit_price"),
        ({"losses": "kl"}, "train: only training uses losses, and train is not given"),
        ({"codebook_learning_rate": 0.1}, "train: only training uses codebook_learning_rate"),
    ],
)
def test_bad_options_are_refused(options, fault):
    with pytest.raises(RequestError, match=fault):
        parse(KmeansConfig, options)


def test_models_that_cannot_be_shared_are_refused(tmp_path):
    with pytest.raises(RequestError, match="matches nothing"):
        run(tiny_model("bert"), tmp_path, modules=["*.fc9"])
    with pytest.raises(RequestError, match="fewer than 1024 weights"):
        run(tiny_model("bert"), tmp_path, modules=["classifier"])
    model = tiny_model("bert")
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"layer\.1\.output\.dense.*NaN"):
        run(model, tmp_path)
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(ModelError, match=r"quantized already \(bitsandbytes\)"):
        run(model, tmp_path)
