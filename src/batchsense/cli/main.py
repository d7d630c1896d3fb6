"""The entry point: register the commands, map every ending to its exit code.

0 ok, 1 the answer is "no", 2 usage, 3 bad data, 70 a bug of ours, 130 interrupted, 141 the reader
of the pipe is gone. Without this wrapper a crash, a closed pipe and an abort would all end with 1,
which here means "no".
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from batchsense import __version__
from batchsense.cli import config
from batchsense.cli.commands import SUMMARIES, command_of
from batchsense.cli.console import verbosity
from batchsense.cli.run import EXIT_BUG, EXIT_DATA, EXIT_OK, EXIT_USAGE, exit_code
from batchsense.errors import BatchsenseError, OutputError, RequestError

_FLAGS_ANYWHERE = {"-v", "-vv", "-q", "--verbose", "--quiet", "--debug"}


class _Commands(TyperGroup):
    """The commands, each made when it is asked for: help needs no more than one line of each."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in SUMMARIES:
            # The names from which typer draws its "did you mean".
            self.commands = dict.fromkeys(SUMMARIES)  # type: ignore[assignment]
            return None
        if self.commands.get(cmd_name) is None:
            command = command_of(cmd_name)
            _set_by_environment(cmd_name, command)
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def _set_by_environment(name: str, command: Any) -> None:
    for parameter in command.params:
        parameter.show_envvar = False
        long = [option[2:] for option in parameter.opts if option.startswith("--")]
        if long and long[0] != "help":
            parameter.envvar = f"batchsense_{name}_{long[0]}".replace("-", "_").upper()


app = typer.Typer(
    name="batchsense",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "BATCHSENSE",
        "max_content_width": 100,
    },
    epilog=(
        "Every option can also be set by environment (BATCHSENSE_PLAN_SEED=7) or in a TOML file "
        "(--config). Exit codes: 0 ok, 1 the answer is no, 2 usage, 3 bad data, 70 a bug of ours."
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"batchsense {__version__}")
        raise typer.Exit(EXIT_OK)


@app.callback()
def batchsense(
    context: typer.Context,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Say more on stderr.", show_envvar=False),
    ] = 0,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Say only errors, and the answer in one line.", show_envvar=False
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", show_envvar=False)
    ] = False,
    config_file: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="TOML file with a table per command.",
            show_envvar=False,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=_print_version,
            is_eager=True,
            show_envvar=False,
        ),
    ] = False,
) -> None:
    """Every decision about batches: the ones you choose and the ones you suffer."""
    verbosity.level = -1 if quiet else verbose
    verbosity.debug = debug
    if config_file is not None:
        context.default_map = config.read(config_file, context.command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(_flags_first(words), standalone_mode=False, prog_name="batchsense")
    except (OutputError, RequestError) as error:
        command = next((word for word in words if word in SUMMARIES), "")
        text = f"batchsense: {error}\nTry 'batchsense {command} --help'."
        return _fail("" if error.told else text, EXIT_USAGE)
    except BatchsenseError as error:
        return _fail("" if error.told else f"batchsense: {error}", exit_code(error))
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except OSError as error:
        return _fail(f"batchsense: {_fault_of_the_system(error)}", EXIT_DATA)
    except MemoryError:
        return _fail(
            "batchsense: there is not enough memory; take fewer features or specimens, or a "
            "machine with more memory",
            EXIT_DATA,
        )
    except SystemExit as stop:  # a closed pipe, or a --help shown by typer itself
        return stop.code if isinstance(stop.code, int) else EXIT_BUG
    except Exception as error:
        if _is_usage(error):
            return _usage(error)
        return _bug(error)
    return code if isinstance(code, int) else EXIT_OK


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.exit(run())


def _flags_first(words: list[str]) -> list[str]:
    """Let -v, -q and --debug stand anywhere, as users expect of flags that suit every command."""
    end = words.index("--") if "--" in words else len(words)
    flags = [word for word in words[:end] if word in _FLAGS_ANYWHERE]
    return flags + [w for w in words[:end] if w not in _FLAGS_ANYWHERE] + words[end:]


def _fault_of_the_system(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {what}" if error.filename else f"the system refused: {what}"


def _is_usage(error: Exception) -> bool:
    """Whether typer's own copy of click raised this because of how it was called."""
    return any(cls.__name__ == "ClickException" for cls in type(error).__mro__)


def _usage(error: Exception) -> int:
    """Print a usage error as plain lines: boxes wrap paths and defeat grep."""
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return EXIT_USAGE
    lines = [f"batchsense: {message}"]
    if context is not None:
        lines.append(f"Try '{context.command_path} --help'.")
    return _fail("\n".join(lines), EXIT_USAGE)


def _bug(error: Exception) -> int:
    if verbosity.debug:
        traceback.print_exc()
    return _fail(
        f"batchsense: internal error: {type(error).__name__}: {error}. "
        "This is a bug in batchsense; run again with --debug and report it.",
        EXIT_BUG,
    )


def _fail(text: str, code: int) -> int:
    if verbosity.debug and sys.exc_info()[0] is not None and code != EXIT_BUG:
        traceback.print_exc()
    if text:
        print(text, file=sys.stderr)
    return code
