"""How to use the model: snippets for transformers, Optimum and transformers.js that run as they stand."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any

from hfcompress.hub.card.inputs import CardInputs
from hfcompress.hub.card.text import block
from hfcompress.modeling.manifest import is_manifest

_DTYPES = {"model_quantized.onnx": "q8", "model.onnx": "fp32", "model_q4.onnx": "q4"}
"""What transformers.js calls each file, the one to show first."""

_EMBED = """\
inputs = tokenizer(["A first text.", "A second text."], padding=True, truncation=True, return_tensors="pt")
hidden_states = model(**inputs).last_hidden_state
mask = inputs["attention_mask"].unsqueeze(-1)
embeddings = (hidden_states * mask).sum(1) / mask.sum(1)
print(embeddings.shape)"""

_WRITE = """\
inputs = tokenizer("A text to start from.", return_tensors="pt")
tokens = model.generate(**inputs, max_new_tokens=32)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))"""


def sample(inputs: CardInputs) -> str:
    """Return what a pipeline is called with, as Python, with the tokenizer's own mask."""
    mask = json.dumps(inputs.mask_token, ensure_ascii=False)[1:-1]
    return inputs.task.sample.replace("[MASK]", mask)


def arguments(inputs: CardInputs) -> tuple[list[Any], dict[str, Any]]:
    """Return the sample's values: by place and by name."""
    call = ast.parse(f"f({sample(inputs)})", mode="eval").body
    if not isinstance(call, ast.Call):
        return [], {}
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    return [ast.literal_eval(one) for one in call.args], named


def widget(inputs: CardInputs) -> list[dict[str, Any]] | None:
    """Return the example that the Hub's page offers, None where it would take a file."""
    if inputs.task.name == "sentence-similarity":
        return [{"source_sentence": "A first text.", "sentences": ["A second text.", "Something else."]}]
    if inputs.task.name == "text2text-generation":
        return [{"text": "A text to start from."}]
    if inputs.task.processor != "tokenizer":
        return None
    values, named = arguments(inputs)
    return [{"text": named["question"], "context": named["context"]}] if "question" in named else [{"text": values[0]}]


def transformers_snippet(inputs: CardInputs) -> str:
    """Return how to use the checkpoint with transformers; empty when there is none here."""
    if not any(file.endswith(".safetensors") and "/" not in file for file in inputs.files):
        return ""
    load = f'from_pretrained("{inputs.repo_id}")'
    auto = inputs.task.auto_model
    if _by_hand(inputs):
        code = (
            f"from transformers import {auto}, AutoTokenizer\n\n"
            f"tokenizer = AutoTokenizer.{load}\nmodel = {auto}.{load}\n{_body(inputs)}"
        )
    else:
        code = (
            f'from transformers import pipeline\n\npipe = pipeline("{inputs.task.name}", model="{inputs.repo_id}")\n'
            f"print(pipe({sample(inputs)}))"
        )
    return block(import_line(inputs.config) + code, "python")


def import_line(config: Mapping[str, Any]) -> str:
    """Return what a program that loads a model must start with; empty where transformers alone can load it.

    Args:
        config: The model's `config.json`.
    """
    if not is_manifest(config.get("quantization_config")):
        return ""
    return "import hfcompress  # lets transformers read this model's structure\n"


def _by_hand(inputs: CardInputs) -> bool:
    """Say whether the task has no pipeline that both versions of transformers know."""
    return inputs.task.name in ("sentence-similarity", "text2text-generation")


def _body(inputs: CardInputs) -> str:
    return _EMBED if inputs.task.name == "sentence-similarity" else _WRITE


def optimum_snippet(inputs: CardInputs) -> str:
    """Return how to use the best ONNX file with Optimum; empty when there is none."""
    names = _optimum_files(inputs.onnx)
    if not names:
        return ""
    ort, image = inputs.task.ort_model, inputs.task.processor == "image_processor"
    processor, auto = ("image_processor", "AutoImageProcessor") if image else ("tokenizer", "AutoTokenizer")
    pipeline = "" if _by_hand(inputs) else ", pipeline"
    code = (
        f"from optimum.onnxruntime import {ort}\nfrom transformers import {auto}{pipeline}\n\n"
        f'{processor} = {auto}.from_pretrained("{inputs.repo_id}")\n'
        f'model = {ort}.from_pretrained("{inputs.repo_id}", subfolder="onnx", {names})\n'
    )
    if _by_hand(inputs):
        code += _body(inputs)
    else:
        code += (
            f'pipe = pipeline("{inputs.task.name}", model=model, {processor}={processor})\n'
            f"print(pipe({sample(inputs)}))"
        )
    return block(code, "python")


def _optimum_files(onnx: list[str]) -> str:
    """Return the arguments that name the files: of a model in two parts, encoder and decoder."""
    single = next((name for name in _DTYPES if name in onnx), None)
    if single:
        return f'file_name="{single}"'
    for ending in ("_quantized", "", "_q4"):
        encoder, decoder = f"encoder_model{ending}.onnx", f"decoder_model_merged{ending}.onnx"
        if encoder in onnx and decoder in onnx:
            return f'encoder_file_name="{encoder}", decoder_file_name="{decoder}"'
    return ""


def javascript_snippet(inputs: CardInputs) -> str:
    """Return how to use the best ONNX file with transformers.js; empty when there is none."""
    dtype = next((dtype for name, dtype in _DTYPES.items() if name in inputs.onnx), None)
    if dtype is None and "encoder_model.onnx" in inputs.onnx:
        dtype = "q8" if "encoder_model_quantized.onnx" in inputs.onnx else "fp32"
    if dtype is None:
        return ""
    task = "feature-extraction" if inputs.task.name == "sentence-similarity" else inputs.task.name
    code = (
        "import { pipeline } from '@huggingface/transformers';\n\n"
        f"const pipe = await pipeline('{task}', '{inputs.repo_id}', {{ dtype: '{dtype}' }});\n"
        f"console.log(await pipe({_javascript_arguments(inputs)}));"
    )
    return block(code, "js")


def _javascript_arguments(inputs: CardInputs) -> str:
    show: Callable[[Any], str] = lambda value: json.dumps(value, ensure_ascii=False)  # noqa: E731
    if inputs.task.name == "sentence-similarity":
        return f"{show('A first text.')}, {{ pooling: 'mean' }}"
    if inputs.task.name == "text2text-generation":
        return show("A text to start from.")
    values, named = arguments(inputs)
    return ", ".join(map(show, [*values, *named.values()]))
