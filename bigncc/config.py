"""The words of a YAML file or a command line, checked once, at the door; no side effects.

The descriptions of the fields are the comments of ``bigncc config``.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bigncc import yamls
from bigncc.errors import InputError
from bigncc.machine import ClusterConfig, EngineConfig, Section
from bigncc.maps import Name, in_order
from bigncc.notation import meant
from bigncc.science import (
    ImageConfig,
    OutputConfig,
    PrefilterConfig,
    RegistrationConfig,
    ReportConfig,
    ShiftConfig,
    SignificanceConfig,
    SsimConfig,
    StackConfig,
    WindowConfig,
)

SECRET = frozenset({"storage", "security", "options", "setup"})
"""Sections and keys where people may have put a password: of a value there nothing is shown."""


class Config(Section):
    """A whole job."""

    reference: ImageConfig = Field(description="the image on whose grid the result lives")
    moving: ImageConfig = Field(
        description="the image that is registered to the reference; with stack.lags there is none"
    )
    output: OutputConfig = Field(description="where the result goes")
    window: WindowConfig = Field(WindowConfig(), description="which samples are correlated for each pixel")
    prefilter: PrefilterConfig = Field(
        PrefilterConfig(), description="what both images are filtered by first, the moving one as it is registered"
    )
    stack: StackConfig = Field(StackConfig(), validate_default=True, description="sections of one stack")
    maps: tuple[str, ...] = Field(
        ("ncc",),
        validate_default=True,
        description="what is computed: ncc, and what is wanted of gain (NCC after minus before registration), "
        "confidence (NCC averaged over the window, negative values as 0), pvalue (of r = 0, given how smooth both "
        "images are), lower (confidence bound of r), shift (where it still slips) and statistics of the windows: "
        "count, mean_reference, mean_moving, std_reference, std_moving, covariance, slope, intercept, "
        "ncc_uncentered, squared, absolute, ssim, spearman",
    )
    significance: SignificanceConfig = Field(SignificanceConfig(), description="pvalue and lower, where maps has them")
    shift: ShiftConfig = Field(ShiftConfig(), description="the shift map, where maps has it")
    ssim: SsimConfig = Field(SsimConfig(), description="constants of structural similarity, where maps has ssim")
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
        if window.axes > 2:
            numbers = window.size if isinstance(window.size, tuple) else window.sigma
            name = "size" if isinstance(window.size, tuple) else "sigma"
            message = (
                f"{said} and window.{name} {list(numbers)}, which spans sections: a number, or [y, x], is accepted"
            )
            raise ValueError(message)
        return value

    @field_validator("maps")
    @classmethod
    def _with_ncc(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        window = info.data.get("window")
        several = () if window is None else window.maps
        if unknown := [name for name in value if name not in (*get_args(Name), *several)]:
            message = f"{unknown[0]!r} is no map of this window: {', '.join(get_args(Name))} are accepted"
            raise ValueError(message)
        if "ncc" not in value or len(set(value)) < len(value):
            message = "ncc, and others at most once each, is accepted"
            raise ValueError(message)
        return (*in_order(value), *several)

    @field_validator("shift", "ssim", "significance")
    @classmethod
    def _for_a_map(cls, value: Section, info: ValidationInfo) -> Section:
        maps, own = (
            info.data.get("maps"),
            ("pvalue", "lower") if info.field_name == "significance" else (info.field_name,),
        )
        if maps is not None and not set(own).intersection(maps) and value != type(value)():
            message = f"maps is [{', '.join(maps)}], and with {' or '.join(map(str, own))} among them it is accepted"
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
            _merge(found, _nested(key, yamls.parsed(value.encode("utf-8", "replace"), f"config key {key}")))
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


_SECRETS = re.compile(r"(://)\S*@|[?#].*")
"""What an address may hold that nobody else is to see."""


def as_yaml(document: Mapping[str, Any]) -> str:
    """Return what a result says that it was asked for, in the order of the defaults and without secrets."""
    known = {name: document[name] for name in Config.model_fields if name in document}
    return str(yaml.safe_dump(_shown({**known, **document}), sort_keys=False, allow_unicode=True))


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shown(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(each) for each in value]
    return without_secrets(value) if isinstance(value, str) else value


def without_secrets(address: str) -> str:
    """Return an address without what it may hold that nobody else is to see."""
    return _SECRETS.sub(r"\1...", address) if "://" in address else address


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
        with Path(name).open("rb") as file:
            data = file.read(yamls.LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        message = f"config {name!r} cannot be read: {reason}; a YAML file or key=value is accepted"
        raise InputError(message) from None
    document = yamls.parsed(data, f"config {name!r}")
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        message = f"config {name!r} holds {type(document).__name__}: a YAML mapping of sections is accepted"
        raise InputError(message)
    return document


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
    if isinstance(first.get("ctx", {}).get("error"), InputError) and reason.partition(".")[0] in Config.model_fields:
        return reason  # which names its own key
    if first["type"] == "extra_forbidden":
        unknown = str(first["loc"][len(path)])
        known = ", ".join(beside)
        return f"config key {'.'.join((*path, unknown))} is unknown{meant(unknown, beside)}: {known} are accepted"
    key = ".".join(path)
    if first["type"] == "missing" and path == first["loc"]:
        return f"config key {key} is missing: {beside[path[-1]].description}"
    if path in (("registration",), ("stack",)):
        return f"{key} {reason}"
    if path == ("cluster",):
        return f"cluster: {reason}"
    if SECRET.intersection(path):
        return f"config key {key} has a value that cannot be meant: {reason[0].lower()}{reason[1:]}"
    value = _SECRETS.sub(r"\1...", repr(first["input"]))
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
