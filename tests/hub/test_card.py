"""The model card: its front matter, what it says of what was measured and changed, and who may replace it."""

import ast
import json
import re

import pytest
import yaml
from markdown_it import MarkdownIt

from hfcompress.hub.card import build_card
from hfcompress.tasks import TASKS
from tests.hub.cards import CONFIG, MEASUREMENTS, RECORD, changed, make_folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "small-reviews")


def front_matter(card):
    return yaml.safe_load(str(card).split("---\n")[1])


def section(card, title):
    return card.text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(card, language):
    return re.findall(rf"```{language}\n(.*?)\n```", card.text, re.S)


def test_front_matter(folder):
    found = front_matter(build_card(folder))
    index = found.pop("model-index")
    assert found == {
        "base_model": "google-bert/bert-base-uncased",
        "base_model_relation": "finetune",
        "language": ["en"],
        "library_name": "transformers",
        "license": "apache-2.0",
        "metrics": ["accuracy", "f1"],
        "pipeline_tag": "text-classification",
        "tags": ["hfcompress", "distillation", "onnx", "transformers.js", "int8"],
        "widget": [{"text": "A warm, funny, quietly moving film."}],
        "co2_eq_emissions": {
            "emissions": 1.23,
            "source": "codecarbon",
            "training_type": "fine-tuning",
            "hardware_used": "AMD EPYC",
        },
    }
    assert index[0]["name"] == "small-reviews"
    (result,) = index[0]["results"]
    assert result["dataset"] == {"name": "reviews.csv", "type": "custom", "split": "validation"}
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "accuracy (model.safetensors)": 0.821,
        "f1_macro (model.safetensors)": 0.82,
        "accuracy (onnx/model_quantized.onnx)": 0.82,
        "f1_macro (onnx/model_quantized.onnx)": 0.818,
    }


def test_before_and_after_with_hardware(folder):
    card = build_card(folder)
    assert (
        "- **student (ONNX Runtime, int8)**, against teacher (PyTorch): 17.6 MB instead of 90.9 MB "
        "(0.19 times the size); 0.26 times the latency; accuracy 82.0 % instead of 83.7 % "
        "(-1.7 points, 95 % interval -3.7 to +0.3, which includes zero)."
    ) in card.text
    found = section(card, "Before and after")
    assert "|  | teacher (PyTorch) | student (PyTorch) | student (ONNX Runtime, int8) |" in found
    assert "| accuracy, % (95 % interval) | 83.7 (81.0 to 86.0) | 82.1 (79.7 to 84.5) | 82.0 (79.6 to 84.4) |" in found
    assert "| latency ratio (quartiles) |  | 0.51 (0.50 to 0.52) | 0.26 (0.26 to 0.27) |" in found
    assert "| GMACs | 1.43 | 0.72 |  |" in found
    assert "| 2, 32, 32 | 300.0 |  | 330.0 (1.10) |" in found
    assert "1,000 rows held out of `reviews.csv`" in found
    assert "Measured on AMD EPYC, 2 cores, Linux x86_64." in found
    assert "![tradeoff](figures/tradeoff.png)" in found


def test_what_got_slower_or_larger_is_said(folder):
    found = section(build_card(folder), "What got slower or larger")
    assert "student (ONNX Runtime, int8) is larger in memory at its peak: 320.0 MB against 310.0 MB." in found
    assert (
        "student (ONNX Runtime, int8) is slower at batch 32, length 32, threads 2: 1.10 times the latency of "
        "teacher (PyTorch), though the quartiles of the ratio include 1."
    ) in found
    assert "nothing got slower" not in found


def test_nothing_slower_and_nothing_measured_are_said(tmp_path):
    smaller = changed(MEASUREMENTS, ("models",), [one | {"latencies": []} for one in MEASUREMENTS["models"][:2]])
    found = section(build_card(make_folder(tmp_path / "a", measurements=smaller)), "What got slower or larger")
    assert found.strip() == "- Of what was measured, nothing got slower or larger than teacher (PyTorch)."
    one = changed(smaller, ("models", 1, "latency"), None)
    found = section(build_card(make_folder(tmp_path / "b", measurements=one)), "What got slower or larger")
    assert "- Not measured for every model: latency." in found
    found = section(build_card(make_folder(tmp_path / "c", measurements=False)), "What got slower or larger")
    assert "is not known" in found


def test_classes_and_confusions_in_words(folder):
    found = section(build_card(folder), "Results per class")
    assert "| negative | 500 | 82.8 / 85.0 / 80.0 | 88.3 / 74.0 / 80.0 | 87.9 / 74.2 / 80.0 |" in found
    assert found.index("| negative") < found.index("| positive")  # the one that lost most
    assert (
        "- student (PyTorch): of 500 rows labelled negative it took 130 for positive; "
        "of 500 rows labelled positive it took 49 for negative."
    ) in found


def test_limits_are_stated_from_the_data_and_from_what_changed(folder):
    found = section(build_card(folder), "Bias and limits")
    assert re.search(
        r"In student \(PyTorch\) the class that lost most: negative \(recall 74\.0 % instead of 85\.0 %: "
        r"-11\.0 points, 95 % interval -15\.\d to -6\.\d, which excludes zero\)\.",
        found,
    )
    for said in (
        "negative is 80.0 % of them, positive 20.0 %. Expect more mistakes",
        "Texts were cut to 64 tokens for training and measuring: what comes later had no effect. "
        "More than 5 % of the training texts were longer.",
        "Language, as the source's card states it: en; quality was not measured language by language.",
        "1 node of the int8 graph stayed in float",
        "On 37 of 1,000 rows (3.7 %) a model here answers otherwise than teacher (PyTorch).",
    ):
        assert said in found


def test_data_statistics(folder):
    found = section(build_card(folder), "Data")
    assert "`reviews.csv`: 7,530 training rows and 1,000 rows held out for validation." in found
    assert "3 of the validation texts also stand in the training rows, which flatters the quality." in found
    assert "| negative | 6,024 (80.0 %) | 500 (50.0 %) |" in found
    assert "| training rows | 25 | 70 | 90 |" in found


def test_texts_of_the_data_are_not_repeated(folder):
    assert "a private text" not in str(build_card(folder))


def test_every_quantized_file_is_told(tmp_path):
    made = [{"method": "static int8", "nodes": {"MatMul": 3}}, {"method": "weights int4", "nodes": {"Gather": 1}}]
    record = RECORD | {"export": RECORD["export"] | {"quantization": made[0], "quantizations": made}}
    found = section(build_card(make_folder(tmp_path / "out", record=record)), "What was done")
    assert "Quantized: static int8; nodes: 3 MatMul." in found
    assert "Quantized: weights int4; nodes: 1 Gather." in found


def test_steps_export_and_recipe(folder):
    card = build_card(folder)
    found = section(card, "What was done")
    assert "1. **finetune**, called teacher: num_train_epochs: 2.0. Took 245 s. After it: accuracy 83.7 %." in found
    assert "After it: accuracy 82.1 %, -1.6 points against the step before." in found
    assert "Traced by the optimum backend, opset 18, fused by ONNX Runtime." in found
    assert "Quantized: dynamic int8; nodes: 36 MatMul and 3 Gather. Left in float: /classifier/Gemm." in found
    assert (
        "Compared with PyTorch on 3 cases: largest difference of an output 1.2e-06 and same label on 99.996 %" in found
    )
    (recipe,) = map(yaml.safe_load, blocks(card, "yaml"))
    assert (recipe["model"], recipe["seed"]) == ("google-bert/bert-base-uncased", 42)
    assert recipe["steps"][1]["distill"] == RECORD["steps"][1]["config"]
    assert [step["as"] for step in recipe["steps"]] == ["teacher", "student"]


def test_a_recorded_recipe_is_shown_as_it_is(tmp_path):
    recipe = {
        "model": "bert-base",
        "data": {"dataset": "reviews.csv", "where": {"source": "films"}},
        "steps": [{"finetune": {}}],
    }
    card = build_card(make_folder(tmp_path / "out", {**RECORD, "recipe": recipe}))
    assert list(map(yaml.safe_load, blocks(card, "yaml"))) == [recipe]
    assert "were not recorded" not in section(card, "What was done")


def test_usage_snippets(folder):
    card = build_card(folder, repo_id="me/small")
    transformers, optimum = blocks(card, "python")
    assert 'pipeline("text-classification", model="me/small")' in transformers
    assert "import hfcompress" not in transformers
    assert 'from_pretrained("me/small", subfolder="onnx", file_name="model_quantized.onnx")' in optimum
    (javascript,) = blocks(card, "js")
    assert "pipeline('text-classification', 'me/small', { dtype: 'q8' })" in javascript
    assert card.text.startswith("\n# small\n")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_card_whose_snippets_are_python(task, tmp_path):
    record = {**RECORD, "task": task, "steps": []}
    files = ["model.safetensors", "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"]
    card = build_card(make_folder(tmp_path / "out", record, False, {"model_type": "x"}, files))
    assert front_matter(card)["pipeline_tag"] == task
    found = blocks(card, "python")
    assert len(found) == 2
    assert all(ast.parse(code) for code in found)
    assert 'decoder_file_name="decoder_model_merged.onnx"' in found[1]


def test_the_tokenizers_own_mask_stands_in_the_example(tmp_path):
    folder = make_folder(tmp_path / "out", {**RECORD, "task": "fill-mask"}, False)
    (folder / "tokenizer_config.json").write_text(json.dumps({"mask_token": {"content": "<mask>"}}))
    card = build_card(folder)
    assert front_matter(card)["widget"] == [{"text": "Warsaw is the <mask> of Poland."}]
    assert 'pipe("Warsaw is the <mask> of Poland.")' in card.text


def test_a_structure_of_our_own_says_to_import_hfcompress_first(tmp_path):
    config = {**CONFIG, "quantization_config": {"quant_method": "hfcompress"}}
    transformers, optimum = blocks(build_card(make_folder(tmp_path / "out", config=config)), "python")
    assert transformers.startswith("import hfcompress ")
    assert "hfcompress" not in optimum


@pytest.mark.parametrize(
    ("changes", "base_model", "relation"),
    [
        ({}, "google-bert/bert-base-uncased", "finetune"),
        ({"source": {"model": "my-folder", "sha256": {}}}, None, None),
        ({"source": {"model": "out/teacher", "sha256": {}}}, None, None),  # a folder that looks like a Hub id
        ({"source": {"model": "m", "sha256": {}, "card": {"base_model": "a/b"}}}, "a/b", "finetune"),
        ({"source": {"model": "m", "sha256": {}, "card": {"base_model": "/home/me/b"}}}, None, None),
        ({"steps": []}, "google-bert/bert-base-uncased", "quantized"),
        ({"steps": [], "export": {"backend": "native"}}, "google-bert/bert-base-uncased", None),
        (
            {"steps": [{"method": "distill", "config": {"student": "bert-tiny"}}]},
            "google/bert_uncased_L-2_H-128_A-2",
            "finetune",
        ),
        (
            {"steps": [{"method": "distill", "config": {"student": "bert-tiny", "student_init": "teacher"}}]},
            "google-bert/bert-base-uncased",
            "finetune",
        ),
    ],
)
def test_base_model_and_relation(changes, base_model, relation, tmp_path):
    found = front_matter(build_card(make_folder(tmp_path / "out", {**RECORD, **changes})))
    assert (found.get("base_model"), found.get("base_model_relation")) == (base_model, relation)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("stanfordnlp/sst2", ["stanfordnlp/sst2"]),
        ("nyu-mll/glue:mrpc", ["nyu-mll/glue"]),
        ("reviews.csv", None),
        ("data/reviews.csv", None),
        ("reviews", None),
        ("/srv/data/reviews", None),
    ],
)
def test_only_data_sets_of_the_hub_are_in_the_front_matter(name, found, tmp_path):
    card = build_card(make_folder(tmp_path / "out", changed(RECORD, ("data", "dataset"), name)))
    assert front_matter(card).get("datasets") == found


def test_a_license_that_is_not_known_is_said_to_be(tmp_path):
    card = build_card(make_folder(tmp_path / "out", changed(RECORD, ("source", "card"), {})))
    assert "license" not in front_matter(card)
    assert "Find out what it allows" in section(card, "License")


def test_results_of_the_record_stand_in_for_measurements(tmp_path):
    results = [
        {k: v for k, v in one.items() if k not in ("runtime", "file", "classes")} for one in MEASUREMENTS["models"][:2]
    ]
    card = build_card(make_folder(tmp_path / "out", {**RECORD, "results": results}, False))
    assert "| accuracy, % (95 % interval) | 83.7 (81.0 to 86.0) | 82.1 (79.7 to 84.5) |" in card.text
    assert "## Results per class" not in card.text


@pytest.mark.parametrize(
    "record", [{"task": "text-classification"}, {"task": "image-classification", "steps": None, "data": 3}]
)
def test_a_bare_record_gives_a_card(record, tmp_path):
    card = build_card(make_folder(tmp_path / "out", record, False, {}, []))
    assert "The weights are those of the source." in card.text
    assert "None" not in card.text


def test_every_optional_value_may_be_null(tmp_path):
    for path in [("models", 1, key) for key in MEASUREMENTS["models"][1]] + [(key,) for key in MEASUREMENTS]:
        card = build_card(make_folder(tmp_path / "out", measurements=changed(MEASUREMENTS, path, None)))
        assert "None" not in card.text, path


def test_zeros_and_unequal_layers_are_shown(tmp_path):
    layers = [{"layer": 0, "heads": 12, "neurons": 1536}, {"layer": 1, "heads": 0, "neurons": 24}]
    measured = changed(MEASUREMENTS, ("models", 1, "zeros"), 0.45)
    measured = changed(measured, ("models", 1, "layers"), layers)
    card = build_card(make_folder(tmp_path / "out", measurements=measured))
    assert "| zeros, % of the parameters |  | 45.0 |  |" in section(card, "Before and after")
    assert (
        "45.0 % are zero: zeros alone save neither time nor bytes in PyTorch and ONNX Runtime. "
        "Attention heads, layer by layer: 12, none. FFN neurons, layer by layer: 1536, 24."
    ) in section(card, "What was done")


def test_of_few_zeros_and_equal_layers_nothing_is_said(tmp_path):
    measured = changed(MEASUREMENTS, ("models", 1, "zeros"), 0.004)
    measured = changed(measured, ("models", 1, "layers"), [{"heads": 12, "neurons": 1536}] * 2)
    text = build_card(make_folder(tmp_path / "out", measurements=measured)).text
    assert "zero:" not in text
    assert "zeros" not in text
    assert "layer by layer" not in text


def test_tables_render(folder):
    tokens = MarkdownIt("commonmark").enable("table").parse(build_card(folder).text)
    tables = [token for token in tokens if token.type == "table_open"]
    assert len(tables) == 6
    assert not [token for token in tokens if token.type == "inline" and "| ---" in token.content]
