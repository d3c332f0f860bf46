"""What the pages show works: their Python runs, their commands run on tiny models, their recipes are recipes."""

import importlib.util
import shlex

import pytest
import yaml
from datasets import Dataset, load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from hfcompress.pipeline.recipe import build_recipe
from hfcompress.training.objective import parse_losses
from tests.cli.support import hfcompress
from tests.docs.files import write_files
from tests.snippets import ROOT, blocks, check_other_line, parse, run_python, shell_lines

PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """An empty working folder with links to the files that snippets name."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def index_names():
    """What the front page's five lines take for granted."""
    tokenizer = AutoTokenizer.from_pretrained("my-model")
    rows = load_dataset("csv", data_files="reviews.csv", split="train").class_encode_column("label")
    encoded = Dataset.from_dict({**tokenizer(list(rows["text"])), "labels": list(rows["label"])})
    return {
        "teacher": AutoModelForSequenceClassification.from_pretrained("my-model"),
        "train_dataset": encoded,
        "collator": DataCollatorWithPadding(tokenizer),
    }


def run_line(line, needs_hub):
    """Run or check a shell line; return what went wrong, or nothing."""
    if not line.startswith("hfcompress "):
        return check_other_line(line)
    if needs_hub:
        assert parse(line).configs
        return None
    words = [*shlex.split(line, comments=True)[1:], "--quiet"]
    if words[0] == "distill" or {"--train", "movement"} & set(words):
        words += ["--num-train-epochs", "1", "--save-strategy", "no"]
    if words[0] == "bench":
        words += ["--rounds", "2", "--seconds", "0.01", "--lengths", "16", "--no-memory"]
    done = hfcompress(*words)
    return f"{line}\n{done.err}" if done.code else None


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_page_works_from_top_to_bottom(path, here):
    page = path.read_text(encoding="utf-8")
    names = index_names() if path.name == "index.md" else {}
    faults = []
    for block in blocks(page):
        if block.language == "python":
            if "optimum" not in block.text or importlib.util.find_spec("optimum"):
                run_python(block, names)
        elif block.language == "yaml":
            assert build_recipe(yaml.safe_load(block.text)).steps
            (here / "my-recipe.yaml").write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            faults += [run_line(line, block.needs_hub) for line in block.text.splitlines() if line.strip()]
    assert list(filter(None, faults)) == []
    if "losses" in names:
        assert parse_losses(names["losses"])


def test_every_block_is_of_a_language_that_is_checked():
    languages = {block.language for path in PAGES for block in blocks(path.read_text(encoding="utf-8"))}
    assert languages <= {"python", "bash", "yaml"}
    assert any(shell_lines(path.read_text(encoding="utf-8")) for path in PAGES)
