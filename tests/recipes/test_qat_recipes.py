"""The recipes that train with rounding run on a tiny model and data; their static files have the trained ranges."""

import onnx
import pytest
from transformers import AutoConfig

from hfcompress.errors import RequestError
from hfcompress.export.backends.base import find_backend
from hfcompress.pipeline.recipe import read_recipe, shipped_recipes
from hfcompress.quantization.trained_ranges import read_ranges
from tests.cli.support import hfcompress
from tests.tiny import tiny_head, tiny_tokenizer, write_csv

try:
    find_backend("auto")
except RequestError:
    pytest.skip("no export backend is installed", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("brisk")
SHORT = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("qat-int8", ()),
        ("prune-quantize-distill", ("steps.1.fisher.multiple=16", "steps.1.fisher.examples=16")),
    ],
)
def test_the_file_has_the_ranges_that_were_trained(recipe, more, tmp_path):
    tiny_head("bert", "", vocab_size=2000).save_pretrained(tmp_path / "start")
    tiny_tokenizer().save_pretrained(tmp_path / "start")
    data = write_csv(tmp_path / "reviews.csv", 48)
    words = [f"model={tmp_path / 'start'}", f"data.dataset={data}", "data.where={}", "data.validation=8"]
    words += ["data.max_length=16", 'export.fusion="off"', *more]
    for index, step in enumerate(read_recipe(shipped_recipes()[recipe]).steps):
        method = next(key for key in step if key != "as")
        if method != "fisher":
            words.extend(f"steps.{index}.{method}.{key}={value}" for key, value in SHORT.items())
    done = hfcompress("run", recipe, "--output-dir", tmp_path / "out", *words, "--json")
    assert done.code == 0, done.err
    ranges = read_ranges(AutoConfig.from_pretrained(tmp_path / "out"))
    assert any("intermediate" in name for name in ranges)
    made = done.json["export"]["quantization"]
    assert (made["method"], made["ranges"]) == ("static int8", "trained")
    graph = onnx.load(str(tmp_path / "out" / "onnx" / "model_quantized.onnx")).graph
    scales = [onnx.numpy_helper.to_array(one) for one in graph.initializer if "_scale" in one.name and not one.dims]
    trained = [(high - low) / 255 for low, high in ranges.values()]
    assert scales
    assert [s for s in map(float, scales) if not any(abs(s - step) <= 1e-6 * step for step in trained)] == []
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) >= 4
