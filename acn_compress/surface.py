"""From one options class per verb: checked options, the Python function, and its signature.

The same fault reads the same wherever it was made: the command line, recipes and Python have their
options checked here.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import shlex
import textwrap
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from acn_compress import memory, options, processes
from acn_compress.checkpoint import lock
from acn_compress.deprecated import Job, current
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.options import Options, Verb
from acn_compress.training import interrupt

if TYPE_CHECKING:
    from acn_compress.found import Found

T = TypeVar("T", bound=Options)
Place = tuple[int | str, ...]
LONGEST = 200  # characters of a value that are shown
INNER = (
    "function-",
    "str",
    "tuple[",
    "constrained-",
    "nullable",
    "literal[",
)  # pydantic's own names
PANELS = ("Options", "Data", "Training", "Model", "Output")  # of the help, in this order


def checked(cls: type[T], given: Mapping[str, object]) -> T:
    """The options, or every fault of them.

    Raises:
        ConfigError: in one sentence per fault.
    """
    try:
        return cls.model_validate(current(cls, given))
    except ValidationError as error:
        subject = getattr(cls, "verb", "options")
        told = [f"{'.'.join(map(str, at)) or subject} {text}" for at, text in faults(error, cls)]
        raise ConfigError(". ".join(told) + ("" if told[-1].endswith("?") else ".")) from None


def faults(error: ValidationError, cls: type[Options]) -> list[tuple[Place, str]]:
    """Every fault: the place (empty where several options are at odds), and what is wrong there."""
    return [(_place(e), _say(e, cls)) for e in error.errors()]


def _place(error: ErrorDetails) -> Place:
    return tuple(p for p in error["loc"] if not (isinstance(p, str) and p.startswith(INNER)))


def _say(error: ErrorDetails, cls: type[Options]) -> str:
    if error["type"] == "extra_forbidden":
        return unknown(str(error["loc"][-1]), _known(cls, error["loc"][:-1]))
    if error["type"] == "missing":
        return "is missing"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and not error["loc"]:
        return message
    message = (message[0].lower() + message[1:]).removeprefix("input should be ")
    return f"is {_in_a_line(error['input'])}, expected: {message}"


def _in_a_line(value: object) -> str:
    """What was given, as much of it as tells it."""
    said = " ".join(repr(value).split())
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}... ({type(value).__name__})"


def _known(cls: type[BaseModel], place: Place) -> list[str]:
    """The names that may stand at a place below `cls`."""
    for part in place:
        field = cls.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        cls = inner[0] if inner else cls
    return list(cls.model_fields)


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known."""
    near = difflib.get_close_matches(name, known := list(known), n=1)
    if near:
        return f"is not known. Did you mean {near[0]}?"
    return f"is not known. Known: {', '.join(known)}"


def call(cls: type[Verb], where: Iterable[object], how: Verb, **extras: object) -> Found:
    """Do what a verb means.

    Args:
        where: its arguments, in order.
        how: its options.
        extras: what is no option: `progress`.
    """

    def command() -> Found:
        from acn_compress.reports.progress import end

        with lock.let_go(), interrupt.as_signal(), memory.telling(how):
            step = import_module(f"acn_compress.steps.{cls.verb}")
            try:
                found: Found = step.run(*where, how, **extras)
            except PermissionError as error:  # of a folder, say, that may not be looked into
                told = f"no permission to open {error.filename or error}."
                raise ModelDirError(told) from error
            finally:
                end(extras.get("progress"))
        return found

    return processes.led(command)


def function(cls: type[Verb]) -> Callable[..., Found]:
    """The Python function of a verb."""
    positional = by_position(cls)

    def verb(*args: object, **given: object) -> Found:
        if len(args) > len(positional):
            raise TypeError(f"{cls.verb}() takes {', '.join(positional)}, and options by name")
        given = dict(zip(positional, args, strict=False)) | given
        if isinstance(job := given.get("data"), Job):
            given = {**given, **job}
        if missing := [a.name for a in cls.arguments if a.name not in given]:
            raise TypeError(f"{cls.verb}() needs {', '.join(missing)}")
        progress = _progress(given.pop("progress", True))
        where = [given.pop(a.name) for a in cls.arguments]
        return call(cls, where, checked(cls, given), progress=progress)

    verb.__name__ = verb.__qualname__ = cls.verb
    verb.__module__, verb.__doc__ = "acn_compress", documentation(cls)
    verb.__signature__ = signature(cls)  # type: ignore[attr-defined]
    return verb


def _progress(wanted: object) -> object:
    """What is called with what happens: the user's own, or a display that fits where we run."""
    if not isinstance(wanted, bool):
        return wanted
    from acn_compress.reports.progress import display

    return display() if wanted else None


def typed(cls: type[Verb], where: Iterable[object], how: Verb) -> str:
    """The command line of a verb: its arguments, and the options that are not the default."""
    words = ["acn-compress", cls.verb, *map(str, where)]
    for name, value in how.plain().items():
        if value == cls.model_fields[name].default or value in (None, []):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            several = isinstance(value, list)
            words += [f"--{flag}", ",".join(map(str, value)) if several else f"{value}"]
    return shlex.join(words)


def by_position(cls: type[Verb]) -> list[str]:
    """The names that a function takes by position: its arguments, then data."""
    many = any(a.many for a in cls.arguments)
    required = [n for n in ("data",) if n in cls.model_fields and cls.arguments and not many]
    return [a.name for a in cls.arguments] + required


def signature(cls: type[Verb]) -> Signature:
    """Of the Python function."""
    positional = by_position(cls)
    parameters: list[Parameter] = []
    for name in [*positional, *ordered(cls)]:
        if name in positional and name in {p.name for p in parameters}:
            continue
        field = cls.model_fields.get(name)
        kind = Parameter.POSITIONAL_OR_KEYWORD if name in positional else Parameter.KEYWORD_ONLY
        shown = declared(cls, name).type if field else _argument(cls, name)
        default = Parameter.empty if field is None or field.is_required() else field.default
        parameters.append(Parameter(name, kind, default=default, annotation=shown))
    parameters.append(
        Parameter(
            "progress", Parameter.KEYWORD_ONLY, default=True, annotation="bool | Progress | None"
        )
    )
    return Signature(parameters)


def _argument(cls: type[Verb], name: str) -> str:
    """The type of an argument."""
    argument = next(a for a in cls.arguments if a.name == name)
    return f"Sequence[{argument.type}]" if argument.many else argument.type


def ordered(cls: type[Options]) -> dict[str, FieldInfo]:
    """The options, the class's own first (those that must be given before all), then its
    groups'."""
    own = [n for n in cls.__annotations__ if n in cls.model_fields]
    own.sort(key=lambda n: not cls.model_fields[n].is_required())
    rest = [n for n in cls.model_fields if n not in own]
    rest.sort(key=lambda n: PANELS.index(panel(cls, n)))
    return {name: cls.model_fields[name] for name in (*own, *rest)}


class Declared(NamedTuple):
    """An option as it is written in `options.py`."""

    type: str
    meaning: str


@cache
def _declarations() -> dict[tuple[str, str], Declared]:
    """All of them, by class and name: read from the source, once and only where a help or a page is
    made, because pydantic would read it class by class on every start."""
    found: dict[tuple[str, str], Declared] = {}
    source = Path(options.__file__).read_text(encoding="utf-8")
    for group in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for node, after in itertools.pairwise([*group.body, ast.Pass()]):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = after.value if isinstance(after, ast.Expr) else None
                told = text.value if isinstance(text, ast.Constant) else ""
                declared = Declared(ast.unparse(node.annotation), " ".join(str(told).split()))
                found[group.name, node.target.id] = declared
    return found


def declared(cls: type[Options], name: str) -> Declared:
    """An option as it is written for this class, or for the group it comes from."""
    known = _declarations()
    return next(known[c.__name__, name] for c in cls.__mro__ if (c.__name__, name) in known)


def panel(cls: type[Options], name: str) -> str:
    """The panel of the help an option belongs to: that of the group that has it."""
    groups = (c for c in reversed(cls.__mro__) if issubclass(c, Options))
    group = next(c for c in groups if name in vars(c).get("__annotations__", {}))
    own = issubclass(group, Verb)
    return "Data" if name == "data" else "Options" if own else group.panel


def sentence(cls: type[Options], name: str) -> str:
    """What an option means, on one line."""
    return cls.model_fields[name].description or declared(cls, name).meaning


def documentation(cls: type[Verb]) -> str:
    """The docstring of the function."""
    lines = [*textwrap.wrap(" ".join((cls.__doc__ or "").split()), 90), "", "Args:"]
    entries = [(a.name, a.help) for a in cls.arguments]
    entries += [(name, sentence(cls, name)) for name in ordered(cls)]
    for name, text in entries:
        lines += textwrap.wrap(
            f"{name}: {text}", 96, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
    return "\n".join([*lines, "", "Example:", f"    {cls.example}"])
