# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl`: one command a module, imported when it is called, so that starting takes no time."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Final

import click
from typing_extensions import override

_COMMANDS: Final = MappingProxyType(
    {
        "agents": "Wait for the agents of all nodes, or take them away.",
        "classify": "Match packets against rules in a wildcard map in the kernel.",
        "compile": "Show the addresses and entries that a node gets.",
        "dump": "Show what is in force in this node's kernel.",
        "simulate": "Answer who may talk to whom, from manifests alone.",
        "status": "Show whether policies and filters are in force on all nodes.",
        "top": "Show rules by packets a second, live.",
    }
)


class _LazyGroup(click.Group):
    """Finds `NAME_command` in the module `wildcard_operator.cli.NAME`."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"wildcard_operator.cli.{cmd_name}")
        command = getattr(module, f"{cmd_name}_command")
        return command if isinstance(command, click.Command) else None

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wildcard-operator")
def main() -> None:
    """Look into policies, filters and wildcard maps."""
