"""The page of all commands: what each does, and every option, read from the parser of the command line."""

import argparse
from collections.abc import Iterator

from seamlessalign.cli import command_parser
from seamlessalign.pipelines.documents.configurations import CONFIGURATIONS, ESCAPED, WRITTEN_BY

Subparsers = argparse._SubParsersAction


def command_page() -> str:
    """docs/commands.md."""
    parser = command_parser()
    commands = commands_of(parser)
    pieces = [WRITTEN_BY, "# Every command", _flat(parser.description or "")]
    pieces.append("\n".join(f"- [`{name}`](#{name}): {text}" for name, (text, _) in commands.items()))
    pieces += ["Before the command:", _options(parser), _flat(parser.epilog or "")]
    for name, (text, one) in commands.items():
        pieces += [f"## {name}", f"{text[0].upper()}{text[1:]}.", f"```text\n{_usage(one)}\n```"]
        for group in one._action_groups:
            table = _options(one, group)
            if table:
                pieces += [*_about(group), table]
        pieces += [f"{_flat(part)}" for part in (one.description, one.epilog) if part]
        pieces += list(_configurations(name))
    return "\n\n".join(pieces) + "\n"


def commands_of(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Commands by name, each with its line of help and its parser."""
    (found,) = [action for action in parser._actions if isinstance(action, Subparsers)]
    texts = {action.dest: action.help or "" for action in found._choices_actions}
    return {name: (texts[name], one) for name, one in found.choices.items()}


def _usage(parser: argparse.ArgumentParser) -> str:
    """How the command is written, on lines of 110 characters at most, whatever the terminal."""
    formatter = argparse.HelpFormatter(parser.prog, width=110)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().rstrip()


def _about(group: argparse._ArgumentGroup) -> list[str]:
    """The title of a group of options; argparse's own two say nothing."""
    if group.title in ("positional arguments", "options", None):
        return []
    text = f"{group.title[0].upper()}{group.title[1:]}"
    return [f"{text}: {group.description}" if group.description else f"{text}:"]


def _options(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup | None = None) -> str:
    """A table of arguments: all but --help, or those of a group; empty where there are none."""
    actions = parser._actions if group is None else group._group_actions
    shown = [action for action in actions if not isinstance(action, argparse._HelpAction | Subparsers)]
    cells = [(_name(action), _help(parser, action)) for action in shown if action.help != argparse.SUPPRESS]
    rows = [f"| {_cell(name)} | {_cell(text)} |" for name, text in cells]
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


def _cell(text: str) -> str:
    """A text in a table: a | in it would end the cell, even within code."""
    return text.replace("|", ESCAPED)


def _name(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{option} {value}`" if value else f"`{option}`" for option in action.option_strings)


def _value(action: argparse.Action) -> str:
    """What stands behind an option, or in the place of an argument."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    return {"*": f"[{name} …]", "+": f"{name} …", "?": f"[{name}]"}.get(str(action.nargs), name)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    needed = "**needed** " if action.option_strings and action.required else ""
    return f"{needed}{_flat(text)}".strip()


def _flat(text: str) -> str:
    return " ".join(text.split())


def _configurations(command: str) -> Iterator[str]:
    """Where the keys of a command's configuration are."""
    named = {
        name: one
        for name, one in CONFIGURATIONS.items()
        if not one.is_file_of_a_run and one.command.split()[0] == command
    }
    if named:
        links = ", ".join(f"[{name}](configuration.md#{name})" for name in named)
        yield f"Keys of its configuration: {links}."
