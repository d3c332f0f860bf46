"""Calibration with models of every kind of answer: words to be said, spans, several labels at once."""

import pytest
import torch
from datasets import Dataset

from hfcompress.calibration import calibration_inputs
from hfcompress.calibration.sensitivity import surprise
from hfcompress.config import parse
from hfcompress.context import Context
from hfcompress.data import TaskData
from hfcompress.factorization.activation import ActivationConfig, activation
from hfcompress.factorization.fwsvd import FwsvdConfig, fwsvd
from hfcompress.modeling.low_rank import LowRankLinear
from hfcompress.pruning.fisher import FisherConfig, fisher
from hfcompress.tasks import find_task
from tests.tiny import sentences, tiny_head, tiny_tokenizer

TEXTS = [text for text, _ in sentences(16)]
ANSWERS = [{"text": [text.split()[0]], "answer_start": [0]} for text in TEXTS]
KINDS = {
    "fill-mask": ("bert", "ForMaskedLM", {"text": TEXTS}),
    "text-generation": ("gpt2", "ForCausalLM", {"text": TEXTS}),
    "text2text-generation": ("t5", "ForSeq2SeqLM", {"text": TEXTS, "labels": TEXTS[::-1]}),
    "question-answering": (
        "bert",
        "ForQuestionAnswering",
        {"text": TEXTS, "text_pair": TEXTS, "labels": ANSWERS},
    ),
    "text-classification": (
        "bert",
        "ForSequenceClassification",
        {"text": TEXTS, "labels": [[1.0, 0.0, 1.0], [0.0, float("nan"), 1.0]] * 8},
    ),
}


@pytest.fixture(params=KINDS)
def asked(request, tmp_path):
    """A model and the surroundings of a step."""
    family, head, columns = KINDS[request.param]
    several = {"num_labels": 3} if request.param == "text-classification" else {}
    rows = Dataset.from_dict(columns)
    data = TaskData(rows, rows, ("a", "b", "c") if several else (), max_length=32)
    task = find_task(request.param)
    return tiny_head(family, head, **several), Context(task, data, tiny_tokenizer(), 0, tmp_path, {}, progress=False)


@pytest.mark.parametrize(
    ("method", "config", "options"),
    [
        (activation, ActivationConfig, {"rank_ratio": 0.5, "multiple": 4}),
        (fwsvd, FwsvdConfig, {"rank_ratio": 0.5, "multiple": 4}),
        (fisher, FisherConfig, {"macs": 0.6, "multiple": 4}),
    ],
)
def test_methods_that_look_at_the_model_need_no_labels_in_its_call(asked, method, config, options):
    model, context = asked
    whole = sum(parameter.numel() for parameter in model.parameters())
    small = method(model, parse(config, {**options, "examples": 16}), context)
    assert sum(parameter.numel() for parameter in small.parameters()) < whole
    assert method is fisher or any(isinstance(module, LowRankLinear) for module in small.modules())


def test_the_model_is_called_without_labels_and_words_to_be_said_are_known(asked):
    model, context = asked
    for batch in calibration_inputs(model, context, 16, 8):
        assert not {*context.task.label_columns} & {*batch}
        assert {*context.task.label_columns} <= {*batch.asked}
        with torch.no_grad():
            assert surprise(model(**batch), batch, context.task, torch.Generator().manual_seed(0)).isfinite()


def test_several_labels_are_each_present_or_not_by_itself():
    """The mean of the squared gradient is the information of independent yes or no: `p (1 - p)` of each logit."""
    logits = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    batch = {"labels": torch.tensor([[1.0, 0.0, 1.0]])}
    generator, found = torch.Generator().manual_seed(0), torch.zeros(3)
    for _ in range(4000):
        (gradient,) = torch.autograd.grad(
            surprise({"logits": logits}, batch, find_task("text-classification"), generator), logits
        )
        found += gradient[0].square() / 4000
    chance = logits.detach()[0].sigmoid()
    assert torch.allclose(found, chance * (1 - chance), rtol=0.1)
