"""The command line: a table of verbs, imported only when used, and the one place that turns errors into exit codes."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any, Final, NamedTuple

import click

from planner import __version__

# More than a plan of a small fleet makes, few enough that garbage in cycles stays below some tens of megabytes.
_OBJECTS_BETWEEN_COLLECTIONS = 400_000


class Verb(NamedTuple):
    """Where a command lives, and its line in ``--help`` (so that help imports nothing)."""

    module: str
    attribute: str
    summary: str


VERBS: Final[dict[str, Verb]] = {
    "discover": Verb("planner.cli.facts", "discover", "Read what every node runs; write facts.json."),
    "doctor": Verb("planner.cli.facts", "doctor",
                   "Check access (SSH, become, mirror, scheduler, Python) before anything else."),
    "matrix": Verb("planner.cli.matrix", "matrix", "Look into the compatibility matrices: lint, show."),
    "check": Verb("planner.cli.check", "check", "Judge a node, a fleet or a target; three verdicts with sources."),
    "explain": Verb("planner.cli.explain", "explain_command", "Say what is behind a message or a finding."),
    "diff": Verb("planner.cli.differ", "diff_command", "Show versions side by side; say which differences matter."),
    "recommend": Verb("planner.cli.recommend", "recommend_command",
                      "Recommend the best stack that each class of nodes can reach."),
    "plan": Verb("planner.cli.plan", "plan", "Search safe paths, schedule them, write the bundle."),
    "show": Verb("planner.cli.show", "show", "Show a bundle's plan."),
    "simulate": Verb("planner.cli.simulate", "simulate", "Play a rollout many times with failures; print the spread."),
    "apply": Verb("planner.cli.apply", "apply", "Run a bundle: staging and canary first, then batches."),
    "status": Verb("planner.cli.apply", "status", "Tell where a rollout stands."),
    "pause": Verb("planner.cli.apply", "pause", "Stop a rollout after what is in flight."),
    "approve": Verb("planner.cli.apply", "approve", "Record that a person has seen the canaries."),
    "resume": Verb("planner.cli.apply", "resume", "Go on with a rollout, also after a crash."),
    "retry": Verb("planner.cli.apply", "retry", "Let a failed node try again from its gate."),
    "skip": Verb("planner.cli.apply", "skip", "Leave a node out of the rest of the rollout."),
    "abort": Verb("planner.cli.apply", "abort", "Give a rollout up for good, and say what is left."),
    "unlock": Verb("planner.cli.apply", "unlock", "Take over a rollout whose controller is gone."),
    "rehearse": Verb("planner.cli.rehearse", "rehearse", "Run a bundle on lab nodes that mirror the plan."),
    "gate": Verb("planner.cli.gate", "gate", "Prove that a node's GPUs work: run, baseline, compare."),
    "lab": Verb("planner.cli.lab", "lab", "Real hosts in namespaces of this machine, with stand-in GPUs."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use; ``planner --help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order a user meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one verb, or None when there is no such verb."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command: click.Command = getattr(importlib.import_module(verb.module), verb.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of verbs without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])


EPILOG = """\b
Start here:
  planner doctor   -i inventories/prod
  planner discover -i inventories/prod --out facts.json
  planner plan     --facts facts.json --target target.yml --out bundle/
  planner apply    bundle/ --canary
"""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="planner")
def cli() -> None:
    """Upgrade planner and rollout orchestrator for fleets of NVIDIA GPU machines."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    if not __debug__:
        sys.exit("planner refuses to run under python -O: its own consistency checks would be dropped")
    # No plugin of pydantic is wanted, and looking for some reads every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Start-up makes many objects that live to the end: looking through them again and again finds nothing to free.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 50)
    for name in ("stdout", "stderr"):       # closed by whoever started this: what is said there is said to nobody
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # to the end
    words = sys.argv[1:] if argv is None else argv
    if words[:1] != ["plan"]:
        code = invoke(words)
        gc.freeze()     # at its end the interpreter would look twice for garbage; the process gives back all it has
        sys.exit(code)
    from planner.cli.quick import end_at_once, import_search_part_of_networkx

    import_search_part_of_networkx()
    end_at_once(invoke(words))


def invoke(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors are printed, never raised."""
    try:
        result: Any = cli.main(args=argv, prog_name="planner", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except click.exceptions.Exit as exc:
        return int(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        return int(exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted; go on with: planner resume BUNDLE\n")
        return 130
    except BrokenPipeError:
        return 0
    except OSError as exc:      # a full disk, a folder that may not be read: the system's own words tell it
        place = f": {exc.filename}" if exc.filename else ""
        sys.stderr.write(f"error: {exc.strerror or exc}{place}\n  nothing more was done; mend this and run it again\n")
        return 1
    except Exception as exc:
        from planner.errors import PlannerError  # kept out of the start-up path of --help
        from planner.report.console import print_diagnostics

        if not isinstance(exc, PlannerError):
            raise
        print_diagnostics(exc.diagnostics)
        return int(exc.exit_code)
