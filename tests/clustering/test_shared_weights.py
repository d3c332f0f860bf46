"""Training shared values: gradients are summed, zeros and places stay, a stopped run resumes bit for bit."""

import copy

import pytest
import torch

from hfcompress.clustering.kmeans import KmeansConfig, kmeans
from hfcompress.clustering.shared_weights import SharedWeights
from hfcompress.config import parse
from hfcompress.errors import RequestError
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_head, tiny_inputs, tiny_model
from tests.training.runs import At, build, logged, same, small_student, weights

NAME = "bert.encoder.layer.0.output.dense"
STEPS = 8


def attached(model, **options):
    shared = parse(KmeansConfig, {"clusters": 4, "train": True, **options}).build(model)
    shared.attach(model)
    return shared


def sparse(model):
    with torch.no_grad():
        weight = model.get_submodule(NAME).weight
        weight[weight.abs() < weight.abs().median()] = 0
    return model


def loss(model):
    return model(**tiny_inputs(model)).logits.square().sum()


def test_the_gradient_of_a_centroid_is_the_sum_of_its_weights_gradients():
    model = sparse(tiny_model("bert"))
    shared = attached(model, outliers=0.05, groups=2)
    book = shared.books[NAME]
    dense = copy.deepcopy(model)
    for module in dense.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    with torch.no_grad():
        for name, one in shared.books.items():
            dense.get_submodule(name).weight.copy_(one.weight())
    loss(model).backward()
    loss(dense).backward()
    gradient = dense.get_submodule(NAME).weight.grad.flatten()
    gradient[book.exact] = 0
    places = book.places.flatten().long()
    expected = torch.zeros(len(book.values)).index_add(0, places, gradient)[1:]
    centroids = shared.learned["centroids"][list(shared.books).index(NAME)]
    torch.testing.assert_close(centroids.grad, expected)
    assert model.get_submodule(NAME).weight.grad is None


def test_a_gradient_by_hand():
    layer = torch.nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 1.0, 3.0], [10.0, 0.0, 12.0]]))
    model = torch.nn.ModuleDict({"layer": layer})
    from hfcompress.clustering.codebooks import Sharing, share

    shared = SharedWeights({"layer": share(layer.weight, Sharing(2))})
    shared.attach(model)
    out = layer(torch.tensor([[1.0, 2.0, 4.0]]))
    assert out.tolist() == [[12.0, 55.0]]  # 2·2 + 2·4, and 11·1 + 11·4
    (out * torch.tensor([1.0, 10.0])).sum().backward()
    assert shared.learned["centroids"][0].grad.tolist() == [6.0, 50.0]


def test_what_the_model_computes_is_what_finish_leaves():
    model = sparse(tiny_model("bert"))
    before = weights(model)
    shared = attached(model, outliers=0.02)
    assert same(weights(model), before)
    with torch.no_grad():
        for centroids in shared.learned.parameters():
            centroids.add_(0.01)
    answer = loss(model)
    shared.finish()
    assert torch.equal(loss(model), answer)
    weight = model.get_submodule(NAME).weight
    assert torch.equal(weight == 0, before[f"{NAME}.weight"] == 0)
    exact = shared.books[NAME].exact
    assert len(exact) == 41
    assert torch.equal(weight.flatten()[exact], before[f"{NAME}.weight"].flatten()[exact])
    assert len(weight.unique()) == 4 + 1 + len(exact)


def test_tied_weights_are_one_codebook():
    model = tiny_head("bert", "ForMaskedLM")
    shared = attached(model)
    embeddings = model.get_input_embeddings()
    assert embeddings.weight is model.get_output_embeddings().weight
    model(**tiny_inputs(model)).logits.sum().backward()
    assert embeddings.weight.grad is None
    shared.finish()
    assert embeddings.weight is model.get_output_embeddings().weight
    assert len(embeddings.weight.unique()) == 4 + 1  # the row of padding is zero


def trainer_of(folder, model=None, callbacks=None, **options):
    learning = {"max_steps": STEPS, "per_device_train_batch_size": 8}
    given = {"clustering": {"method": "kmeans", "clusters": 4, **options}}
    return build(
        sparse(small_student()) if model is None else model, folder, given=given, callbacks=callbacks, **learning
    )


def test_training_moves_the_values_alone(tmp_path):
    trainer = trainer_of(tmp_path, codebook_learning_rate=0.01)
    before = weights(trainer.model)
    posthoc = trainer.alterations["clustering"].books[NAME].weight()
    trainer.train()
    weight = trainer.model.get_submodule(NAME).weight
    assert torch.equal(weight == 0, before[f"{NAME}.weight"] == 0)
    assert len(weight.unique()) == 5
    moved = weight - posthoc
    assert moved.abs().max() > 0.005
    for value in posthoc.unique():
        assert len(moved[posthoc == value].unique()) == 1
    assert not torch.equal(
        trainer.model.get_parameter(f"{NAME[:-6]}.LayerNorm.bias"), before[f"{NAME[:-6]}.LayerNorm.bias"]
    )


@pytest.mark.parametrize("other", [False, True])
def test_a_stopped_run_resumes_exactly(other, tmp_path):
    """Also where the model that resumes is not the one that the codebooks were found for."""
    options = {"outliers": 0.01, "codebook_learning_rate": 0.01}
    whole = trainer_of(tmp_path / "whole", **options)
    whole.train()
    save = At(4, lambda control: setattr(control, "should_save", True))
    halt = At(5, lambda control: setattr(control, "should_training_stop", True))
    trainer_of(tmp_path / "stopped", callbacks=[save, halt], **options).train()
    torch.manual_seed(99)
    model = small_student()
    if other:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
    resumed = trainer_of(tmp_path / "stopped", model if other else None, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-4"))
    assert same(weights(resumed.model), weights(whole.model))
    assert logged(resumed, "loss") == logged(whole, "loss")


def test_a_checkpoint_of_other_codebooks_is_refused(tmp_path):
    save = At(4, lambda control: setattr(control, "should_save", True))
    trainer_of(tmp_path, callbacks=[save]).train()
    with pytest.raises(RequestError, match="holds codebooks of other weights"):
        trainer_of(tmp_path, clusters=5).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_the_step_trains_and_learns_from_the_model_before(tmp_path):
    model, context = tiny_model("bert"), tiny_context(tmp_path)
    options = {"clusters": 4, "train": True, "fisher": True, "examples": 4, "losses": "kl"}
    config = parse(KmeansConfig, options)
    config.training = {"max_steps": 2, "per_device_train_batch_size": 8, "save_strategy": "no"}
    model = kmeans(model, config, context)
    assert len(model.get_submodule(NAME).weight.unique()) == 4
    assert "_forward_pre_hooks" not in [name for name, one in model.named_modules() if one._forward_pre_hooks]
    assert context.findings["weight_sharing"]["packed_bytes"] < context.findings["weight_sharing"]["bytes"]


def test_the_trainer_has_no_rows_for_fisher_information(tmp_path):
    with pytest.raises(RequestError, match=r"clustering\.fisher: needs calibration rows"):
        trainer_of(tmp_path, fisher=True)
