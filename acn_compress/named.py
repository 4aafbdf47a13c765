"""Things that are chosen by name: a method, a score, a task, an export target, a backend.

The names stand once, as a Literal in `options.py`, where a type checker, the command line and
recipes see them; each thing is an object in a file of its name. Adding one is the file and its
name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, get_args


def objects(choice: object, package: str, attribute: str) -> dict[str, Any]:
    """The object of every name of a choice, in its order.

    Args:
        choice: a Literal.
        package: where the files lie; a hyphen of a name is an underscore of the file's.
        attribute: what the object is called in its file.
    """
    files = {name: f"{package}.{name.replace('-', '_')}" for name in get_args(choice)}
    return {name: getattr(import_module(file), attribute) for name, file in files.items()}
