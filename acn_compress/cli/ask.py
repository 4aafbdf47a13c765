"""Questions of a command at a terminal; without one, options say it all."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import typer

from acn_compress import surface
from acn_compress.options import AT_ODDS, Begin, Verb
from acn_compress.surface import unknown

QUESTIONS = {
    "model": "Which trained checkpoint (directory, Hub id or weight file)?",
    "data": "Which data (digits, a folder, files or a Hub data set)?",
    "want": "What do you want?",
    "budget": "How much training?",
}


def asked(cls: type[Verb], own: dict[str, object]) -> dict[str, object]:
    """The options with what a person answers for those that are missing."""
    if cls is not Begin or not sys.stdin.isatty():
        return own
    if set(own.items()) >= AT_ODDS:  # no answer can mend it
        return own
    for name, question in QUESTIONS.items():
        if name not in own:
            own = {**own, name: _answer(name, question, own)}
    return own


def _answer(name: str, question: str, given: Mapping[str, object]) -> str:
    choices = Begin.choices(name, given)
    if choices:
        typer.echo(surface.sentence(Begin, name), err=True)
        question += f" ({', '.join(choices)})"
    while True:
        answer = str(typer.prompt(question, err=True, prompt_suffix=" ")).strip()
        if not choices or answer in choices:
            return answer
        apart = answer in Begin.choices(name) and f"does not go with that: {', '.join(choices)}"
        typer.echo(f"{answer} {apart or unknown(answer, choices)}", err=True)
