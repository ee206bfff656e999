"""What ``planner check`` takes beside facts and stacks: a container image, the package manifest of a VM image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from planner.cli.inputs import read_text
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.stack.image import Image, image_of, image_values, read_image
from planner.stack.manifest import manifest_values, read_manifest
from planner.stack.schema import Described, Stack, View


def load_image(given: str) -> Image:
    """Return the image that ``--image`` means: the description in a file of that name, else a reference.

    Raises:
        InputError: The file is no description of an image.
    """
    path = Path(given)
    return read_image(read_text(path), given) if path.is_file() else image_of(given)


def load_manifest(path: Path, matrices: MatrixSet) -> Stack:
    """Return the machine that a package manifest describes.

    Raises:
        InputError: It cannot be read, or names no package.
    """
    packages, family, machine = read_manifest(read_text(path), str(path))
    state = manifest_values(packages, family, machine, matrices)
    return Stack((Described("", (View(path.name, state),)),))


def image_stack(image: Image, name: str, matrices: MatrixSet) -> Stack:
    """Return an image by itself, on no machine."""
    own, notes = image_values(image, {}, matrices)
    return Stack((Described("", (View(f"image {image.reference or name}", own),)),), notes)


def stack_with_image(stack: Stack, image: Image, name: str, matrices: MatrixSet) -> Stack:
    """Return a stack in which a container of the image runs on every machine."""
    notes: list[str] = []
    machines = []
    for machine in stack.machines:
        views = machine.views[:1]
        seen = list(views_with_image(((v.subject, v.state) for v in views), image, name, matrices, notes))[len(views):]
        machines.append(replace(machine, views=(*machine.views, *(View(subject, state) for subject, state in seen))))
    return replace(stack, machines=tuple(machines), not_judged=(*stack.not_judged, *notes))


def views_with_image(views: Iterable[tuple[str, State]], image: Image, name: str, matrices: MatrixSet,
                     notes: list[str]) -> Iterator[tuple[str, State]]:
    """Yield every view, and after each machine's own one what a container of the image sees there.

    Args:
        views: Of machines and of environments on them.
        image: The image.
        name: How the user wrote it.
        matrices: Vocabulary, driver releases.
        notes: Receives sentences about what could not be judged.
    """
    for subject, state in views:
        yield subject, state
        if "framework" in state:           # an environment of the host is not what the container runs
            continue
        own, unread = image_values(image, state, matrices)
        notes += [note for note in unread if note not in notes]
        yield f"{subject}: image {image.reference or name}", {**state, **own}
