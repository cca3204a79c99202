"""The command line that is running, as notes that leave this machine may show it."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from mergenet.errors import SECRET, visible

WORDS = "mergenet.words"  # in click's context: what was typed after `mergenet`
MOST = 1000  # characters
HIDDEN = "***"
PLAIN = re.compile(r"[\w@%+=:,./~-]*")
LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def running_command() -> str | None:
    """The command as it was typed, without what may be secret; None in a script or a notebook."""
    context = click.get_current_context(silent=True)
    words = None if context is None else context.meta.get(WORDS)
    return None if words is None else shareable(["mergenet", *words])


def shareable(words: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """The words quoted for a shell on one line of at most MOST characters.

    Values of keys that may be secret, logins in URLs and whatever a secret of the environment holds are hidden, and the
    home folder is ~, because it names a person.

    >>> shareable(["mergenet", "sweep", "run", "a b.yaml", "--set", "wandb.api_key=1234"], {})
    "mergenet sweep run 'a b.yaml' --set wandb.api_key=***"
    """
    environment = dict(os.environ) if environment is None else environment
    text = " ".join(_quoted(_shown(word)) for word in words)
    for name, value in environment.items():
        if SECRET.search(name) and len(value) >= 8:
            text = text.replace(value, HIDDEN)
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def _quoted(word: str) -> str:
    if PLAIN.fullmatch(word.replace(HIDDEN, "")):
        return word
    home, rest = ("~/", word[2:]) if word.startswith("~/") else ("", word)
    return home + shlex.quote(rest)


def _shown(word: str) -> str:
    parts = word.split("=")  # two of --set=KEY=VALUE
    for count, key in enumerate(parts[:-1], start=1):
        if SECRET.search(key):
            return visible("=".join([*parts[:count], HIDDEN]))
    home = str(Path.home())
    word = LOGIN.sub(HIDDEN, visible(word))
    return re.sub(rf"(?<![^=\s]){re.escape(home)}(?=/|$)", "~", word) if len(home) > 1 else word
