"""The generated pages: every loss, verb, recipe and task has its entry, and equations become LaTeX."""

import doctest
import json
import sys

import pytest

from hfcompress import registry
from hfcompress.cli.main import VERBS
from hfcompress.modeling.presets import PRESETS
from hfcompress.pipeline.recipe import shipped_recipes
from hfcompress.tasks import TASKS
from tests.snippets import ROOT

sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "benchmarks")]
import docs_tables  # noqa: E402
import equations  # noqa: E402
import make_site  # noqa: E402


@pytest.fixture(scope="module")
def pages():
    return make_site.pages()


def headings(page):
    return [line.lstrip("# ") for line in page.splitlines() if line.startswith("##")]


def test_every_loss_has_an_entry_with_equation_and_options(pages):
    page = pages["losses.md"]
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    for name, method in registry.methods("loss").items():
        assert "{math}" in sections[name]
        assert method.help in sections[name]
        assert "| `weight` |" in sections[name]
        assert f"losses/{name}.py)" in sections[name]
    assert all(name in sections for name in registry.methods("layer_map"))


def test_every_verb_task_recipe_and_step_has_an_entry(pages):
    assert headings(pages["reference/cli.md"]) == list(VERBS)
    assert headings(pages["reference/tasks.md"]) == list(TASKS)
    assert set(headings(pages["reference/recipes.md"])) >= {*shipped_recipes(), *registry.steps()}


def test_every_flag_is_on_the_page(pages):
    from hfcompress.cli.distill import VERB
    from hfcompress.cli.options import build_parser

    page = pages["reference/cli.md"]
    section = page.split("## distill")[1].split("\n## ")[0]
    flags = [name for action in build_parser("distill", VERB)._actions for name in action.option_strings]
    assert len(flags) > 20
    assert [flag for flag in flags if f"`{flag}`" not in section] == ["-h", "--help"]
    assert all(example in section for example in VERB.examples)


def test_every_method_of_a_verb_is_on_the_page(pages):
    section = pages["reference/cli.md"].split("## prune")[1].split("\n## ")[0]
    for name, method in registry.methods("pruning").items():
        assert f"| `--method {name}` | {method.help} | [options](recipes.md#{name}) |" in section
        assert f"\n### {name}\n" in pages["reference/recipes.md"]


def test_tables_inside_written_pages_are_filled_in(pages):
    page = pages["guide/students.md"]
    assert "<!-- presets -->" not in page
    assert all(f"| `{name}` |" in page for name in PRESETS)


def test_guide_has_a_section_for_every_task(pages):
    titles = [title.lower().replace(" ", "-") for title in headings(pages["guide/tasks.md"])]
    assert sorted(titles) == sorted(TASKS)


def test_equations():
    assert doctest.testmod(equations).failed == 0
    assert doctest.testmod(equations).attempted >= 3


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("Σ_k p_k · log(p_k / q_k)", r"\sum_{k} p_{k} \, \operatorname{log}(p_{k} / q_{k})"),
        ("KL(A_T^g(m),a ‖ A_S^m,a)", r"\operatorname{KL}(A_{T}^{g(m),a} \| A_{S}^{m,a})"),
        ("(p_t, 1 − p_t)", "(p_{t}, 1 - p_{t})"),
        ("1/|R| · softmax(X Xᵀ / √d)", r"\frac{1}{|R|} \, \operatorname{softmax}(X X^{\top} / \sqrt{d})"),
        ("∂L/∂W'_ij · W_ij", r"\partial L/\partial W'_{ij} \, W_{ij}"),
        ("UᵀU = (H + λ)⁻¹", r"U^{\top}U = (H + \lambda )^{-1}"),
        ("mean_(i,j) H(ψ_D)", r"\operatorname{mean}_{i,j} H(\psi _{D})"),
    ],
)
def test_equation_becomes_latex(plain, latex):
    assert equations.latex(plain) == latex


@pytest.mark.parametrize("code", ["per_device_train_batch_size", "teacher_layer", "O", "1:2,3:6", "{start, end}"])
def test_names_and_code_are_no_equations(code):
    assert not equations.is_equation(code)
    assert equations.markdown(f"Set `{code}`.") == f"Set `{code}`."


def test_an_indented_equation_stands_on_a_line_of_its_own():
    assert equations.markdown("    W' = W ⊙ M(S)") == "```{math}\nW' = W \\odot  M(S)\n```"
    assert equations.markdown("    no equation") == "no equation"


def test_addresses_become_links():
    assert equations.markdown("See https://arxiv.org/abs/1503.02531.") == "See <https://arxiv.org/abs/1503.02531>."


def test_results_page_says_what_was_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr(docs_tables, "RESULTS", tmp_path)
    assert docs_tables.quality().endswith("It was not run yet.")
    assert docs_tables.memory().endswith("It was not run yet.")
    (tmp_path / "distillation_quality.json").write_text(json.dumps({"cells": {}}))
    assert docs_tables.quality().endswith("It was not run yet.")


def test_results_page_shows_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(docs_tables, "RESULTS", tmp_path)
    case = {"vocabulary": 50000, "length": 128, "logits": "parts", "step_mb": 12.4, "peak_mb": 340.6, "seconds": 0.051}
    (tmp_path / "vocabulary_memory.json").write_text(json.dumps({"what": "peak memory", "cases": [case]}))
    assert docs_tables.memory().endswith("| 50,000 | 128 | parts | 12 | 341 | 0.05 |")


def test_results_page_shows_every_committed_cell(pages):
    for name in docs_tables.read("distillation_quality").get("cells", {}):
        pair, method, texts, _ = name.split("/")
        assert f"| {pair} | {method} | {texts} |" in pages["results.md"]
