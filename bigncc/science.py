"""The words about what is computed: images, window, maps, registration and output; no side effects.

The descriptions of the fields are the comments of ``bigncc config``.
"""

from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationInfo, field_validator

from bigncc.encoding import MANTISSA, DType
from bigncc.machine import Section
from bigncc.maps import LEVEL, Ssim, of_windows
from bigncc.nodes import search_of
from bigncc.notation import extents_of, lags_of, range_of, region_of, source_of, target_of
from bigncc.prefilter import Kind, Prefilter
from bigncc.remote import Storage
from bigncc.weights import DRAWN, Table, Weights
from bigncc.window import Border, Window, several

Source = Annotated[Any, BeforeValidator(source_of), PlainSerializer(str)]


Extent = Annotated[int | str | tuple[int | str, ...] | tuple[tuple[int, ...], ...] | None, BeforeValidator(extents_of)]

Width = Annotated[float | str | tuple[float | str, ...] | None, BeforeValidator(extents_of)]

Range = Annotated[int | tuple[int, int] | None, BeforeValidator(range_of)]


class MaskConfig(Section):
    """Which samples count."""

    url: Source = Field(
        description="OME label image (also of another resolution: the nearest sample by the scales of both), or Zarr "
        "array of the image's shape or of its windowed axes' shape"
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
    nodata: float | tuple[float, ...] | None = Field(
        None,
        description="grey level that means: no sample here, or a list of them; null: what the file says; .nan: none",
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
    encoding: DType = Field(
        "float32",
        description="how values are stored: float32, float16, int16 (in steps of 2^-14) or uint8 (of 1/127); maps "
        "without known ends, and those of nodes, stay float32",
    )
    keepbits: int | None = Field(
        None, ge=1, lt=MANTISSA, description="bits of float32's mantissa to keep, such as 10; null: all 23"
    )

    @field_validator("keepbits")
    @classmethod
    def _of_floats(cls, value: int | None, info: ValidationInfo) -> int | None:
        encoding = info.data.get("encoding", "float32")
        if value is not None and encoding != "float32":
            message = f"encoding is {encoding}, and with encoding=float32 it is accepted"
            raise ValueError(message)
        return value


class WindowConfig(Section):
    """The window and its rules."""

    size: Extent = Field(
        None,
        description="odd number of pixels, or a length such as 31um: one for (y, x), or a list [y, x] or [z, y, x]; "
        "null: 7, or what sigma or the array of a footprint says; several lists, such as [[7, 7], [15, 15]], are "
        "several windows in one pass: ncc is of the first, and further maps are of the others, of the best of all, and "
        "which that is",
    )
    weights: Weights = Field("box", description="what a sample counts: box (all the same), gaussian or footprint")
    sigma: Width = Field(
        None, description="standard deviation of weights=gaussian, in pixels or a length: one number, or a list"
    )
    truncate: float = Field(3.5, description="standard deviations at which weights=gaussian are cut")
    footprint: str | None = Field(
        None,
        description="of weights=footprint: disk, ball or octagon of that size; or an array of weights, 0 and 1 or "
        "others, in a .npy, .npz or .csv file or a Zarr array",
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
        """Return the checked window of what is said in pixels, the first of several."""
        return self.windows()[0]

    def windows(self, table: Table | None = None) -> tuple[Window, ...]:
        """Return all windows, checked; they differ in size. `table` is what is read of a footprint's file."""
        sizes = cast("tuple[Any, ...]", self.size) if self.several else (self.size,)
        footprint = self.footprint if self.footprint in DRAWN else table
        words = self.model_dump(exclude={"size", "footprint"})
        return several(Window(sizes[0], footprint=footprint, **words), sizes[1:])

    @property
    def several(self) -> bool:
        """Whether there is more than one size."""
        return isinstance(self.size, tuple) and any(isinstance(size, tuple) for size in self.size)

    @property
    def axes(self) -> int:
        """The most axes that are spoken of."""
        sizes = self.size if self.several and isinstance(self.size, tuple) else (self.size,)
        return max(len(each) if isinstance(each, tuple) else 2 for each in (*sizes, self.sigma))

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the further maps that several windows have."""
        return of_windows([window.shape for window in self.windows()]) if self.several else ()


class PrefilterConfig(Section):
    """What both images are filtered by before they are correlated."""

    kind: Kind = Field(
        "none",
        description="none, laplacian_of_gaussian, difference_of_gaussians or local_standardisation; min_std and cval "
        "of the window are in units of what is filtered",
    )
    sigma: float | tuple[float, ...] | None = Field(
        None, description="standard deviation of the (narrow) Gaussian in pixels, one for all axes or a list"
    )
    sigma_wide: float | tuple[float, ...] | None = Field(
        None, description="that of the wide one of difference_of_gaussians; null: 1.6 times sigma"
    )
    size: int | tuple[int, ...] | None = Field(
        None, description="odd pixels of a box, for local_standardisation, instead of sigma"
    )
    truncate: float = Field(4.0, description="sigmas from its middle at which a Gaussian ends")

    def prefilter(self) -> Prefilter:
        """Return the checked prefilter."""
        return Prefilter(**self.model_dump())


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
    regions: int = Field(8, ge=0, le=100, description="the page shows so many of the regions that agree least")


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


class SignificanceConfig(Section):
    """How sure it must be that a correlation is not chance."""

    level: float = Field(
        LEVEL,
        gt=0,
        lt=0.5,
        description="share of the lower bounds that are above the correlation they bound, and of false ones among the "
        "pixels that the threshold for pvalue calls correlated",
    )


class SsimConfig(Section):
    """The constants of structural similarity, called as in scikit-image."""

    data_range: float | None = Field(
        None, description="highest possible grey level minus the lowest; null: that of the dtype, for integers"
    )
    k1: float = Field(0.01, description="share of the range that keeps means apart from 0")
    k2: float = Field(0.03, description="share of the range that keeps deviations apart from 0")
    use_sample_covariance: bool = Field(True, description="whether n - 1 divides variances, or n")

    def ssim(self) -> Ssim:
        """Return them checked."""
        return Ssim(**self.model_dump())


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
