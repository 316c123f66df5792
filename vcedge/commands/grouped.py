"""A command whose help stands in groups, and that knows what was typed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

RESEARCH = "For research: parts of the model, exchanged or switched"
"""Heading of the composition's switches, which stand last."""
_TYPED = "vcedge.typed"


class GroupedCommand(click.Command):
    """A command with headings in its help.

    Args:
        groups: names of parameters under each heading, in their order; what no group names, such
            as ``--help``, ends the first.
    """

    def __init__(self, *arguments: Any, groups: Mapping[str, Sequence[str]], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.groups = groups

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember what was typed, and read it."""
        ctx.meta[_TYPED] = list(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group."""
        records = {
            param.name: record
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            and (record := param.get_help_record(ctx)) is not None
        }
        grouped = [[records.pop(name) for name in names] for names in self.groups.values()]
        grouped[0] += records.values()
        for heading, group in zip(self.groups, grouped, strict=True):
            with formatter.section(heading):
                formatter.write_dl(group)


def typed_options(names: Collection[str]) -> list[str]:
    """Repeat options of the running ``GroupedCommand`` as they were typed, their values unread.

    Args:
        names: of the parameters that may be repeated; whatever else was typed is left out.
    """
    context = click.get_current_context()
    parser = context.command.make_parser(context)
    values, _, order = parser.parse_args(list(context.meta[_TYPED]))
    repeated: list[str] = []
    for param in dict.fromkeys(order):
        if isinstance(param, click.Option) and param.name in names:
            value = values[param.name]
            if param.is_flag:
                repeated.append(param.opts[0] if value else param.secondary_opts[0])
            else:
                for given in value if param.multiple else [value]:
                    repeated += [param.opts[0], str(given)]
    return repeated
