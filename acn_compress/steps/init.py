"""init: a recipe from four answers."""

from __future__ import annotations

import json
from pathlib import Path

from acn_compress.checkpoint.directory import writing
from acn_compress.checkpoint.swap import target
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.events import Progress
from acn_compress.options import Begin
from acn_compress.recipe.read import read
from acn_compress.reports.helped import Begun

EPOCHS = {"none": 0, "short": 1, "long": 10}
ASKED = {"faster": "speedup: 2", "smaller": "target_params: 0.5", "lossless": "max_drop: 0.01"}
COMPRESS = """\
  - compress: {{{asked}, epochs: {epochs}}}   # the best model within that limit, and its ONNX file
"""
ANY_DEPTH = """\
  - convert: {{epochs: {epochs}, prefix_loss: 1.0}}   # to ACN form, readable at every depth
  - profile                          # the quality at every depth
  - truncate: {{max_drop: 0.02}}       # as few blocks as lose at most so much
  - export: {{format: onnx}}
"""
RECIPE = """\
# The options of a step are those of the command of its name: acn-compress compress --help
# After a change: acn-compress validate {name}
name: {stem}
source: {model}
data: {data}
steps:
{steps}"""


def run(how: Begin, progress: Progress | None = None) -> Begun:
    """Write a recipe that `validate` accepts."""
    path = Path(how.out).expanduser()
    if path.exists() and not how.overwrite:
        raise ModelDirError(f"{path} exists. Choose another with --out, or pass --overwrite.")
    assert how.want is not None and how.budget is not None  # the options were checked
    steps = ANY_DEPTH if how.want == "any-depth" else COMPRESS
    text = RECIPE.format(
        name=path,
        stem=json.dumps(_name(path)),
        model=json.dumps(how.model, ensure_ascii=False),
        data=json.dumps(how.data, ensure_ascii=False),
        steps=steps.format(asked=ASKED.get(how.want, ""), epochs=EPOCHS[how.budget]),
    )
    file = target(path)
    draft = file.with_name(f".{file.name}.partial")
    with writing(str(path), "Choose another place with --out."):
        draft.write_text(text, encoding="utf-8")
        try:
            read(draft)
            draft.replace(file)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(draft), str(path))) from None
        finally:
            draft.unlink(missing_ok=True)
    return Begun(step=how.verb, out=str(path), text=text)


def _name(path: Path) -> str:
    """Of the run's directory: the file's, as far as such a name may go."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.stem)
    return kept.strip(".") or "recipe"
