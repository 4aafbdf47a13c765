"""profile: quality at every depth and contribution of every block; adds profile.json and
profile.png to the model directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.data.load import Columns, load_data
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.measure.readouts import cutoff, profile_model
from acn_compress.reports import plots


def profile(
    src: str | Path,
    *,
    data: str,
    max_drop: float = 0.01,
    bound: str = "upper",
    measures: tuple[str, ...] = (),
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    limit: int | None = None,
    max_length: int | None = None,
    batch_size: int = 256,
    seed: int = 0,
    to: str | Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Profile a model directory.

    Args:
        src: the model directory (or, with `to`, any checkpoint).
        data: the data set; its validation or test split unless one is named.
        max_drop: tolerance of the cutoff, in the metric's own units (0.01 = one point of accuracy).
        bound: what must pass it: "upper" (end of the paired 95 % interval) or "point".
        measures: further measures, see `readouts.profile_model`.
        to: directory for profile.json and profile.png instead of `src`.
    Returns:
        The profile as written.
    Raises:
        AcnError: in one line.
    """
    if max_drop < 0:
        raise ConfigError(
            f"max_drop is {max_drop}, expected 0 or more, in the metric's own units (0.01 = one point of accuracy)."
        )
    source = modeldir.find_source(src)
    where = _where(source, to)
    net = checkpoint.load_source(source, device=device)
    examples = load_data(
        data, net, source, role="eval", columns=columns, limit=limit, max_length=max_length
    )
    found = profile_model(net, examples, extras=measures, batch_size=batch_size, seed=seed)
    report = {
        "version": 1,
        "step": "profile",
        "source": source.name,
        "weights_sha256": source.sha256(),
        "data": examples.name,
        "structure": net.structure.model_dump(mode="json"),
        "max_drop": max_drop,
        "bound": bound,
        "cutoff": cutoff(found["depths"], max_drop, bound),
        **found,
    }
    try:
        plots.profile(report, where / "profile.png")
        modeldir.write_json(where / "profile.json", report)
    except OSError as error:
        raise ModelDirError(
            f"{where}: profile.json cannot be written ({error.strerror or error})."
        ) from None
    return report | {"files": [str(where / "profile.json"), str(where / "profile.png")]}


def _where(source: modeldir.Source, to: str | Path | None) -> Path:
    where = source.directory if to is None else Path(to).expanduser()
    if to is not None:
        where.mkdir(parents=True, exist_ok=True)
    if source.loose and to is None:
        raise ConfigError(
            f"{source.name} is a weight file, not a model directory. Say where the profile goes with --to."
        )
    if not os.access(where, os.W_OK):
        raise ModelDirError(
            f"{where}: no permission to write profile.json. Say where it goes with --to."
        )
    return where
