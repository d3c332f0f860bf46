"""ONNX files of tiny models for the tests of measuring, written by PyTorch's own exporter, and int8 ones of them."""

import warnings

import torch

from tests.tiny import tiny_tokenizer

LABELS = {0: "negative", 1: "positive"}


def save(folder, model):
    """Save a model with its tokenizer."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def export(model, file, opset=18):
    """Write a text classifier's graph as Optimum does: named inputs and outputs, batch and length free."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(5, 38, (2, 9))
    free = {0: "batch_size", 1: "sequence_length"}
    names = ["input_ids", "attention_mask"]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model).eval(),
            (ids, torch.ones_like(ids)),
            file,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**dict.fromkeys(names, free), "logits": {0: "batch_size"}},
            opset_version=opset,
            dynamo=False,
        )
    return file


def quantize(file, target, **options):
    """Write a graph's int8 version."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(file, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True, **options)
    return target


class _Logits(torch.nn.Module):
    """A classifier that takes its inputs by place and returns its logits alone; names of its modules stay."""

    def __init__(self, model):
        super().__init__()
        for name, module in model.named_children():
            self.add_module(name, module)
        object.__setattr__(self, "whole", model)

    def forward(self, input_ids, attention_mask):
        return self.whole(input_ids=input_ids, attention_mask=attention_mask).logits
