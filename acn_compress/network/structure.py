"""What a compressed model is beyond its weights: a closed, versioned schema, stored in
`config.json` under the key `acn`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from acn_compress.errors import ModelDirError
from acn_compress.form import LayerKind, layers_in_a_block
from acn_compress.found import Found

Form = Literal["residual", "hybrid", "acn"]


def form_of(alpha: tuple[float, ...]) -> Form:
    """residual: every alpha is 1; acn: every alpha is 0; hybrid: anything else."""
    if all(a == 1.0 for a in alpha):
        return "residual"
    return "acn" if all(a == 0.0 for a in alpha) else "hybrid"


class Structure(Found):
    """The shape of a model in this package's terms. Unknown fields are errors."""

    version: Literal[1] = 1
    form: Form = Field(description="residual, hybrid or acn; follows from alpha")
    layer: LayerKind = Field(default="block", description="what one layer is")
    alpha: tuple[float, ...] = Field(
        description="scale of the short skip connection, one per layer"
    )
    blocks: tuple[int, ...] = Field(
        min_length=1, description="kept blocks, by their index in the first source"
    )
    source_blocks: int = Field(ge=1, description="blocks of the first source")
    widths: tuple[dict[str, int], ...] | None = Field(
        default=None, description="per block: units kept of each prunable width; null = all"
    )
    sparsity: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="share of zeros among the weight matrices of the blocks",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Structure:
        per_block = layers_in_a_block(self.layer)
        if len(self.alpha) != per_block * len(self.blocks):
            raise ValueError(
                f"alpha has {len(self.alpha)} values, {per_block * len(self.blocks)} expected for "
                f"{len(self.blocks)} blocks with layer '{self.layer}'"
            )
        if any(not 0.0 <= a <= 1.0 for a in self.alpha):
            raise ValueError("alpha must lie in [0, 1]")
        if self.form != form_of(self.alpha):
            raise ValueError(f"form is '{self.form}', but alpha says '{form_of(self.alpha)}'")
        if self.widths is not None and len(self.widths) != len(self.blocks):
            raise ValueError(f"widths has {len(self.widths)} entries, {len(self.blocks)} blocks")
        if self.widths is not None and any(n < 1 for w in self.widths for n in w.values()):
            raise ValueError("every width must be at least 1")
        if (
            list(self.blocks) != sorted(set(self.blocks))
            or not 0 <= self.blocks[0] <= self.blocks[-1] < self.source_blocks
        ):
            raise ValueError(f"blocks must be ascending indices below {self.source_blocks}")
        return self

    @classmethod
    def residual(cls, depth: int) -> Structure:
        """The structure of an untouched network of `depth` blocks."""
        return cls(
            form="residual", alpha=(1.0,) * depth, blocks=tuple(range(depth)), source_blocks=depth
        )

    @classmethod
    def read(cls, data: Any, where: str) -> Structure:
        """Validate data read from a file.

        Raises:
            ModelDirError: naming the first faults, if it is not a structure this version writes.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, ['acn', *e['loc']]))}: {e['msg']}" for e in error.errors()[:3]
            )
            raise ModelDirError(
                f"{where}: {faults}. Expected what this version of acn-compress writes (version 1)."
            ) from None

    def alphas_of(self, index: int) -> tuple[float, ...]:
        """The alphas of the block at position `index`."""
        n = len(self.alpha) // len(self.blocks)
        return self.alpha[n * index : n * (index + 1)]

    def with_alpha(self, alpha: tuple[float, ...], layer: LayerKind | None = None) -> Structure:
        """The same structure with other alphas; the form follows."""
        return self.changed(alpha=alpha, form=form_of(alpha), layer=layer or self.layer)

    def kept(self, positions: tuple[int, ...]) -> Structure:
        """The structure after keeping only the blocks at `positions` (counted in this model)."""
        alpha = tuple(a for i in positions for a in self.alphas_of(i))
        widths = None if self.widths is None else tuple(self.widths[i] for i in positions)
        return self.changed(
            alpha=alpha,
            form=form_of(alpha),
            blocks=tuple(self.blocks[i] for i in positions),
            widths=widths,
        )

    def changed(self, **fields: Any) -> Structure:
        """A validated copy with `fields` replaced."""
        return Structure.model_validate({**self.model_dump(), **fields})
