"""recipes: the recipes that come with the package, to look at and to start from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from acn_compress.errors import AcnError, ConfigError, ModelDirError

commands = typer.Typer(
    help="Recipes that come with the package: list, show, copy.", no_args_is_help=True
)
NAME = Annotated[str, typer.Argument(help="Of a packaged recipe.", show_default=False)]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except AcnError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


@commands.command("list")
def list_() -> None:
    """Name and purpose of each."""
    from acn_compress.recipe.read import packaged, read
    from acn_compress.reports.blocks import Command, Pairs
    from acn_compress.reports.show import show

    with _told():
        rows = [(name, read(path).description) for name, path in packaged().items()]
        show([Pairs("", rows), Command("acn-compress recipes show NAME")])


@commands.command()
def show(name: NAME) -> None:
    """Print a recipe."""
    with _told():
        typer.echo(_path(name).read_text(encoding="utf-8"), nl=False)


@commands.command()
def copy(
    name: NAME,
    to: Annotated[str, typer.Argument(help="File to write; default NAME.yaml here.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace it.")] = False,
) -> None:
    """Copy a recipe, to change it."""
    from acn_compress.checkpoint.directory import writing
    from acn_compress.checkpoint.files import write_text
    from acn_compress.checkpoint.swap import target

    with _told():
        source, path = _path(name), Path(to or f"{name}.yaml").expanduser()
        if path.exists() and not overwrite:
            raise ModelDirError(f"{path} exists. Choose another file, or pass --overwrite.")
        with writing(str(path), "Choose another place."):
            write_text(target(path), source.read_text(encoding="utf-8"))
        typer.echo(f"written: {path}\nnext: acn-compress run {shlex.quote(str(path))} --dry-run")


def _path(name: str) -> Path:
    from acn_compress.recipe.read import packaged
    from acn_compress.surface import unknown

    known = packaged()
    if name not in known:
        raise ConfigError(f"recipe {name} {unknown(name, known)}")
    return known[name]
