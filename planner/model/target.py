"""``target.yml``: what people want, per pool, and how the rollout may go."""

# Annotations are objects here, not text that pydantic would have to compile at every start.
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator

from planner.documents import Document
from planner.model.version import parse_range
from planner.model.window import parse_window

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9._*?+-]{0,99}")
MINUTES_MAX = 525_600      # a year: what is longer is a slip, and overflows a calendar sooner or later
CANARY_MINUTES = 15        # unless the target says otherwise
CANARY_MINUTES_MAX = 1440  # the longest that the probe waits
CANARY_WORD_BYTES = 131_071    # Linux takes no longer argument
CANARY_BYTES = 1 << 20     # of all arguments; Linux takes a quarter of the stack, 2 MiB

Minutes = Annotated[int, Field(ge=0, le=MINUTES_MAX)]


class ToolkitWant(Document):
    """What is wanted of a side-by-side component."""

    present: tuple[str, ...] = ()     # ranges; each must be met by an installed version
    default: str | None = None        # range; the one the default link points at
    absent: tuple[str, ...] = ()      # ranges; nothing installed may match


class Accept(Document):
    """A named risk taken on purpose."""

    risk: str
    because: str = Field(min_length=1)


class RolloutPolicy(Document):
    """How the fleet moves. Percentages round down, at least 1 unless written 0."""

    max_unavailable: str | int = "10%"            # per pool: number or percentage of the pool
    max_unavailable_per_domain: str | int | None = None   # per failure domain
    min_in_service: str | int | None = None       # floor of a pool's capacity; percentages round up
    canary: Literal["auto"] | int | tuple[str, ...] = "auto"   # per class one; or a number per class; or names
    growth: float = Field(2.0, ge=1, allow_inf_nan=False)              # each batch at most this many times the last
    batch_max: int | None = Field(None, ge=1)
    soak_minutes: Minutes = 60                    # after staging and after canary
    batch_soak_minutes: Minutes = 0               # after each later batch
    failure_budget: str | int = 0                 # failed nodes tolerated before the rollout halts
    on_failure: Literal["halt", "rollback"] = "halt"
    drain_timeout_minutes: Minutes = 240
    reboot_timeout_minutes: int = Field(20, ge=1, le=MINUTES_MAX)
    not_before: str | None = None                 # ISO 8601 with time zone
    windows: tuple[str, ...] = ()                 # weekly: "Sat,Sun 02:00-06:00 Europe/Berlin"; empty: at any time
    fence: bool | None = None                     # mark the halves of a mixed communication domain; unless false: yes
    nccl_pairs: bool | None = None                # all-reduce of an upgraded and a waiting node; unless true: no
    canary_command: tuple[str, ...] | None = None    # the site's own, argv: on each node, after its standard gate
    canary_command_timeout_minutes: int | None = Field(None, ge=1, le=CANARY_MINUTES_MAX)    # unless written: 15

    @field_validator("not_before", mode="before")
    @classmethod
    def _moment(cls, value: Any) -> Any:
        """Refuse now what would stop a rollout at its first decision, after it was reviewed."""
        if value is not None and not isinstance(value, str):
            raise ValueError(f"write the time in quotes: '{value}'")
        try:
            moment = None if value is None else datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a time such as '2026-03-01T14:00:00+01:00'") from None
        if moment is not None and moment.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; add one, such as +01:00 or Z")
        return value

    @field_validator("windows")
    @classmethod
    def _weekly(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_window(text)
        return value

    @field_validator("canary_command", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        """Refuse a line for a shell: who would take it apart, and how?"""
        if value is not None and not (isinstance(value, list | tuple) and value
                                      and all(isinstance(word, str) for word in value)):
            raise ValueError('it is no list of texts such as ["/opt/site/smoke-test", "--all"]')
        return value

    @field_validator("canary_command")
    @classmethod
    def _argv(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Refuse what no system could start: after a reboot and a gate is a bad time to learn it."""
        for number, word in enumerate(value or ()):
            if "\0" in word or any("\ud800" <= sign <= "\udfff" for sign in word):
                raise ValueError(f"argument {number} has a character that no command line takes")
            if len(word.encode()) > CANARY_WORD_BYTES:
                raise ValueError(f"argument {number} is longer than the {CANARY_WORD_BYTES} bytes that Linux takes")
        if value is not None and (not value[0] or sum(len(word.encode()) + 1 for word in value) > CANARY_BYTES):
            raise ValueError("the command has no name" if not value[0] else f"longer than {CANARY_BYTES} bytes in all")
        return value

    @field_validator("max_unavailable", "max_unavailable_per_domain", "min_in_service", "failure_budget", "canary",
                     mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        """Refuse ``true``, which would count as 1."""
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is not a number")
        return value

    @field_validator("max_unavailable", "max_unavailable_per_domain", "min_in_service", "failure_budget")
    @classmethod
    def _count_or_percent(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, int):
            if value < 0:
                raise ValueError("must not be negative")
            return value
        if value is not None and not (value.endswith("%") and value[:-1].isdecimal() and int(value[:-1]) <= 100):
            raise ValueError(f"{value!r} is neither a number nor a percentage such as '10%'")
        return value


# What the engine asks for once, not pool by pool.
WHOLE_ROLLOUT = ("failure_budget", "on_failure", "drain_timeout_minutes", "reboot_timeout_minutes", "not_before",
                 "fence", "nccl_pairs")


def _text_or_mapping(value: Any) -> Any:
    """Refuse numbers: YAML reads ``580.10`` as 580.1."""
    if not isinstance(value, (str, dict, ToolkitWant)):
        raise ValueError(f"{value!r} is not text; write a version in quotes, such as \"580.159.04\"")
    return value


def _readable(value: str | ToolkitWant) -> str | ToolkitWant:
    texts = (value,) if isinstance(value, str) else (*value.present, *value.absent, *filter(None, [value.default]))
    for text in texts:
        if not _WORD.fullmatch(text):     # one word may be the value of a text component: the matrices tell which are
            parse_range(text)
    return value


def _form(value: Any) -> str:
    return "version" if isinstance(value, str) else "toolkits"


# A component's name -> what is wanted of it; ranges are readable.
Want = dict[str, Annotated[
    Annotated[str, Tag("version")] | Annotated[ToolkitWant, Tag("toolkits")],
    Discriminator(_form), BeforeValidator(_text_or_mapping), AfterValidator(_readable)]]


class PoolWant(Document):
    """What one pool wants differently; keys replace the default want key by key."""

    want: Want = Field(default_factory=dict)
    rollout: RolloutPolicy | None = None         # replaces the target's, field by field
    skip: bool = False                # leave this pool as it is

    @field_validator("rollout")
    @classmethod
    def _of_a_pool(cls, value: RolloutPolicy | None) -> RolloutPolicy | None:
        """Refuse what would be read by nobody: a person who wrote it relies on it."""
        for name in WHOLE_ROLLOUT if value is not None else ():
            if value is not None and name in value.model_fields_set:
                raise ValueError(f"{name} holds for the whole rollout; write it under the target's own rollout")
        return value


class Target(Document):
    """The whole document."""

    schema_: Literal["planner.target/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    policy: Literal["production", "development"] = "production"
    select: tuple[str, ...] = ()      # pools, groups or node names; empty: every node
    want: Want = Field(default_factory=dict)
    pools: dict[str, PoolWant] = Field(default_factory=dict)
    accept: tuple[Accept, ...] = ()
    rollout: RolloutPolicy = RolloutPolicy.model_construct()

    def own_rollouts(self) -> dict[str, RolloutPolicy]:
        """Return the policies of pools that have their own: the target's, but for the fields they write themselves."""
        return {
            pool: self.rollout.model_copy(update={name: getattr(own.rollout, name)
                                                  for name in own.rollout.model_fields_set})
            for pool, own in self.pools.items() if own.rollout is not None
        }
