"""The command line: one command per verb, made from its options. Heavy imports happen inside
commands.

Exit codes: 0 done, 1 a fault of the input (one line on stderr), 2 wrong usage, 130 interrupted
(143 by SIGTERM, 129 by SIGHUP).
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

from acn_compress import __version__, compat, processes, surface
from acn_compress.cli import recipes
from acn_compress.cli.ask import asked
from acn_compress.deprecated import renamed
from acn_compress.errors import AcnError
from acn_compress.options import VERBS, Options, Verb
from acn_compress.training import interrupt


@contextmanager
def _ending() -> Iterator[None]:
    """A signal outside of a step too ends the process with its own exit code; typer's is 130 for
    all."""
    try:
        with interrupt.as_signal():
            yield
    except KeyboardInterrupt as stopped:
        typer.echo("error: interrupted.", err=True)
        sys.exit(interrupt.exit_code(interrupt.number_of(stopped)))


class Commands(TyperGroup):
    """All commands; a signal anywhere in one never reaches typer."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _ending():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _ending():
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    help="Trained transformer checkpoint in, smaller, faster, verified model out "
    "(Auto-Compressing Networks).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
JSON = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout and nothing else.",
        rich_help_panel=surface.PANELS[-1],
    ),
]
# every command takes these, so that scripts may pass the same to all; where one has no meaning it
# is not shown
EVERYWHERE: dict[str, tuple[type, object]] = {
    "seed": (int, 0),
    "device": (str, "auto"),
    "overwrite": (bool, False),
}


def add(cls: type[Verb]) -> None:
    """Make the command of a verb."""

    def command(json_: bool = False, **given: object) -> None:
        own = {name: given[name] for name in cls.model_fields if _said(given.get(name))}
        own |= {old: given[old] for old in renamed(cls) if _said(given.get(old))}
        own |= {name: True for name in cls.dropped if given[name]}
        where = [given[a.name] for a in cls.arguments]
        _run(cls, where, own, json_)

    parameters = [*_arguments(cls), *_options(cls), *_old(cls), *_hidden(cls)]
    parameters.append(_parameter("json_", JSON, False))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    text = " ".join((cls.__doc__ or "").split())
    app.command(name=cls.verb, help=f"{text}\n\nExample: {cls.example}")(command)


def _run(cls: type[Verb], where: list[object], own: dict[str, object], as_json: bool) -> None:
    """Run a verb: errors in one line, JSON or tables, exit codes."""
    from acn_compress.reports.progress import display

    try:
        how = surface.checked(cls, asked(cls, own))
        report = surface.call(cls, where, how, progress=display(results=not as_json))
    except AcnError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:  # transformers' for whatever it could not import
        if (advice := compat.broken_torchvision(error)) is None:
            raise
        _fail(str(advice), 1)
    except KeyboardInterrupt as stopped:
        code = interrupt.exit_code(interrupt.number_of(stopped))
        _fail(cls.interrupted, code)
    else:
        from acn_compress.reports.base import Report

        assert isinstance(report, Report)
        if as_json:
            typer.echo(report.model_dump_json(by_alias=True))
        else:
            from acn_compress.reports.show import show

            show(report.display())
        if (told := report.warning()) is not None:
            typer.echo(f"warning: {told}", err=True)
        if (told := report.complaint()) is not None:
            _fail(told, 1)


def _fail(text: str, code: int) -> None:
    typer.echo(f"error: {text}", err=True)
    sys.exit(code)  # no typer.Exit: that is an Exception, which `as_signal` would take for a signal


def _said(value: object) -> bool:
    """Whether an option was given: defaults are the options class's business."""
    return value is not None and value != []


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _arguments(cls: type[Verb]) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            a.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=Annotated[
                list[str] if a.many else str,
                typer.Argument(
                    metavar="SRC [OTHER]..." if a.many else a.name.upper(),
                    help=a.help,
                    show_default=False,
                ),
            ],
        )
        for a in cls.arguments
    ]


def _options(cls: type[Verb]) -> list[inspect.Parameter]:
    """The options in the order of their panels."""
    fields = surface.ordered(cls)
    names = sorted(fields, key=lambda name: surface.PANELS.index(surface.panel(cls, name)))
    return [_option(cls, name, fields[name]) for name in names]


def _option(cls: type[Options], name: str, field: FieldInfo) -> inspect.Parameter:
    kind = plain_type(field.annotation)
    info: object = typer.Option(
        *_names(name, kind),
        help=surface.sentence(cls, name),
        rich_help_panel=surface.panel(cls, name),
        show_default=_shown(field.default) or False,
        metavar=None if get_origin(kind) is Literal or kind is bool else _metavar(name, kind),
    )
    required = field.is_required()
    annotation: object = Annotated[kind if required else Optional[kind], info]  # noqa: UP045
    return _parameter(name, annotation, inspect.Parameter.empty if required else None)


def _names(name: str, kind: object) -> list[str]:
    flag = "--" + name.replace("_", "-")
    return [f"{flag}/--no-{name.replace('_', '-')}" if kind is bool and name == "refit" else flag]


def _metavar(name: str, kind: object) -> str:
    return "N" if kind is int else "X" if kind is float else name.split("_")[-1].upper()


def _shown(default: object) -> str:
    """A default as it is typed; none for what is off."""
    if default is None or isinstance(default, bool) or default == ():
        return ""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return (
        f"{default:g}"
        if isinstance(default, float)
        else str(default)
        if not _undefined(default)
        else ""
    )


def _undefined(default: object) -> bool:
    return type(default).__name__ == "PydanticUndefinedType"


def _old(cls: type[Verb]) -> list[inspect.Parameter]:
    """Old names of options, not shown."""
    found = []
    for old, new in renamed(cls).items():
        many = "tuple" in str(cls.model_fields[new].annotation)
        annotation: object = Annotated[
            Optional[list[str] if many else str],  # noqa: UP045
            typer.Option("--" + old.replace("_", "-"), hidden=True),
        ]
        found.append(_parameter(old, annotation, None))
    for name in cls.dropped:
        flag: object = Annotated[bool, typer.Option("--" + name.replace("_", "-"), hidden=True)]
        found.append(_parameter(name, flag, False))
    return found


def _hidden(cls: type[Verb]) -> list[inspect.Parameter]:
    return [
        _parameter(name, Annotated[kind, typer.Option("--" + name, hidden=True)], default)
        for name, (kind, default) in EVERYWHERE.items()
        if name not in cls.model_fields
    ]


def plain_type(kind: Any) -> Any:
    """A type as the command line reads it: bounds and lists like 3,4,6 are the options'
    business."""
    if get_origin(kind) is Annotated:
        return plain_type(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        (inner,) = {plain_type(k) for k in get_args(kind) if k is not type(None)}
        return inner
    if get_origin(kind) is Literal or kind in {int, float, bool, str}:
        return kind
    return str


def _version(value: bool) -> None:
    if value:
        typer.echo(f"acn-compress {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options before the command."""


for _verb in VERBS.values():
    add(_verb)
app.add_typer(recipes.commands, name="recipes")


def _be_quiet() -> None:
    """One process speaks for all; but a bug is shown wherever it is."""
    sys.excepthook = partial(traceback.print_exception, file=sys.stderr)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def main() -> None:
    """Entry point of the console script."""
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if processes.world() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP's advice, from every process
    if processes.rank():
        _be_quiet()
    with interrupt.handling(), _ending():
        app()
