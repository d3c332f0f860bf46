"""What tells a structure manifest in a config."""

import subprocess
import sys

import pytest

from hfcompress.modeling.manifest import is_manifest
from hfcompress.modeling.structure import Structure


def test_what_a_structure_writes_is_a_manifest():
    assert is_manifest(Structure().to_dict())


@pytest.mark.parametrize("found", [None, {}, {"quant_method": "gptq", "bits": 4}, "hfcompress", ["hfcompress"]])
def test_other_entries_are_none(found):
    assert not is_manifest(found)


def test_it_is_told_without_torch():
    code = "import sys; import hfcompress.hub.card.usage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
