"""The words of a YAML file or a command line, checked once, at the door; no side effects.

The descriptions of the fields are the comments of ``bigncc config``.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bigncc.errors import InputError
from bigncc.machine import ClusterConfig, EngineConfig, Section
from bigncc.nodes import search_of
from bigncc.notation import lags_of, range_of, region_of, source_of, target_of
from bigncc.remote import Storage
from bigncc.window import Border, Window

Source = Annotated[Any, BeforeValidator(source_of), PlainSerializer(str)]


Range = Annotated[int | tuple[int, int] | None, BeforeValidator(range_of)]


class MaskConfig(Section):
    """Which samples count."""

    url: Source = Field(
        description="OME label image, or Zarr array of the image's shape or of its windowed axes' shape"
    )
    level: int = Field(0, ge=0, description="resolution level of an OME label image")
    valid: tuple[int, ...] | None = Field(None, description="values that mean valid; default: anything but 0")
    invalid: tuple[int, ...] | None = Field(None, description="values that mean invalid, instead of `valid`")


class StorageConfig(Section):
    """How an object store is reached, as far as it is no secret."""

    anonymous: bool = Field(False, description="whether it is asked without credentials, for what is public")
    endpoint: str | None = Field(None, description="address of the service; null: the provider's, or the environment's")
    region: str | None = Field(None, description="of an S3 bucket; null: the environment's")

    def storage(self) -> Storage:
        """Return it as it is used."""
        return Storage(**self.model_dump())


class ImageConfig(Section):
    """One of the two images."""

    url: Source = Field(
        description="path (also inside of a zip file) or address (s3://, gs://, az://, https://) of an OME-Zarr image "
        "or Zarr array"
    )
    storage: StorageConfig = Field(
        StorageConfig(), description="how an address is reached; null: as the environment says"
    )
    level: int = Field(0, ge=0, description="resolution level of an OME-Zarr image, 0 is the finest")
    channel: int | str | None = Field(
        None, description="channel by number or name, `grey` for RGB; null: each channel is a batch"
    )
    time: Range = Field(None, description="one time by number, or a range such as 3:10; null: each time is a batch")
    z: Range = Field(None, description="one plane by number, or a range such as 3:10; null: all of the stack")
    nodata: float | None = Field(
        None, description="grey level that means: no sample here; null: what the file says; .nan: none"
    )
    mask: MaskConfig | None = Field(
        None, description="{url: ..., level: 0, valid: [...]} or {url: ..., level: 0, invalid: [...]}"
    )
    missing_chunks: Literal["fill", "nodata", "error"] = Field(
        "fill", description="what a chunk that is not stored means: fill (the array's fill value), nodata or error"
    )


class OutputConfig(Section):
    """Where the result goes."""

    url: Annotated[str, BeforeValidator(source_of), AfterValidator(target_of)] = Field(
        description="path or address of the OME-Zarr group to make; the journal goes to the same + .bigncc"
    )
    chunks: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None, description="size of a stored chunk along the windowed axes; null: about a megapixel"
    )
    shards: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        None, description="size of a stored object of several chunks along the windowed axes; null: one chunk each"
    )
    region: Annotated[tuple[tuple[int, int], ...], BeforeValidator(region_of)] | None = Field(
        None, description="part of the reference to compute, y0:y1,x0:x1, for a trial; null: all of it"
    )
    pyramid: bool = Field(True, description="whether coarser levels are stored, down to one that is a single chunk")
    finest_level: int = Field(
        0, ge=0, le=30, description="finest level to store; all is computed at full resolution, and 2 takes a 16th"
    )
    ome_version: Annotated[Literal["0.4", "0.5"], BeforeValidator(str)] = Field(
        "0.5", description="version of OME-Zarr: 0.5, or 0.4 for programs that read no Zarr of version 3"
    )


class WindowConfig(Section):
    """The window and its rules."""

    size: int | tuple[int, ...] = Field(
        7, description="odd number of pixels: one for (y, x), or a list [y, x] or [z, y, x]"
    )
    border: Border = Field(
        "shrink", description="at the image's edge: shrink, valid, reflect, mirror, nearest or constant"
    )
    cval: float = Field(0.0, description="grey level beyond the edge for border=constant")
    min_valid_fraction: float = Field(0.5, description="share of valid samples that an answer needs")
    flat: float = Field(0.0, description="value of windows without contrast: 0 or .nan")
    min_std: tuple[float, float] = Field(
        (0.0, 0.0), description="standard deviations (reference, moving) in grey levels below which a window is flat"
    )

    def window(self) -> Window:
        """Return the checked window."""
        return Window(**self.model_dump())


class StackConfig(Section):
    """One stack instead of two images."""

    lags: Annotated[tuple[Annotated[int, Field(gt=0)], ...] | None, BeforeValidator(lags_of)] = Field(
        None,
        min_length=1,
        description="k, or several such as [1, 2]: each section z of the reference is correlated with its section "
        "z + k, and there is no moving image; null: two images",
    )

    @field_validator("lags")
    @classmethod
    def _once(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and len(set(value)) < len(value):
            message = "each lag once is accepted"
            raise ValueError(message)
        return value


class ReportConfig(Section):
    """What is told of a result."""

    threshold: float = Field(
        0.5, ge=-1, le=1, description="the table of sections and channels has the share of the pixels below this value"
    )


class ShiftConfig(Section):
    """The grid of the shift map, and how far is searched."""

    step: int | tuple[int, ...] | None = Field(
        None, description="pixels between nodes along each axis: one number, or a list; null: the window's size"
    )
    search_radius: int | tuple[int, ...] = Field(
        8, description="largest displacement that is tried, in pixels along each axis: one number, or a list"
    )

    def search(self, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return pixels between nodes and pixels searched along each axis; InputError if that cannot be."""
        return search_of(window.shape, self.step, self.search_radius)


class DisplacementConfig(Section):
    """A displacement field that somebody computed."""

    url: str = Field(description=".npy, .npz or Zarr array of shape (axes, [z,] y, x), in pixels")
    step: int | tuple[int, ...] = Field(1, description="pixels between nodes")
    origin: int | tuple[int, ...] = Field(0, description="reference pixel of the first node")
    components: Literal["forward", "reversed"] = Field(
        "forward", description="forward: component i belongs to array axis i; reversed: x first"
    )


class RegistrationConfig(Section):
    """How the moving image is brought onto the reference's grid."""

    model: Literal["translation", "rigid", "similarity", "affine", "displacement", "none"] | None = Field(
        None,
        description="translation, rigid, similarity, affine or displacement: estimated, for a stack between each two "
        "sections; none: the images are correlated as they are stored (--as-is, and null for a stack)",
    )
    channel: int | str | None = Field(
        None, description="channel by number or name that is registered on; null: the first of those correlated"
    )
    initial: Literal["metadata"] | None = Field(
        None, description="metadata: search from the images' scale and translation on; null: everywhere"
    )
    upsample_factor: int = Field(
        100,
        ge=1,
        le=1000,
        description="peaks are looked for on a grid of one part in this of a pixel; in volumes of a quarter",
    )
    transform: str | None = Field(
        None, description="JSON file, at a path or an address, of a transform, reference pixel -> moving pixel"
    )
    displacement: DisplacementConfig | None = Field(
        None, description="{url: ..., step: 1, origin: 0, components: forward}"
    )
    trust_field: bool = Field(
        False, description="whether a given transform is applied though it fits better swapped, negated or inverted"
    )
    order: Literal[0, 1, 3] = Field(1, description="interpolation: 0 nearest, 1 linear, 3 cubic convolution")

    @property
    def estimated(self) -> bool:
        """Whether the transform is to be estimated."""
        return self.model not in (None, "none")


class _Loader(yaml.SafeLoader):
    """YAML in which 3:10 is a range, 4:00:00 a time and neither, as in its version 1.1, a number to the base of 60."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [("tag:yaml.org,2002:str", re.compile(r"[0-9]+(:[0-9]+)+$")), *rules]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Config(Section):
    """A whole job."""

    reference: ImageConfig = Field(description="the image on whose grid the result lives")
    moving: ImageConfig = Field(
        description="the image that is registered to the reference; with stack.lags there is none"
    )
    output: OutputConfig = Field(description="where the result goes")
    window: WindowConfig = Field(WindowConfig(), description="which samples are correlated for each pixel")
    stack: StackConfig = Field(StackConfig(), validate_default=True, description="sections of one stack")
    maps: tuple[Literal["ncc", "gain", "shift"], ...] = Field(
        ("ncc",),
        description="what is computed: ncc, and of gain (NCC after minus before registration) and shift (where it "
        "still slips) what is wanted",
    )
    shift: ShiftConfig = Field(ShiftConfig(), description="the shift map, where maps has it")
    registration: RegistrationConfig = Field(
        RegistrationConfig(), validate_default=True, description="one of model, transform and displacement"
    )
    engine: EngineConfig = Field(EngineConfig(), description="the machine; nothing here changes the result")
    cluster: ClusterConfig = Field(ClusterConfig(), description="many machines; nothing here changes the result either")
    report: ReportConfig = Field(
        ReportConfig(), description="what is told of the result; nothing of it is computed anew"
    )

    @model_validator(mode="before")
    @classmethod
    def _both_roles(cls, values: Any) -> Any:
        """Let the sections of a stack be both images."""
        stacked = isinstance(values, dict) and "reference" in values and "moving" not in values
        if stacked and isinstance(values.get("stack"), dict) and values["stack"].get("lags") is not None:
            return {**values, "moving": values["reference"]}
        return values

    @field_validator("stack")
    @classmethod
    def _alone(cls, value: StackConfig, info: ValidationInfo) -> StackConfig:
        said = f"lags is {list(value.lags or ())}"
        reference, moving, window = (info.data.get(name) for name in ("reference", "moving", "window"))
        if value.lags is None or reference is None or moving is None or window is None:
            return value
        if moving != reference:
            message = f"{said} and moving is another image than reference: none, or the same, is accepted with it"
            raise ValueError(message)
        if isinstance(window.size, tuple) and len(window.size) > 2:
            message = (
                f"{said} and window.size {list(window.size)}, which spans sections: a number, or [y, x], is accepted"
            )
            raise ValueError(message)
        return value

    @field_validator("maps")
    @classmethod
    def _with_ncc(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "ncc" not in value or len(set(value)) < len(value):
            message = "ncc, and each of gain and shift at most once, is accepted"
            raise ValueError(message)
        return tuple(name for name in ("ncc", "gain", "shift") if name in value)

    @field_validator("shift")
    @classmethod
    def _for_a_map(cls, value: ShiftConfig, info: ValidationInfo) -> ShiftConfig:
        maps = info.data.get("maps", ("shift",))
        if "shift" not in maps and value != ShiftConfig():
            message = f"maps is [{', '.join(maps)}], and with shift among them it is accepted"
            raise ValueError(message)
        return value

    @field_validator("cluster")
    @classmethod
    def _bounded(cls, value: ClusterConfig, info: ValidationInfo) -> ClusterConfig:
        engine = info.data.get("engine")
        if value.kind not in ("threads", "processes") and engine is not None and engine.memory is None:
            message = f"kind is {value.kind} and engine.memory is null: what one of its processes may take, such as 4GB"
            message += ", is accepted"
            raise ValueError(message)
        return value

    @field_validator("registration")
    @classmethod
    def _one_way(cls, value: RegistrationConfig, info: ValidationInfo) -> RegistrationConfig:
        ways = [name for name in ("model", "transform", "displacement") if getattr(value, name) is not None]
        if len(ways) > 1:
            message = (
                f"says {' and '.join(ways)}: registration.model=translation (the default), or another "
                "model, --as-is "
                "(registration.model=none), registration.transform=FILE or registration.displacement.url=FILE is "
                "accepted, one of them"
            )
            raise ValueError(message)
        if not ways:
            stack = info.data.get("stack")
            model = "translation" if stack is None or stack.lags is None else "none"
            value = value.model_copy(update={"model": model})
        if value.initial is not None and not value.estimated:
            message = "says where to search (initial) and what no search is for: registration.model=translation"
            message += ", or registration.initial=null, is accepted"
            raise ValueError(message)
        if value.channel is not None and value.model is None:
            message = "says which channel is registered on (channel) and how the images are registered: "
            message += "registration.model=translation, or registration.channel=null, is accepted"
            raise ValueError(message)
        return value


def load(words: Iterable[str | Mapping[str, Any]]) -> Config:
    """Merge YAML files, ``key.sub=value`` words and mappings, the later ones winning, and check the result.

    Raises
    ------
    InputError
        Naming the file, the key and what would be accepted.
    """
    try:
        return Config.model_validate(merged(words))
    except ValidationError as error:
        raise InputError(_sentence(error)) from None


def merged(words: Iterable[str | Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `load` checks."""
    found: dict[str, Any] = {}
    for word in words:
        if isinstance(word, Mapping):
            _merge(found, word)
        elif is_assignment(word):
            key, _, value = word.partition("=")
            _merge(found, _nested(key, _parse(value, word)))
        else:
            _merge(found, _read(word))
    return found


def is_assignment(word: str) -> bool:
    """Say whether a word is ``key=value`` with a known section as its key's head."""
    head = word.partition("=")[0].partition(".")[0]
    return "=" in word and head in Config.model_fields


def default_yaml() -> str:
    """Return the commented default configuration."""
    lines = ["# bigncc: a job. Every key is shown with its default; what has none is an example.", ""]
    for name, field in Config.model_fields.items():
        section = field.annotation
        if not isinstance(field.default, BaseModel) and not field.is_required():
            lines += [f"{name}: {_scalar(field.default)}  # {field.description}", ""]
            continue
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        lines += [f"{name}:  # {field.description}", *_commented(section, name), ""]
    return "\n".join(lines[:-1]) + "\n"


def _commented(section: type[BaseModel], name: str, indent: str = "  ") -> Iterator[str]:
    """Yield a line for each key of a section, and those of the sections in it."""
    examples = {"reference": "reference.ome.zarr", "moving": "moving.ome.zarr", "output": "ncc.ome.zarr"}
    for key, item in section.model_fields.items():
        if isinstance(item.default, BaseModel):
            yield f"{indent}{key}:  # {item.description}"
            yield from _commented(type(item.default), key, indent + "  ")
            continue
        value = examples[name] if item.is_required() else item.default
        if (name, key) == ("registration", "model"):
            value = "translation"
        yield f"{indent}{key}: {_scalar(value)}  # {item.description}"


def _scalar(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(value, default_flow_style=True)).removesuffix("\n").removesuffix("\n...")


def _read(name: str) -> dict[str, Any]:
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        message = f"config {name!r} cannot be read: {reason}; a YAML file or key=value is accepted"
        raise InputError(message) from None
    document = _parse(text, name)
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        message = f"config {name!r} holds {type(document).__name__}: a YAML mapping of sections is accepted"
        raise InputError(message)
    return document


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        message = f"{name!r} is no YAML: {' '.join(str(error).split())}"
        raise InputError(message) from None


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _sentence(error: ValidationError) -> str:
    """Return the first complaint as a sentence: key, value, what would be accepted."""
    first, *rest = error.errors()
    if first["loc"] == ("moving",):
        # a key that is misspelt, such as stack.lags, may be why it is missing
        first = next((each for each in rest if each["type"] == "extra_forbidden"), first)
    path, beside = _known(first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        key = ".".join((*path, str(first["loc"][len(path)])))
        return f"config key {key} is unknown: {', '.join(beside)} are accepted"
    key = ".".join(path)
    if first["type"] == "missing" and path == first["loc"]:
        return f"config key {key} is missing: {beside[path[-1]].description}"
    if path in (("registration",), ("stack",)):
        return f"{key} {reason}"
    if path == ("cluster",):
        return f"cluster: {reason}"
    # an address may hold what nobody else is to see
    value = re.sub(r"(://)[^/\s]*@|\?.*", r"\1...", repr(first["input"]))
    return f"config key {key} is {value}: {reason[0].lower()}{reason[1:]}"


def _known(location: tuple[int | str, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return how far a location leads along keys of the config, and the keys beside the last one."""
    fields: dict[str, Any] = dict(Config.model_fields)
    path: list[str] = []
    beside = fields
    for part in location:
        if part not in fields:  # a place in a list, or pydantic's name for one of several types
            return tuple(path), fields or beside
        path.append(str(part))
        beside = fields
        annotation = fields[str(part)].annotation
        sections = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        fields = dict(sections[0].model_fields) if sections else {}
    return tuple(path), beside
