"""Canonical documents: one dumper, one digest, one strict reader for everything that planner writes or reads."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, TypeVar

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

    # Built on first use: verbs that only load the cached index never pay for the validators.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class Evidence(BaseModel):
    """Base of what nodes answer: a newer minor version's extra keys are tolerated and dropped."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, defer_build=True)


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


class _TextNumberLoader(_UniqueKeyLoader):
    """Leaves numbers and dates as they are written: 12.10 is a version, not 12.1."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers
                if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
        for first, resolvers in _UniqueKeyLoader.yaml_implicit_resolvers.items()
    }


def parse_yaml(text: str, *, name: str, error: type[PlannerError] = InputError, numbers_as_text: bool = False) -> Any:
    """Parse one YAML document safely.

    Args:
        text: The text; at most one document.
        name: Shown in errors, usually the path as the user wrote it.
        error: Class to raise.
        numbers_as_text: Keep numbers as they are written, for documents that hold versions.

    Raises:
        PlannerError: (``error``) syntax error, duplicate key or alias bomb; names file and line.
    """
    try:
        _refuse_bombs(text)
        return yaml.load(text, Loader=_TextNumberLoader if numbers_as_text else _UniqueKeyLoader)  # noqa: S506  # derived from the safe loader
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
    """Return the 1-based line of the key or item at ``path`` in YAML ``text``, or of the nearest one above it.

    None when the text holds no YAML.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError:
        return None
    start = node
    for step in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if getattr(k, "value", None) == str(step)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step], node.value[step])
        if found is None:
            break
        start, node = found
    return None if start is None else int(start.start_mark.line) + 1


def validate(model: type[ModelT], value: Any, *, name: str, text: str | None = None,
                           error: type[PlannerError] = InputError) -> ModelT:
    """Validate plain values against a model; every complaint names file and, where known, line.

    Raises:
        PlannerError: (``error``) with one diagnostic per complaint, in document order.
    """
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise error(*(_complaint(item, _written(item["loc"], value), name, text) for item in exc.errors())) from exc


def _written(path: tuple[str | int, ...], value: Any) -> tuple[str | int, ...]:
    """Return a complaint's path without pydantic's own words for the forms that a value may have."""
    kept = []
    for number, step in enumerate(path):
        if isinstance(value, dict) and step not in value and number < len(path) - 1:
            continue
        if not isinstance(value, (dict, list)):
            break
        kept.append(step)
        found = isinstance(value, dict) or (isinstance(step, int) and step < len(value))
        value = (value.get(step) if isinstance(value, dict) else value[int(step)]) if found else None
    return tuple(kept)


def _complaint(item: Any, loc: tuple[str | int, ...], name: str, text: str | None) -> Diagnostic:
    line = line_of(text, loc) if text is not None else None
    where = f"{name}:{line}" if line else name
    path = ".".join(str(p) for p in loc) or "(top level)"
    message = item["msg"].removeprefix("Value error, ")
    return Diagnostic(code="bad-document", subject=where, summary=f"{path}: {message}",
                      hint=f"correct {path} in {name}")
