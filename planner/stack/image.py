"""A container image as rules see it: its reference, environment, labels and packages in, values of a state out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import parse_yaml
from planner.errors import InputError
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.version import contains, version_key
from planner.stack.requirements import PREFIX, Host, Verdict, is_disabled, judge
from planner.stack.values import local_part, terms, versions

Values = dict[str, tuple[str, ...]]

# Brands that NVML gives to the boards of a class; which of them one board has differs by generation.
_BRANDS = {
    "data-center": frozenset({"tesla", "nvidia"}),
    "workstation": frozenset({"quadro", "quadrortx", "nvidiartx", "nvidia"}),
    "geforce": frozenset({"geforce", "geforcertx", "titan", "titanrtx"}),
}
# Variables and labels that images carry, and the component that each one is the version of; the first one counts.
_VERSIONS = (
    ("container_cuda", ("CUDA_VERSION", "NV_CUDA_LIB_VERSION", "NV_CUDA_CUDART_VERSION", "com.nvidia.cuda.version")),
    ("cudnn", ("CUDNN_VERSION", "NV_CUDNN_VERSION", "com.nvidia.cudnn.version")),
    ("nccl", ("NCCL_VERSION", "NV_LIBNCCL_PACKAGE_VERSION", "com.nvidia.nccl.version")),
    ("tensorrt", ("TRT_VERSION", "TENSORRT_VERSION", "com.nvidia.tensorrt.version")),
    ("pytorch", ("PYTORCH_VERSION", "com.nvidia.pytorch.version")),
    ("tensorflow", ("TENSORFLOW_VERSION", "com.nvidia.tensorflow.version")),
    ("triton_server", ("TRITON_SERVER_VERSION",)),
    ("ngc_release", ("NVIDIA_PYTORCH_VERSION", "NVIDIA_TENSORFLOW_VERSION", "NVIDIA_TRITON_SERVER_VERSION",
                     "NVIDIA_JAX_VERSION", "NVIDIA_TENSORRT_VERSION", "NVIDIA_CUDA_DL_BASE_VERSION")),
)
_COMPAT_DIRECTORY = re.compile(r"(?:^|:)/usr/local/cuda(?:-(\d+\.\d+))?/compat/?(?=:|$)")
_COMPAT_PACKAGE = re.compile(r"cuda-compat-(\d+)-(\d+)")
_DRIVER_LIBRARY = re.compile(r"(?:libnvidia-compute|libcuda1|nvidia-driver|nvidia-utils|nvidia-libs)(?:-.*)?\Z")


@dataclass(frozen=True, slots=True)
class Image:
    """What is known of one image.

    Attributes:
        reference: As people write it; "" where only a description is there.
        packages: Names of the packages inside; None: not known.
        unread: Keys of the description that nothing is known about.
    """

    reference: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    packages: frozenset[str] | None = None
    said: Values = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def read_image(text: str, name: str) -> Image:
    """Read an image's description: ``docker inspect``, ``skopeo inspect [--config]``, or YAML {image, labels, env}.

    Raises:
        InputError: No YAML or JSON, or none of these forms.
    """
    raw = parse_yaml(text, name=name, numbers_as_text=True)
    entry = raw[0] if isinstance(raw, list) and raw else raw
    if not isinstance(entry, dict):
        raise InputError(Diagnostic(
            code="bad-document", subject=name, summary="this is no description of an image",
            hint="write it with: docker inspect IMAGE, or skopeo inspect --config docker://IMAGE"))
    return image_of(entry)


def image_of(entry: Any) -> Image:
    """Return the image that an entry means: a reference, or a mapping in one of the known forms."""
    if not isinstance(entry, Mapping):
        return Image(reference=str(entry or "").strip())
    inspected = {**_mapping(entry.get("ContainerConfig")), **_mapping(entry.get("Config") or entry.get("config"))}
    if inspected or "RepoTags" in entry or "Layers" in entry:
        return Image(reference=_inspected_name(entry, inspected), env=_env(inspected.get("Env") or entry.get("Env")),
                     labels=_labels(inspected.get("Labels") or entry.get("Labels")))
    said = Values()
    if "cuda" in entry:
        said["container_cuda"] = versions(entry["cuda"])
    if "driver" in entry:
        said["container_driver"] = ("yes" if entry["driver"] else "no",)
    packages = entry.get("packages") if isinstance(entry.get("packages"), list | tuple | dict) else ()
    known = ("image", "cuda", "driver", "env", "labels", "packages")
    return Image(
        reference=str(entry.get("image") or "").strip(), env=_env(entry.get("env")),
        labels=_labels(entry.get("labels")),
        packages=frozenset(re.split(r"[=\s]", str(p), maxsplit=1)[0] for p in packages) if packages else None,
        said=said, unread=tuple(sorted({str(k) for k in entry} - set(known))))


def _inspected_name(entry: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    tags = entry.get("RepoTags")
    if entry.get("Name") and not config:           # skopeo lists every tag of the repository
        return str(entry["Name"]) + (f":{entry['Tag']}" if entry.get("Tag") else "")
    if isinstance(tags, list) and tags:
        return str(tags[0])
    digests = entry.get("RepoDigests")
    named = digests[0] if isinstance(digests, list) and digests else config.get("Image") or ""
    return "" if str(named).startswith("sha256:") else str(named)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _env(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(k): str(v) for k, v in value.items() if v is not None}
    pairs = (str(line).partition("=") for line in value) if isinstance(value, list) else ()
    return {name: text for name, sign, text in pairs if sign}


def _labels(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in _mapping(value).items() if v is not None}


def image_values(image: Image, state: State, matrices: MatrixSet) -> tuple[Values, tuple[str, ...]]:
    """Return what an image brings into a machine's state, and sentences about what could not be judged.

    Args:
        image: The image.
        state: The machine that runs it; empty where none is known.
        matrices: Vocabulary, driver releases.
    """
    own = Values()
    if image.reference:
        for term, value in terms("image", image.reference, matrices):
            if value:
                own[term.component] = (value,)
    _versions(image, own, matrices)
    _month(own, matrices)
    own.update(image.said)
    _environment(image, own)
    if image.packages is not None and "container_driver" not in own:
        own["container_driver"] = ("yes" if any(map(_DRIVER_LIBRARY.match, image.packages)) else "no",)
    _compatibility(image, own, state, matrices)
    notes = [f"container.{key}: not judged" for key in image.unread]
    if any(name.startswith(PREFIX) for name in image.env):
        verdict = judge(image.env, host_of(state, matrices))
        own |= _met(verdict)
        if verdict.met is None and state:
            notes.append("container: what the image requires of the host depends on its GPU class or driver, not known")
    return own, tuple(notes)


def _met(verdict: Verdict) -> Values:
    return {} if verdict.met is None or verdict.disabled else {"require_cuda_met": ("yes" if verdict.met else "no",)}


def _versions(image: Image, own: Values, matrices: MatrixSet) -> None:
    stated = {**image.labels, **image.env}
    for component, keys in _VERSIONS:
        text = next((stated[key] for key in keys if stated.get(key)), "")
        found = versions(text)
        if found and component in matrices.components:
            own[component] = found
            build = local_part(text)
            if build.startswith("cu") and f"{component}_build" in matrices.components:
                own[f"{component}_build"] = (build,)


def _month(own: Values, matrices: MatrixSet) -> None:
    """Take from the release of a monthly stack what neither tag nor environment says."""
    for month in own.get("ngc_release", ()):
        known = matrices.release("ngc_release", month)
        stated = known.attributes if known else {}
        for component, key in (("container_cuda", "cuda"), ("container_compat", "compat")):
            if component not in own and stated.get(key):
                own[component] = (stated[key],)


def _environment(image: Image, own: Values) -> None:
    if "NVIDIA_DRIVER_CAPABILITIES" in image.env:
        named = [part.strip() for part in image.env["NVIDIA_DRIVER_CAPABILITIES"].split(",") if part.strip()]
        own["container_capabilities"] = (",".join(sorted(set(named))) or "compute,utility",)
    if "NVIDIA_VISIBLE_DEVICES" in image.env:
        own["container_devices"] = (image.env["NVIDIA_VISIBLE_DEVICES"].strip().lower() or "void",)
    if is_disabled(image.env):
        own["container_require_disabled"] = ("yes",)


def _compatibility(image: Image, own: Values, state: State, matrices: MatrixSet) -> None:
    """Say which compatibility libraries the image carries, and whether they are what a process loads.

    The runtime's hook prefers them to the host's as soon as they are newer. It does so for every GPU; only those of
    data centers can use them, so only there they count as in use.
    """
    cuda = _pair(own.get("container_cuda", ()))
    package = _COMPAT_PACKAGE.search(image.env.get("NV_CUDA_COMPAT_PACKAGE", ""))
    if package:
        own["container_compat"] = (".".join(package.groups()),)
    elif cuda and ("_CUDA_COMPAT_PATH" in image.env or "brand=" in image.env.get(PREFIX + "CUDA", "")):
        own["container_compat"] = (cuda,)
    path = _COMPAT_DIRECTORY.search(image.env.get("LD_LIBRARY_PATH", ""))
    if path and (path.group(1) or cuda):
        own["cuda_compat"] = (path.group(1) or cuda,)
        return
    carried = own.get("container_compat")
    level = cuda_level(state.get("driver", ()), matrices)
    usable = state.get("gpu_class") == ("data-center",)
    if carried and level and usable and version_key(level) < version_key(carried[0]):
        own["cuda_compat"] = carried


def _pair(values: Iterable[str]) -> str:
    found = next((re.match(r"\d+\.\d+", v) for v in values), None)
    return found.group(0) if found else ""


def host_of(state: State, matrices: MatrixSet) -> Host:
    """Return what a state says about the host that an image's requirements look at."""
    classes = state.get("gpu_class", ())
    brands = _BRANDS.get(classes[0]) if len(classes) == 1 else None
    drivers = state.get("driver", ())
    return Host(cuda=cuda_level(drivers, matrices), driver=drivers[0] if drivers else None, brands=brands,
                arches=state.get("compute_capability") or None)


def cuda_level(drivers: Iterable[str], matrices: MatrixSet) -> str | None:
    """Return the CUDA level that a driver reports, by its release or its branch; None where that is not known."""
    driver = next(iter(drivers), None)
    if driver is None:
        return None
    exact = matrices.release("driver", driver)
    if exact is not None and exact.attributes.get("max_cuda"):
        return exact.attributes["max_cuda"]
    branch = driver.partition(".")[0]
    levels = {r.attributes.get("max_cuda") for r in matrices.releases.get("driver", ()) if contains(branch, r.version)}
    found = [level for level in levels if level]
    return found[0] if len(found) == 1 else None
