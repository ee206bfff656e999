"""Canonical documents: one dumper, one digest, one strict reader for everything that planner writes or reads."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from planner.diagnostics import Diagnostic
from planner.errors import InputError, PlannerError

# Generous for any real inventory or matrix, far below what an alias bomb expands to.
YAML_NODES_MAX = 2_000_000
YAML_ALIASES_MAX = 1_000

ModelT = TypeVar("ModelT", bound=BaseModel)

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(BaseModel):
    """Base of input that people write: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Evidence(BaseModel):
    """Base of what nodes answer: a newer minor version's extra keys are tolerated and dropped."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


def canonical_json(value: object) -> str:
    """Return the one JSON text of ``value``: sorted keys, two-space indent, final newline."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def digest(value: object) -> str:
    """Return ``sha256:<hex>`` of the compact canonical JSON of ``value`` (or of bytes as they are)."""
    data = value if isinstance(value, bytes) else json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dump_model(model: BaseModel) -> dict[str, Any]:
    """Return a model as plain JSON values, aliases applied (``schema``), ``None`` left out."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class _UniqueKeyLoader(_Loader):  # type: ignore[misc]  # chosen at run time: C loader where libyaml is there
    """Safe loader that refuses duplicate keys, which YAML would silently let win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float, bool)):
                if key in seen:
                    raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
                seen.add(key)
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return result


def parse_yaml(text: str, *, name: str, error: type[PlannerError] = InputError) -> Any:
    """Parse one YAML document safely.

    Args:
        text: The text; at most one document.
        name: Shown in errors, usually the path as the user wrote it.
        error: Class to raise.

    Raises:
        PlannerError: (``error``) syntax error, duplicate key or alias bomb; names file and line.
    """
    try:
        _refuse_bombs(text)
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  # derived from the safe loader
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise error(Diagnostic(code="bad-yaml", subject=where, summary=f"cannot parse YAML: {exc.problem}",
                               hint=f"correct line {mark.line + 1 if mark else 1} of {name}")) from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise error(Diagnostic(code="bad-yaml", subject=name, summary=f"cannot parse YAML: {exc}",
                               hint=f"correct {name}")) from exc


def _refuse_bombs(text: str) -> None:
    """Stop alias bombs before anything is built: events are cheap, objects are not."""
    aliases = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_Loader), start=1):
        aliases += isinstance(event, yaml.AliasEvent)
        if aliases > YAML_ALIASES_MAX or nodes > YAML_NODES_MAX:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem="too many aliases or nodes", problem_mark=mark)


def line_of(text: str, path: tuple[object, ...]) -> int | None:
    """Return the 1-based line where the value at ``path`` starts in YAML ``text``, or None when not found."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return None
    for step in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next((v for k, v in node.value if getattr(k, "value", None) == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = node.value[step]
        if found is None:
            break
        node = found
    return None if node is None else int(node.start_mark.line) + 1


def validate(model: type[ModelT], value: Any, *, name: str, text: str | None = None,
                           error: type[PlannerError] = InputError) -> ModelT:
    """Validate plain values against a model; every complaint names file and, where known, line.

    Raises:
        PlannerError: (``error``) with one diagnostic per complaint, in document order.
    """
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise error(*(_complaint(item, name, text) for item in exc.errors())) from exc


def _complaint(item: Any, name: str, text: str | None) -> Diagnostic:
    line = line_of(text, item["loc"]) if text is not None else None
    where = f"{name}:{line}" if line else name
    path = ".".join(str(p) for p in item["loc"]) or "(top level)"
    message = item["msg"].removeprefix("Value error, ")
    return Diagnostic(code="bad-document", subject=where, summary=f"{path}: {message}",
                      hint=f"correct {path} in {name}")
