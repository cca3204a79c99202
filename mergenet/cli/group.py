"""How the command line behaves, whatever the command: plug-ins, errors and help.

Commands of other packages are entry points of the group "mergenet.commands". Their modules must be cheap to import,
because `mergenet --help` loads them to show their first line of help.
"""

import errno
import os
from collections import defaultdict
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import click

from mergenet.errors import TrainingDiverged, UserError, visible
from mergenet.records.command import WORDS
from mergenet.records.packages import PACKAGES, package_problem, package_problems

if TYPE_CHECKING:
    from mergenet.config.json_schema import Field

GROUP = "mergenet.commands"


class Failure(click.ClickException):
    """Exits with `error: ...` on stderr, one line per problem."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.__dict__["exit_code"] = exit_code  # type checkers know it as a class variable; this instance has its own

    def show(self, file: Any = None) -> None:
        title = "error" if worker() == "0" else f"error (worker {worker()})"
        for line in self.message.splitlines():
            click.echo(f"{title}: {visible(line)}", file=file, err=True)


def worker() -> str:
    """Rank of this process among those that torchrun started, from "0". A RANK without a WORLD_SIZE is left over."""
    return os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"


def usage_failure(error: click.UsageError, ctx: click.Context | None) -> click.ClickException:
    """click's four-line usage error as one line.

    >>> usage_failure(click.UsageError("Missing argument 'RUN'."), None).message
    "missing argument 'RUN'"
    """
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        return error  # `mergenet` alone shows the help
    text = " ".join(error.format_message().split()).removesuffix(".")
    where = error.ctx or ctx
    see = f" (see {where.command_path} --help)" if where is not None else ""
    return Failure(text[:1].lower() + text[1:] + see, 2)


class CommandGroup(click.Group):
    """A group with plug-in commands; errors that users cause are printed as lines, not as tracebacks.

    Exit codes: 2 for what the user can mend, 1 for a training that diverged, 130 after Ctrl-C.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(plugins())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        point = plugins().get(cmd_name)
        return own if own is not None or point is None else load(point)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> click.Context:
        words = list(args)  # parsing empties it
        try:
            context = super().make_context(info_name, args, *rest, **more)
        except click.UsageError as error:
            raise usage_failure(error, None) from error
        context.meta[WORDS] = words
        return context

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise usage_failure(error, ctx) from error
        except UserError as error:
            raise Failure(str(error), 2) from error
        except TrainingDiverged as error:
            raise Failure(str(error), 1) from error
        except KeyboardInterrupt:
            raise Failure("interrupted", 130) from None
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:
                raise  # a closed pipe, which click handles quietly, or an error without a file to name
            raise Failure(f"{error.filename} could not be used: {error.strerror}", 2) from error


def plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def load(point: EntryPoint) -> click.Command:
    """The plug-in's command, or one that only reports why the plug-in cannot be used."""
    package = point.value.partition(".")[0]
    if package in PACKAGES and (problem := package_problem(package)) is not None:
        return _refused(point, problem, 2)
    try:
        command = point.load()
    except Exception as error:
        if package in PACKAGES and (problems := package_problems()):  # of another package, which this one needs
            return _refused(point, problems[0], 2)
        return _broken(point, f"{type(error).__name__}: {error}")
    return command if isinstance(command, click.Command) else _broken(point, "it is not a click command")


def _broken(point: EntryPoint, reason: str) -> click.Command:
    reason = " ".join(reason.split())[:200]
    failed = f"could not be loaded: {reason}"
    return _refused(point, f"the command {point.name} ({point.value}) {failed}", 1, failed)


def _refused(point: EntryPoint, message: str, exit_code: int, listed: str | None = None) -> click.Command:
    """A command that only reports what is wrong. listed: a short form of that for the list of commands."""

    def callback(**_: Any) -> None:
        raise Failure(message, exit_code)

    arguments: list[click.Parameter] = [click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)]
    settings = {"ignore_unknown_options": True, "help_option_names": []}
    short = f"({listed or message})"
    return click.Command(point.name, settings, callback, arguments, short, add_help_option=False)


class TrainCommand(click.Command):
    """A command whose help ends with every setting of a configuration."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        for title, rows in field_sections().items():
            with formatter.section(title):
                formatter.write_dl(rows, col_max=26)


def field_sections() -> dict[str, list[tuple[str, str]]]:
    """Section of the configuration -> (key, description with type and default) of its settings.

    The target's sections stand for the source's as well, where the two agree.
    """
    from mergenet.config.json_schema import field_table

    table = {field.path: field for field in field_table()}
    sections: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for field in table.values():
        twin = table.get(field.path.replace("source.", "target.", 1))
        if field.path.startswith("source.") and twin is not None and twin[1:] == field[1:]:
            continue
        section, _, key = field.path.rpartition(".")
        sections[_title(section)].append((key, _describe(field)))
    return dict(sections)


def _title(section: str) -> str:
    if not section:
        return "Settings: keys of CONFIG, or --set KEY=VALUE"
    shared = section == "target" or section.startswith("target.")
    return f"Settings {section}.*" + (f"; the same under {section.replace('target', 'source')}.*" if shared else "")


def _describe(field: "Field") -> str:
    default = field.default if field.default == "required" else f"default {field.default}"
    return f"{field.description}  [{field.type}; {default}]"
