"""Scores of movement pruning: gradients by hand and by autograd, exact counts, ties, blocks and units."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcompress.errors import RequestError
from hfcompress.modeling.groups import groups_of
from hfcompress.pruning.masks import Masks
from hfcompress.pruning.scored import ScoredBlocks, ScoredUnits, scored_blocks, scored_units
from hfcompress.pruning.scores import lowest, straight_through
from tests.tiny import tiny_head, tiny_model


def marked(scores, share, sizes=None):
    def known():
        assert sizes is not None, "there are no equal scores to choose among"
        return torch.tensor(sizes)

    return lowest(torch.tensor(scores), round(share * len(scores)), known).nonzero().flatten().tolist()


@pytest.mark.parametrize(("share", "found"), [(0.0, []), (0.25, [2]), (0.5, [0, 2]), (0.75, [0, 1, 2])])
def test_the_lowest_scores_are_marked_an_exact_number_of_them(share, found):
    assert marked([-1.0, 0.5, -2.0, 3.0], share) == found


def test_all_can_be_marked():
    assert marked([1.0, 2.0], 0.99) == [0, 1]


def test_of_equal_scores_the_smaller_weights_go_and_of_equal_weights_the_first():
    assert marked([0.0, 0.0, 0.0, 0.0], 0.5, [3.0, 1.0, 2.0, 4.0]) == [1, 2]
    assert marked([0.0, 0.0, -1.0, 0.0], 0.5, [3.0, 1.0, 9.0, 4.0]) == [1, 2]
    assert marked([0.0, 0.0, 0.0, 0.0], 0.5, [1.0, 1.0, 1.0, 1.0]) == [0, 1]


def test_equal_scores_of_which_all_go_need_no_sizes():
    assert marked([0.0, 0.0, 1.0, 1.0], 0.5) == [0, 1]


def layer(weight):
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor(weight)
    return linear


def test_the_gradient_of_scores_by_hand():
    """W' = [[2, 0], [1, -3]] and x = (1, 2): y = (2, -5). With L = 3 y_0 + y_1: dL/dW' = [[3, 6], [1, 2]]."""
    linear = layer([[2.0, 4.0], [1.0, -3.0]])
    blocks = ScoredBlocks("", linear)
    scores = torch.zeros(2, 2, requires_grad=True)
    masks = Masks(linear, ["weight"])
    stays = torch.tensor([[True, False], [True, True]])
    masks.by_name["weight"] = lambda: blocks.spread(straight_through(scores, stays))
    output = linear(torch.tensor([1.0, 2.0]))
    assert output.tolist() == [2.0, -5.0]
    (output @ torch.tensor([3.0, 1.0])).backward()
    assert scores.grad.tolist() == [[6.0, 24.0], [1.0, -6.0]]  # dL/dW' * W, below the mask too
    assert linear.weight.grad.tolist() == [[3.0, 0.0], [1.0, 2.0]]  # dL/dW' * M


def test_the_gradient_of_block_scores_is_that_of_the_definition():
    """dL/dS of a block is the sum of dL/dW' * W over it; with squared outputs, as autograd says."""
    torch.manual_seed(0)
    linear = nn.Linear(6, 4)
    blocks = ScoredBlocks("", linear, rows=2, columns=3)
    scores = torch.zeros(2, 2, requires_grad=True)
    masks = Masks(linear, ["weight"])
    stays = torch.tensor([[True, False], [False, True]])
    masks.by_name["weight"] = lambda: blocks.spread(straight_through(scores, stays))
    inputs = torch.randn(5, 6)
    linear(inputs).square().sum().backward()

    whole = torch.ones(4, 6)
    whole[:2, 3:] = whole[2:, :3] = 0
    weight = (linear.weight.detach() * whole).requires_grad_()
    (inputs @ weight.T + linear.bias.detach()).square().sum().backward()
    each = weight.grad * linear.weight.detach()
    sums = torch.stack([torch.stack([each[r : r + 2, c : c + 3].sum() for c in (0, 3)]) for r in (0, 2)])
    torch.testing.assert_close(scores.grad, sums)


def test_a_weight_that_moves_away_from_zero_outlives_one_that_moves_towards_it():
    """L = w_0 - w_1 pulls w_0 = 1 down to 0 and w_1 = 0.1 up; magnitude would keep w_0."""
    weight = nn.Parameter(torch.tensor([[1.0, 0.1]]))
    linear = nn.Linear(2, 1, bias=False)
    linear.weight = weight
    scores = nn.Parameter(torch.zeros(1, 2))
    blocks, masks = ScoredBlocks("", linear), Masks(linear, ["weight"])
    stays = torch.ones(1, 2, dtype=torch.bool)
    masks.by_name["weight"] = lambda: blocks.spread(straight_through(scores, stays))
    optimizer = torch.optim.SGD([weight, scores], lr=0.1)
    for _ in range(3):
        linear(torch.tensor([1.0, -1.0])).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    # The weights go 1, 0.9, 0.8 and 0.1, 0.2, 0.3: the scores are -0.1 (1 + 0.9 + 0.8) and 0.1 (0.1 + 0.2 + 0.3).
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.7, 0.4]]))
    torch.testing.assert_close(scores.detach(), torch.tensor([[-0.27, 0.06]]))
    assert lowest(scores.flatten(), 1, blocks.sizes).tolist() == [True, False]


def test_blocks_are_pooled_by_their_mean():
    linear = nn.Linear(4, 2)
    linear.weight.data = torch.tensor([[1.0, -1.0, 2.0, 0.0], [3.0, 3.0, 0.0, -6.0]])
    assert ScoredBlocks("", linear, rows=2, columns=2).sizes().tolist() == [[2.0, 2.0]]
    assert ScoredBlocks("", linear, rows=1, columns=2).sizes().tolist() == [[1.0, 1.0], [3.0, 3.0]]


@pytest.mark.parametrize("module", [nn.Linear(6, 4), Conv1D(4, 6), nn.Conv1d(6, 4, 1), nn.Conv1d(12, 4, 1, groups=2)])
def test_blocks_are_of_outputs_and_inputs_whatever_the_layer(module):
    blocks = ScoredBlocks("", module, rows=2, columns=3)
    mask = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    spread = blocks.spread(mask)
    assert spread.shape == module.weight.shape
    rows = spread.T if isinstance(module, Conv1D) else spread.flatten(1)
    assert rows.tolist() == [[1.0] * 3 + [2.0] * 3] * 2 + [[3.0] * 3 + [4.0] * 3] * 2
    left = blocks.outputs_left(torch.tensor([[False, False], [False, True]]))
    assert left.tolist() == [False, False, True, True]


def test_blocks_that_do_not_divide_a_matrix_are_all_named():
    modules = {"one": nn.Linear(6, 4), "two": nn.Linear(6, 5), "three": nn.Linear(7, 4)}
    with pytest.raises(RequestError) as caught:
        scored_blocks(modules, 4, 3)
    assert [fault.where for fault in caught.value.faults] == ["block", "block"]
    assert "4 x 3 does not divide the 5 x 6 weights of two" in str(caught.value)
    assert "of three. Give" in str(caught.value)


@pytest.mark.parametrize("family", ["bert", "gpt2", "squeezebert", "llama", "modernbert", "t5"])
def test_the_size_of_a_unit_is_that_of_its_own_weights(family):
    """Set all weights to 0 but those of unit 1, which are 2: its mean size is 2, that of the others 0."""
    model = tiny_head(family)
    for group in groups_of(model):
        with torch.no_grad():
            for channels in (*group.writers, *group.readers):
                for parameter in model.get_submodule(channels.module).parameters():
                    parameter.zero_()
            for channels in group.writers:
                module = model.get_submodule(channels.module)
                for parameter in module.parameters():
                    transposed = isinstance(module, Conv1D) and parameter.dim() == 2
                    values = parameter.T if transposed else parameter
                    values[channels.of([1], group.units)] = 2.0
            module = model.get_submodule(group.reader.module)
            index = group.reader.of([1], group.units)
            if isinstance(module, Conv1D):
                module.weight[index] = 2.0
            else:
                width = module.weight.shape[1]
                for number, part in enumerate(module.weight.chunk(getattr(module, "groups", 1))):
                    inside = index[(index >= number * width) & (index < (number + 1) * width)] - number * width
                    part[:, inside] = 2.0
        expected = torch.zeros(group.units)
        expected[1] = 2.0
        torch.testing.assert_close(ScoredUnits(model, group).sizes(), expected)


def test_filters_must_leave_whole_units():
    model = tiny_model()
    modules = dict(model.named_modules())
    reader = {name: module for name, module in modules.items() if name.endswith("layer.1.output.dense")}
    with pytest.raises(RequestError, match="leave no heads or neurons with all the layers"):
        scored_units(model, ("heads", "neurons"), reader)
    both = reader | {name: m for name, m in modules.items() if name.endswith("layer.1.intermediate.dense")}
    assert [one.name for one in scored_units(model, ("heads", "neurons"), both)] == ["encoder.layer.1.neurons"]
