"""What GitHub's runner makes of the output of a step: the commands that it obeys, read as its ActionCommand class reads them."""

from __future__ import annotations

from typing import NamedTuple

COMMANDS = ("error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands", "set-output", "save-state", "echo")
DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


class Command(NamedTuple):
    """A command of a step."""

    name: str
    properties: dict[str, str]
    message: str


def command_of(line: str) -> Command | None:
    """The command in a line of output, if it is one."""
    trimmed = line.lstrip()
    if not trimmed.startswith("::") or (end := trimmed.find("::", 2)) < 0:
        return None
    name, _, rest = trimmed[2:end].partition(" ")
    if name not in COMMANDS:
        return None
    pairs = dict(pair.split("=", 1) for pair in rest.strip().split(",") if "=" in pair)
    return Command(name, {key: decoded(value, PROPERTY) for key, value in pairs.items()}, decoded(trimmed[end + 2 :], DATA))


def commands_of(output: str) -> list[Command]:
    """The commands in the output of a step."""
    return [command for line in output.splitlines() if (command := command_of(line))]


def decoded(text: str, codes: tuple[tuple[str, str], ...]) -> str:
    """The text with the codes replaced by their characters, in this order, as the runner does."""
    for code, char in codes:
        text = text.replace(code, char)
    return text
