"""What single training options do to the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import network

from acn_compress import finetune


@pytest.mark.long
def test_gradients_are_scaled_down_to_the_norm_that_is_asked_for(
    digits_vit: Path, tmp_path: Path
) -> None:
    begun, moved = network(digits_vit).model.state_dict(), {}
    for norm in (1.0, 1e-9):
        out = tmp_path / str(norm)
        finetune(digits_vit, out, "digits", epochs=0.1, weight_decay=0.0, max_grad_norm=norm)
        trained = network(out).model.state_dict()
        moved[norm] = sum(float((trained[k] - begun[k]).abs().sum()) for k in begun)
    assert 0 < moved[1e-9] < moved[1.0] / 2  # so small that AdamW's epsilon holds the weights back


def test_a_norm_of_nothing_is_refused(digits_vit: Path, tmp_path: Path) -> None:
    import pytest

    from acn_compress.errors import ConfigError

    with pytest.raises(ConfigError, match="max_grad_norm is 0, expected: greater than 0"):
        finetune(digits_vit, tmp_path / "out", "digits", max_grad_norm=0)
