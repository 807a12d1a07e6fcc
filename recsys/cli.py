"""The command line: the one door above all rooms.

The commands are in `cli_data`, `cli_learning`, `cli_lists` and `cli_whole`. Everything of ours is
imported inside them, so that `recsys --help` is there at once, and so that publish, rollback,
releases and serve need the base install alone (serve also its extra).
"""

from __future__ import annotations

import typer

from recsys import cli_data, cli_learning, cli_lists, cli_whole
from recsys.errors import RecsysError
from recsys.terminal import refusal

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None,  # rich: 0.2 s more for help
    pretty_exceptions_enable=False,
    help="Personalized recommendations that understand item text: learn, rank, publish, serve.",
)  # fmt: skip
for part in (cli_data, cli_learning, cli_lists, cli_whole):
    app.add_typer(part.commands)


def main() -> None:
    """Run the command line; what a user can get wrong is said in words, with exit code 2.

    A release that failed a gate is 3.
    """
    from serving.errors import ServingError

    try:
        app(prog_name="recsys")
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C
            typer.echo("stopped; the same command again uses what was finished", err=True)
        raise
    except Exception as error:  # `refusal` knows the users' mistakes; the others go on as they are
        message = refusal(error, (RecsysError, ServingError))
        if message is None:
            raise
        typer.echo(f"recsys: {message}", err=True)
        raise SystemExit(getattr(error, "exit_code", 2)) from None


if __name__ == "__main__":
    main()
