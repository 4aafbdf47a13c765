"""Which blocks a shallower network starts from: what is compared is what is kept, and the better one is taken."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import MODELS, outputs, tiny

from acn_compress import checkpoint, stack
from acn_compress.architectures import architecture_of
from acn_compress.errors import ConfigError
from acn_compress.initial import EXAMPLES, cut_, positions
from acn_compress.job import Job
from acn_compress.modeldir import find_source, read_json
from acn_compress.quality import measure
from acn_compress.steps.convert import convert
from acn_compress.steps.finetune import finetune

JOB = Job("digits")


@pytest.mark.parametrize("name", MODELS)
def test_blocks_left_out_are_blocks_removed(name: str) -> None:
    model = tiny(name)
    with torch.no_grad(), stack.bypassing(model, architecture_of(model.config), [1]):
        without = outputs(model)
    checkpoint.keep_blocks_(model, (0, 2), architecture_of(model.config), checkpoint.structure_of(model))
    assert torch.equal(outputs(model), without)


def test_evenly_spaced_blocks_have_the_first_and_the_last_among_them() -> None:
    for blocks in range(2, 30):
        for depth in range(2, blocks + 1):
            even = positions(blocks, depth, "even")
            assert len(set(even)) == depth and sorted(even) == list(even) and (even[0], even[-1]) == (0, blocks - 1)
            gaps = [b - a for a, b in itertools.pairwise(even)]
            assert max(gaps) - min(gaps) <= 1
        assert positions(blocks, 1, "even") == positions(blocks, 1, "first") == (0,)


def test_auto_keeps_what_starts_with_the_lower_loss(digits_vit: Path) -> None:
    source = find_source(digits_vit)

    def loss(model: Any) -> float:
        few = replace(JOB, limit=EXAMPLES).train_split(model, source)
        return float(measure(model, few).loss.mean())

    found: dict[str, tuple[tuple[int, ...], float]] = {}
    for keep in ("first", "even", "auto"):
        model = checkpoint.load_source(source)
        kept = cut_(model, 2, keep, JOB, source)
        assert checkpoint.structure_of(model).blocks == kept
        found[keep] = kept, loss(model)
    assert found["first"][0] == (0, 1) and found["even"][0] == (0, 2) and found["first"][1] != found["even"][1]
    assert found["auto"] == min(found["first"], found["even"], key=lambda pair: pair[1])


def test_a_head_behind_the_last_block_makes_auto_take_it_too(digits_vit: Path) -> None:
    source = find_source(digits_vit)
    model = checkpoint.load_source(source)
    with torch.no_grad():  # the middle block now spoils what the head reads
        for p in stack.blocks_of(model, architecture_of(model.config))[1].parameters():
            p.copy_(torch.randn_like(p))
    assert cut_(model, 2, "auto", JOB, source) == (0, 2)


def test_what_was_kept_is_written_and_loads_again(digits_vit: Path, tmp_path: Path) -> None:
    for step, options in ((convert, {"alpha_end": 0.5}), (finetune, {"teacher": digits_vit})):
        out = tmp_path / step.__name__
        report = step(digits_vit, out, "digits", depth=2, keep="even", epochs=0.1, **options)
        assert report["structure"]["blocks"] == [0, 2] and report["structure"]["source_blocks"] == 3
        model = checkpoint.load(out)
        assert checkpoint.structure_of(model).blocks == (0, 2)
        provenance = read_json(out / "provenance.json")
        assert provenance is not None and provenance["steps"][-1]["options"]["keep"] == "even"
    with pytest.raises(ConfigError, match=r"keep is 'last', expected first, even, auto"):
        convert(digits_vit, tmp_path / "x", "digits", depth=2, keep="last", epochs=0.1)  # type: ignore[arg-type]
