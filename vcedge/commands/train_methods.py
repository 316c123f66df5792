"""``vcedge train``: which methods there are, each opened when it is needed."""

from __future__ import annotations

import importlib

import click

METHODS = {
    "base": "An encoder, by colourisation of unlabelled video.",
    "mer": "The same with motion enhancement and value extraction.",
    "dmp": "The same with a gated memory and three fused predictions.",
    "srnet": "SRNet, on pictures and videos with masks.",
    "prompts": "The network of first masks, from boxes and clicks.",
    "self-labels": "No network: masks for unlabelled videos, for srnet to learn from.",
}


class _Methods(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in METHODS:
            return None
        try:
            group: click.Group = importlib.import_module("vcedge.commands.train").command
        except ModuleNotFoundError:
            # A shell that completes a line wants names, and no message.
            if ctx.resilient_parsing:
                return click.Command(cmd_name, help=METHODS[cmd_name])
            raise
        return group.get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Methods"):
            formatter.write_dl(list(METHODS.items()))


@click.group(name="train", cls=_Methods, subcommand_metavar="METHOD [ARGS]...")
def command() -> None:
    """Train on unlabelled video (base, mer, dmp) or on masks (srnet, prompts); needs PyTorch.

    Several processes train together when started by torchrun.
    """
