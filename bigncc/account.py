"""What a plan and an output say of themselves: which words, each of its kind.

A checksum tells what has changed, not who wrote it: whoever makes a document can make its checksum. What is read of one
as it is, here and there, is named here, so that it need not be doubted there. Other words may be there, and what has a
room of its own, such as the config as a whole or a transform, is understood or refused by that.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bigncc.discoveries import unpacked
from bigncc.documents import UNREADABLE
from bigncc.summary import from_dict, unpacked_items

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**62)]
Counts = list[Count]


def _read(reader: Any) -> AfterValidator:
    """Return a check that a room reads a value without complaint."""

    def check(value: Any) -> Any:
        try:
            reader(value)
        except UNREADABLE as error:
            raise ValueError(*error.args) from error
        return value

    return AfterValidator(check)


class _Words(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Image(_Words):
    url: str
    z: int | list[int] | str | None


class _Window(_Words):
    size: Any
    flat: Number | Literal["nan", "inf", "-inf"]


class _Stack(_Words):
    lags: list[Annotated[int, Field(ge=1)]] | None = None


class _Report(_Words):
    threshold: Number = 0.5


class _Significance(_Words):
    level: Annotated[Number, Field(gt=0, lt=1)]


class _Config(_Words):
    reference: _Image
    moving: _Image
    window: _Window
    stack: _Stack | None = None
    maps: list[str] = []
    report: _Report | None = None
    significance: _Significance | None = None
    prefilter: dict[str, Any] | None = None


class _Match(_Words):
    transform: dict[str, Any] | None
    offset: list[Number] = []
    uncertainty: Number = 0.0
    quality: Number = 0.0
    note: str = ""


class _Registration(_Words):
    estimate: dict[str, Any] | None
    order: int | None
    unknown: str
    sections: list[_Match] | None = None


class _Said(_Words):
    plan_id: str
    config: _Config
    headline: str
    registration: _Registration
    versions: dict[str, str]


class _Request(_Words):
    window: dict[str, Any]


class _Plan(_Said):
    request: _Request
    replaces: str | None = None


class _Lengths(_Words):
    nodes: Count
    found: Count
    open: Count
    squares: Count
    bins: list[Annotated[Counts, Field(min_length=2, max_length=2)]]


class _Discoveries(_Words):
    share: Annotated[Number, Field(gt=0, lt=1)]
    p_below: Number
    pixels: Count
    histogram: Annotated[Counts, _read(unpacked)]


class _Output(_Said):
    state: Literal["in-progress", "complete"]


class _Complete(_Words):
    tiles: Count
    digest: str
    absent: dict[str, Count]
    summary: Annotated[dict[str, Any], _read(from_dict)]
    sections: Annotated[list[Any], _read(unpacked_items)] | None = None
    shift: _Lengths | None = None
    discoveries: _Discoveries | None = None


def is_of_plan(document: dict[str, Any]) -> bool:
    """Say whether a document says what a plan says of itself."""
    return _is(_Plan, document)


def is_of_output(document: dict[str, Any]) -> bool:
    """Say whether a document says what an output says of itself, of its pixels, too, if it is complete."""
    return _is(_Output, document) and (document["state"] != "complete" or _is(_Complete, document))


def _is(kind: type[_Words], document: dict[str, Any]) -> bool:
    try:
        kind.model_validate(document)
    except ValidationError:
        return False
    return True
