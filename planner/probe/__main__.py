"""Entry of the probe: ``facts``, ``gate``, ``nccl``, ``canary``, ``pid``; one JSON document on standard output.

Kept readable by interpreters older than the probe supports, so that they are refused by name and not by a syntax error.
"""

import json
import sys
from typing import Any, List, Optional, Tuple

OLDEST = (3, 8)
USAGE = """usage: probe facts [--request JSON|@FILE]
       probe gate [--request JSON|@FILE] [--profile quick|standard|deep] [--host NAME] [--nonce HEX]
       probe nccl --request JSON|@FILE
       probe canary --request JSON|@FILE
       probe pid PID"""


def main(argv: "Optional[List[str]]" = None) -> int:
    """Run one sub-command and return the exit status: 0 answered, 1 failed, 2 wrong use, 3 interpreter too old."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if sys.version_info < OLDEST:
        sys.stderr.write("probe: Python %d.%d is too old, %d.%d or newer is needed (%s)\n"
                         % (sys.version_info[0], sys.version_info[1], OLDEST[0], OLDEST[1], sys.executable))
        return 3
    try:
        command, request = _parse(arguments)
    except ValueError as exc:
        sys.stderr.write("probe: %s\n%s\n" % (exc, USAGE))
        return 2
    document = _run(command, request)
    sys.stdout.write(json.dumps(document, sort_keys=True) + "\n")
    sys.stdout.flush()
    return 0


def _run(command: str, request: "Any") -> "Any":
    if command == "facts":
        from .observe import observe  # nothing is imported before the interpreter was checked

        return observe(request)
    if command == "pid":
        from .pid import read_pid

        return read_pid(request)
    if command == "nccl":
        from .rank import run_rank

        return run_rank(request)
    if command == "canary":
        from .canary import answer

        return answer(request)
    from .gate import run_gate

    return run_gate(request)


def _parse(arguments: "List[str]") -> "Tuple[str, Any]":
    """Return (sub-command, request). Raises ValueError with what is wrong."""
    if not arguments or arguments[0] not in ("facts", "gate", "nccl", "canary", "pid"):
        raise ValueError("no sub-command" if not arguments else "unknown sub-command %r" % arguments[0])
    command, rest = arguments[0], arguments[1:]
    if command == "pid":
        if len(rest) != 1 or not rest[0].isdigit():
            raise ValueError("pid takes one number")
        return command, int(rest[0])
    if not rest:
        return command, {}
    if rest[0] != "--request" or len(rest) < 2:
        if command != "gate":
            raise ValueError("unexpected argument %r" % rest[0])
        return command, _options(rest)
    if len(rest) > 2 and command != "gate":
        raise ValueError("unexpected argument %r" % rest[2])
    request = _read(rest[1])
    request.update(_options(rest[2:]))
    return command, request


def _options(rest: "List[str]") -> "Any":
    from .gate import by_hand

    return by_hand(rest)


def _read(text: str) -> "Any":
    """Return the object that JSON text, or the file after an @, holds. Raises ValueError."""
    if text.startswith("@"):
        try:
            with open(text[1:], encoding="utf-8") as stream:
                text = stream.read()
        except OSError as exc:
            raise ValueError("cannot read the request: %s" % exc) from exc
    try:
        request = json.loads(text)
    except ValueError as exc:
        raise ValueError("the request is not JSON: %s" % exc) from exc
    if not isinstance(request, dict):
        raise ValueError("the request is not an object")
    return request


if __name__ == "__main__":
    sys.exit(main())
