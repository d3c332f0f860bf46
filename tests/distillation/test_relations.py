"""Relations between queries, keys and values: equal to a real model's attention, in full precision under autocast."""

import pytest
import torch

from hfcompress import registry
from hfcompress.config import parse
from hfcompress.distillation.relations import dot_products, relation
from hfcompress.errors import RequestError
from hfcompress.modeling.surgery import keep_units
from hfcompress.training.objective import ModelPair
from tests.tiny import tiny_model


def test_queries_and_keys_give_the_models_own_attention():
    model = tiny_model("bert", 2, attn_implementation="eager")
    parts, kept = model.bert.encoder.layer[1].attention.self, {}
    hooks = [
        getattr(parts, name).register_forward_hook(lambda *args, name=name: kept.update({name: args[2]}))
        for name in ("query", "key")
    ]
    ids, mask = torch.randint(5, 64, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    with torch.no_grad():
        attention = model(input_ids=ids, attention_mask=mask, output_attentions=True).attentions[1]
    for hook in hooks:
        hook.remove()
    computed = relation(*(kept[name].unflatten(2, (4, 8)) for name in ("query", "key")), mask.bool()).transpose(1, 2)
    real = (mask[:, None, None] & mask[:, None, :, None]).bool().expand_as(attention)
    torch.testing.assert_close(computed.exp()[real], attention[real])


def test_each_token_relates_to_the_real_tokens_with_probabilities_that_add_up_to_one():
    mask = torch.tensor([[True, False, True, True], [False, False, True, True]])
    logs = relation(torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5), mask)
    assert logs.shape == (2, 4, 3, 4)
    assert not logs.masked_select(~mask[:, None, None]).any()
    torch.testing.assert_close(logs.exp().masked_fill(~mask[:, None, None], 0).sum(-1), torch.ones(2, 4, 3))


def test_a_text_of_nothing_but_padding_gives_no_nan():
    vectors = torch.full((1, 2, 1, 2), float("nan"), requires_grad=True)
    relation(vectors, vectors, torch.zeros(1, 2, dtype=torch.bool)).sum().backward()
    assert not vectors.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dot_products_are_float32_at_least_and_exact_under_autocast(dtype):
    # 257 · 257 + 1 needs 17 bits: bfloat16 has 8, float16 11.
    vectors = torch.tensor([[256.0, 16.0, 1.0]]).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        product = dot_products(vectors, vectors)
    assert product.dtype == torch.promote_types(dtype, torch.float32)
    assert product.item() == 256**2 + 16**2 + 1


@pytest.mark.parametrize("loss", ["minilmv2", "minilm", "attention_mse"])
def test_a_student_with_unequal_heads_is_asked_for_the_heads_of_its_layer(loss):
    teacher, student = tiny_model(), keep_units(tiny_model(), {"encoder.layer.0.heads": [1]})
    pair = ModelPair(student.config, teacher.config, "1:1,2:2")
    options = {"heads": "each"} if loss == "attention_mse" else {"student_layer": 1, "teacher_layer": 1}
    method = registry.find("loss", loss)
    if loss == "minilmv2":  # one head of the student's is one relation head
        assert method.target(parse(method.config, options), pair).heads == 1
        return
    with pytest.raises(RequestError, match="the student has 1 attention heads, the teacher 4"):
        method.target(parse(method.config, options), pair)
