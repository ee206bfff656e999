"""What planner keeps on a managed node: the lease that says who may act, and the marks that each act leaves.

Both are JSON files under one directory, replaced whole (temporary file, fsync, rename), so that a power cut leaves
either the old text or the new one.
"""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import contextlib
import datetime
import fcntl
import json
import os
import tempfile

STATE_DIR = "/var/lib/planner"


class LeaseError(Exception):
    """This run may not act on this node; the message says who may, and what to do."""


def lease_arguments():
    """Return the argument spec that every acting module shares."""
    return {
        "rollout": {"type": "str", "required": True},
        "owner": {"type": "str", "required": True},
        "token": {"type": "int", "default": 0},
        "machine_id": {"type": "str", "default": ""},
        "state_dir": {"type": "path", "default": STATE_DIR},
    }


def now():
    """Return the node's time, UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()


def read_first_line(path):
    """Return the first line of a file, or "" when it cannot be read."""
    try:
        with open(path) as handle:
            return handle.readline().strip()
    except OSError:
        return ""


def boot_id():
    """Return the id of this boot; it changes with every boot."""
    return read_first_line("/proc/sys/kernel/random/boot_id")


def free_mib(path):
    """Return what is free on a directory's file system, in MiB; None when there is no such directory."""
    if not os.path.isdir(path):
        return None
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize / 2**20


def machine_id():
    """Return the machine's id, "" when it has none."""
    return read_first_line("/etc/machine-id")


def read_json(path):
    """Return the object in a file; ``{}`` when there is no such file.

    Raises:
        LeaseError: The file is there but is not a JSON object: nobody can tell who may act.
    """
    try:
        with open(path) as handle:
            value = json.load(handle)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise LeaseError("%s cannot be read (%s); look at it, then remove it" % (path, exc)) from exc
    if not isinstance(value, dict):
        raise LeaseError("%s is not what planner writes; look at it, then remove it" % path)
    return value


def write_json(path, value):
    """Replace a file by the JSON of a value, whole or not at all, durable when this returns."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".planner-")
    with os.fdopen(handle, "w") as stream:
        json.dump(value, stream, sort_keys=True, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(state_dir):
    """Keep other planner modules on this node out while a file is read and replaced."""
    os.makedirs(state_dir, mode=0o755, exist_ok=True)
    with open(os.path.join(state_dir, ".lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def decide_lease(lease, rollout, owner, token):
    """Return the lease this caller holds from now on.

    The same rollout re-enters: with the same owner and the same token, or with a newer token (a take-over). Everything
    else is refused.

    Args:
        lease: What is on the node, ``{}`` for none.
        rollout: Caller's rollout.
        owner: Who calls, for people: user and host.
        token: Fencing token; grows with every take-over.

    Raises:
        LeaseError: Another rollout or owner holds the lease, or the caller's token is older than the lease's.
    """
    if lease and lease.get("rollout") != rollout:
        raise LeaseError("rollout %s of %s holds this node since %s; finish it, or: planner unlock" % (
            lease.get("rollout"), lease.get("owner"), lease.get("since")))
    held = int(lease.get("token", -1)) if lease else -1
    if token < held:
        raise LeaseError("fencing token %d is older than the node's %d: %s has taken over" % (
            token, held, lease.get("owner")))
    if lease and token == held and lease.get("owner") != owner:
        raise LeaseError("%s holds this node for the same rollout since %s; to take over, pass planner_token=%d" % (
            lease.get("owner"), lease.get("since"), held + 1))
    return lease if token == held else {"rollout": rollout, "owner": owner, "token": token, "since": now()}


def hold_lease(params, check_mode, must_exist):
    """Check, take or renew the lease for a module's parameters; return (lease, changed).

    Raises:
        LeaseError: As ``decide_lease``; or the machine is not the one that was planned for; or ``must_exist`` and
            nobody holds the lease.
    """
    expected, actual = params["machine_id"], machine_id()
    if expected and expected != actual:
        raise LeaseError("this machine's id is %s, the plan was made for %s: another machine answers to this name" % (
            actual or "missing", expected))
    path = os.path.join(params["state_dir"], "lease.json")
    if check_mode:
        return decide_lease(read_json(path), params["rollout"], params["owner"], params["token"]), False
    with locked(params["state_dir"]):
        lease = read_json(path)
        if must_exist and not lease:
            raise LeaseError("nobody holds this node; run the preflight phase first")
        wanted = decide_lease(lease, params["rollout"], params["owner"], params["token"])
        if wanted != lease:
            write_json(path, wanted)
        return wanted, wanted != lease


def release_lease(params):
    """Give the lease back; return whether there was one of this rollout."""
    path = os.path.join(params["state_dir"], "lease.json")
    with locked(params["state_dir"]):
        lease = read_json(path)
        if lease.get("rollout") != params["rollout"]:
            return False
        decide_lease(lease, params["rollout"], params["owner"], params["token"])
        os.unlink(path)
        return True


def read_marks(params):
    """Return the marks of this rollout."""
    return read_json(os.path.join(params["state_dir"], "marks.json")).get(params["rollout"], {})


def write_mark(params, key, value):
    """Set one mark of this rollout (``None`` removes it); return whether anything changed."""
    path = os.path.join(params["state_dir"], "marks.json")
    with locked(params["state_dir"]):
        marks = read_json(path)
        mine = dict(marks.get(params["rollout"], {}))
        if mine.get(key) == value:
            return False
        if value is None:
            mine.pop(key)
        else:
            mine[key] = value
        write_json(path, dict(marks, **{params["rollout"]: mine}))
        return True


def step_turn(marks, steps, step):
    """Tell whether a step may begin on this node, and whether it is behind us.

    Args:
        marks: The rollout's marks.
        steps: All steps in order, each with ``id``, ``disruption`` and ``quick_gate``.
        step: Id of the step in question.

    Returns:
        ``(passed, unready)``: whether a later step has begun (then this one must not be touched again: its versions
        may have been replaced since), and why an earlier step is not finished yet, one line each.
    """
    order = [s["id"] for s in steps]
    place = order.index(step)
    passed = any(later in marks for later in order[place + 1:])
    unready = []
    for earlier in [] if passed else steps[:place]:
        name = earlier["id"]
        if marks.get(name, {}).get("state") != "done":
            unready.append("step %s is not done" % name)
        elif earlier["disruption"] in ("reboot", "module-reload") and name + "-boot" not in marks:
            unready.append("the node has not come back from the %s of step %s" % (earlier["disruption"], name))
        elif earlier["quick_gate"] and marks.get(name + "-gate", {}).get("verdict") != "pass":
            unready.append("the gate after step %s has not passed" % name)
    return passed, unready
