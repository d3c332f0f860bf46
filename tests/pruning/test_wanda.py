"""Wanda: the score of the paper, compared within each output."""

import torch

from hfcompress.modeling.linear import rows_of
from hfcompress.modeling.statistics import Moments
from hfcompress.modeling.targets import targets_of
from hfcompress.pruning.wanda import WandaConfig, input_norms, wanda, weakest
from hfcompress.registry import find
from tests.pruning.contexts import tiny_context
from tests.tiny import tiny_model


def test_scores_by_hand():
    moments = Moments(products=False)
    moments.add(torch.tensor([[3.0, 0.0, 1.0, 1.0], [4.0, 0.0, 1.0, -1.0]]))  # norms 5, 0, √2, √2
    rows = torch.tensor([[[1.0, 9.0, -2.0, 3.0], [-0.5, 9.0, 1.0, 3.0]]])
    norms = input_norms(moments, rows) * 2**0.5
    torch.testing.assert_close(norms[0, 0], torch.tensor([5.0, 0.0, 2**0.5, 2**0.5]).double())
    half = weakest(rows.abs() * norms, WandaConfig(sparsity=0.5))  # of 5, 0, 2.8, 4.2 and of 2.5, 0, 1.4, 4.2
    assert half.tolist() == [[[False, True, True, False], [False, True, True, False]]]
    assert weakest(rows.abs() * norms, WandaConfig(pattern="1:2")).tolist() == [
        [[False, True, True, False], [False, True, True, False]]
    ]


def test_every_output_loses_as_many_and_what_stays_is_what_was(tmp_path):
    model, before = tiny_model(), tiny_model()
    wanda(model, WandaConfig(sparsity=0.3), tiny_context(tmp_path))
    for name, module in targets_of(model).items():
        rows, dense = rows_of(module), rows_of(before.get_submodule(name))
        assert ((rows == 0).sum(dim=-1) == round(0.3 * rows.shape[-1])).all()
        assert torch.equal(rows, torch.where(rows == 0, 0, dense))


def test_it_is_a_step_with_help():
    method = find("pruning", "wanda")
    assert method.target is wanda
    assert "one-shot" in method.help
