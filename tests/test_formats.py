"""Formats beside ONNX: what their cards say loads them, and it says what the network says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_cli import fails
from tiny import network, saved, tiny

import acn_compress
from acn_compress.checkpoint.push import sorted_out
from acn_compress.errors import UnsupportedError
from acn_compress.onnx.inputs import inputs_for
from acn_compress.onnx.trace import Traced
from acn_compress.options import EXTRAS, Format
from acn_compress.targets import TARGETS
from acn_compress.targets.torch_export import FILE, save_program

# a stranger: plain torch, which unpickles nothing but tensors
STRANGER = """
import sys
sys.modules |= dict.fromkeys(["acn_compress", "transformers"])
import torch
from safetensors.torch import load_file, save_file
load = torch.load
def plain(*args, weights_only=True, **options):
    assert weights_only
    return load(*args, weights_only=True, **options)
torch.load = plain
"""
ASK = """
globals().update(load_file("{inputs}"))
"""
ANSWER = """
save_file({{"found": torch.as_tensor({output})}}, "{inputs}.found")
"""


def stranger(directory: Path, inputs: Path, output: str) -> torch.Tensor:
    """What the code in a card answers to inputs, in a process that does not know this package."""
    code = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.S)[0]
    script = STRANGER + ASK.format(inputs=inputs) + code
    script += ANSWER.format(inputs=inputs, output=output)
    subprocess.run([sys.executable, "-c", script], cwd=directory, check=True, timeout=240)
    return load_file(f"{inputs}.found")["found"]


OWN = {"onnx", "safetensors"}  # whose laws are in test_export.py and test_contract.py


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in OWN])
@pytest.mark.long
def test_a_stranger_loads_it_as_its_card_says(name: Format, tmp_path: Path) -> None:
    """At a size it was not traced with, half of a text padded."""
    if name in EXTRAS:
        pytest.importorskip(name)
    source, out = saved(tiny("bert", 0.3), tmp_path / "m"), tmp_path / "out"
    report = acn_compress.export(source, out, format=name)
    assert report["max_difference"] <= 1e-5 and report["outputs"] == ["logits"]
    assert (out / "config.json").is_file() and report["file"] in {p.name for p in out.iterdir()}
    assert not sorted_out(out, TARGETS[name].files)[1]  # all of it is known to `push`
    net, inputs = network(source), tmp_path / "inputs"
    given = inputs_for(net, 4, 23, 1)
    save_file(given, inputs)
    with torch.inference_mode():
        expected = net(**given).logits
    found = stranger(out, inputs, "logits")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    held = b"".join(p.read_bytes() for p in out.iterdir() if p.is_file())
    assert str(Path(acn_compress.__file__).parent).encode() not in held


@pytest.mark.parametrize("name", sorted(EXTRAS.keys() & set(get_args(Format))))
def test_a_format_whose_package_is_missing_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tiny("mixer"), tmp_path / "m")
    monkeypatch.setitem(sys.modules, name, None)
    told = f"pip install 'acn-compress[{name}]'"
    fails(told, "export", source, tmp_path / "out", "--format", name)
    assert list(tmp_path.iterdir()) == [source]


def test_clips_have_no_longest_that_memory_could_be_planned_for(tmp_path: Path) -> None:
    source = saved(tiny("wav2vec2"), tmp_path / "m")
    told = "Export to onnx."
    fails(told, "export", source, tmp_path / "out", "--format", "executorch")


def test_a_network_that_torch_cannot_export_is_told_in_one_line(tmp_path: Path) -> None:
    net = tiny("vit")

    def depends_on_data(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output if output.sum() > 0 else -output

    net.model.vit.layernorm.register_forward_hook(depends_on_data)
    with pytest.raises(UnsupportedError, match=r"m: torch.export cannot export") as error:
        save_program(Traced(net), tmp_path / FILE, "m", {})
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
