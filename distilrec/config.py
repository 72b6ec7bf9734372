"""Settings: one frozen section a stage, read from a preset or a TOML file."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distilrec.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: immutable, and a key it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InteractionColumns(Section):
    """Names of the columns of an interaction file."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    """Numbers (any unit, used for order only) or ISO 8601 dates and times."""
    event: str | None = None
    """Column that ``DataConfig.events`` selects by."""
    rating: str | None = None
    """Column that ``DataConfig.min_rating`` selects by."""


class ItemColumns(Section):
    """Names of the columns of a catalogue file."""

    item_id: str = "item_id"
    title: str = "title"


class DataConfig(Section):
    """Where interactions come from and how they are filtered and split. Give ``source`` or ``interactions``."""

    source: Literal["ml-100k"] | None = None
    """A named data set, downloaded and cached."""
    interactions: Path | None = None
    """Your own interactions: .csv, .tsv or .parquet."""
    items: Path | None = None
    """Your own catalogue with titles: .csv, .tsv or .parquet. Optional; without it an item's title is its id."""
    columns: InteractionColumns = InteractionColumns()
    item_columns: ItemColumns = ItemColumns()
    events: tuple[str, ...] | None = None
    """Keep only interactions of these events."""
    min_rating: float | None = None
    """Keep only interactions rated at least so."""
    k_core: Positive = 5
    """Drop users and items with fewer interactions than this, until none is left to drop."""
    max_users: Positive | None = None
    """Keep only the first so many users, in the order of their ids; for trials."""
    split: Literal["leave_one_out", "temporal"] | None = None
    """``leave_one_out``: each user's last item is for test, the one before for validation (default for named sources).
    ``temporal``: one cut in time for all users (default for your own data)."""
    validation_fraction: Fraction = 0.1
    """``temporal``: share of interactions between the validation cut and the test cut."""
    test_fraction: Fraction = 0.1
    """``temporal``: share of interactions after the test cut."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source is None) == (self.interactions is None):
            raise ValueError("give either 'source' (a named data set) or 'interactions' (your own file)")
        for field in ("event", "rating"):
            setting = "events" if field == "event" else "min_rating"
            if getattr(self, setting) is not None and self.source is None and getattr(self.columns, field) is None:
                raise ValueError(f"'{setting}' selects by the column named in columns.{field}, which is not set")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction leave nothing to train on")
        return self

    @property
    def split_kind(self) -> Literal["leave_one_out", "temporal"]:
        """``split``, or its default for this kind of data."""
        return self.split or ("leave_one_out" if self.source else "temporal")


class TrainingConfig(Section):
    """How a model is fitted; shared by teacher and student."""

    epochs: Positive = 50
    """At most so many passes over the data."""
    patience: Positive = 5
    """Stop after so many epochs without a better validation NDCG@10."""
    batch_size: Positive = 64
    """Sequences a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    ema_decay: Fraction = 0.995
    """Validate and keep an exponential moving average of the weights with this decay a step; 0 keeps the weights themselves."""


class TeacherConfig(TrainingConfig):
    """A BERT body that reads item sequences causally."""

    embedding_size: Positive = 128
    """Size of item vectors and of the transformer's hidden state."""
    layers: Positive = 2
    heads: Positive = 4
    dropout: Fraction = 0.3
    text: Literal["auto", "on", "off"] = "auto"
    """Add projected title embeddings to the item vectors. ``auto``: when the extra [text] is installed."""
    text_model: Path | None = None
    """Folder of a BERT model and tokenizer for the titles; the default is the one that comes with the extra [text]."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        return self


class TargetsConfig(Section):
    """What is kept of the teacher's opinion of each training prefix."""

    top_n: Positive = 100
    """Items and logits kept for each prefix."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """T of the softened distributions (Hinton 2015); the mass outside the top N is stored for this T."""
    batch_size: Positive = 64


_UNREAD = {"mlp": ("depth", "heads"), "residual": ("heads",), "gru": ("heads", "decays"), "transformer": ("decays",)}
"""Settings that a kind of student has no use for."""


class StudentConfig(TrainingConfig):
    """The small model that is exported. A setting that its kind does not read is a fault unless it has its default."""

    kind: Literal["mlp", "residual", "gru", "transformer"] = "mlp"
    """What encodes a history: ``mlp`` and ``residual`` read decayed averages, ``gru`` and ``transformer`` items in their order."""
    embedding_size: Annotated[int, Field(ge=2)] = 64
    hidden_size: Positive = 128
    """Width of the hidden layers; for ``gru`` of the state, for ``transformer`` of the feed-forward layers."""
    depth: Positive = 1
    """Residual blocks, recurrent layers or transformer layers; an ``mlp`` has its one hidden layer."""
    heads: Positive = 2
    """``transformer``: of attention."""
    dropout: Fraction = 0.4
    decays: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(1.0, 0.9, 0.6), min_length=1)
    """``mlp``, ``residual``: one decayed average of the history for each; the last one is the base that is corrected."""
    table: Literal["full", "low_rank"] = "full"
    """``low_rank``: item vectors share their parameters; each is ``rank`` numbers times one basis for all items."""
    rank: Annotated[int, Field(ge=2)] | None = None
    """``low_rank``: numbers kept for each item, below ``embedding_size``."""
    soft_ratio: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the teacher's softened KL in the loss; the rest is hard cross-entropy."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for setting in _UNREAD[self.kind]:
            if (value := getattr(self, setting)) != type(self).model_fields[setting].default:
                raise ValueError(f"{setting} ({value}) is not read by kind {self.kind!r}; leave it out, or choose another kind")
        if self.kind == "transformer" and self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        if self.table == "full" and self.rank is not None:
            raise ValueError(f'rank ({self.rank}) is not read by a full table; leave it out, or set table = "low_rank"')
        if self.table == "low_rank" and (self.rank is None or self.rank >= self.embedding_size):
            raise ValueError(f'table = "low_rank" needs a rank below embedding_size ({self.embedding_size}), found {self.rank}')
        return self


class QadConfig(TrainingConfig):
    """Quantisation-aware distillation: some more epochs of the student as INT8 will round it."""

    use: Literal["auto", "on", "off"] = "auto"
    """``auto``: when INT8 after training misses the ranking budget."""
    epochs: Positive = 5
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class CalibrationConfig(Section):
    """How the ranges of INT8 activations are found."""

    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.99
    """``percentile``: share of an activation's magnitudes, in percent, that is represented without clipping."""
    samples: Positive = 1024
    """Training requests drawn for calibration."""
    requests: Path | None = None
    """Recorded requests (.npz, as in an artefact's calibration.npz) to use instead."""


class EngineConfig(Section):
    """How TensorRT engines are built."""

    optimal_batch_size: Positive = 8
    """Batch size kernels are chosen for."""
    max_batch_size: Positive = 64
    workspace_mib: Positive = 1024
    """GPU memory a kernel may use beside weights and activations, in MiB."""
    compute_capabilities: tuple[str, ...] = Field(default=("8.6", "8.9", "12.0"), min_length=1)
    """GPUs that TensorRT for RTX builds for; NVIDIA TensorRT builds for the GPU it runs on.
    All go into one plan: it holds code that is compiled when it is loaded, and for these three it is as large as for one."""
    hardware_compatible: bool = False
    """NVIDIA TensorRT: run on every GPU from Ampere on, somewhat slower."""
    version_compatible: bool = False
    """NVIDIA TensorRT: run on later versions, somewhat slower; loading such a plan runs code from it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.optimal_batch_size > self.max_batch_size:
            raise ValueError(f"optimal_batch_size ({self.optimal_batch_size}) exceeds max_batch_size ({self.max_batch_size})")
        return self


class ExportConfig(Section):
    """The served model's sizes and precision, and where it goes."""

    exclude_length: Positive = 128
    """E: items beyond the history that a request can rule out."""
    top_k: Annotated[int, Field(ge=1, le=3840)] = 100
    """K: items in an answer (TensorRT's limit is 3840)."""
    max_batch_size: Positive = 64
    """Largest batch Triton forms."""
    instances: Positive | None = None
    """Instances of each model on a CPU, one ONNX Runtime thread each; the default is one for each core found."""
    target: Literal["python", "onnxruntime", "tensorrt"] = "python"
    """What serves the student. ``python``: ONNX Runtime inside Triton's Python backend, on a CPU. ``onnxruntime``: Triton's own
    backend, in NVIDIA's container. ``tensorrt``: an engine, on a GPU."""
    accelerator: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """``onnxruntime``: where it computes."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """What is served. ``auto``: the smallest precision that is faster here and keeps the ranking."""
    calibration: CalibrationConfig = CalibrationConfig()
    engines: Literal["auto", "off", "tensorrt", "tensorrt_rtx"] = "auto"
    """TensorRT engines beside the ONNX models. ``auto``: with the package that is installed, and without engines if they cannot be
    built here; a package that is named must do it."""
    engine: EngineConfig = EngineConfig()
    repository: Path = Path("triton_repo")
    """Triton model repository that is filled."""


class Config(Section):
    """All settings of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    """The run's folder below ``runs/``."""
    seed: int = 0
    history_length: Positive = 50
    """L: newest items of a history that teacher and student read."""
    data: DataConfig
    teacher: TeacherConfig = TeacherConfig()
    targets: TargetsConfig = TargetsConfig()
    student: StudentConfig = StudentConfig()
    qad: QadConfig = QadConfig()
    export: ExportConfig = ExportConfig()


def preset_names() -> list[str]:
    """Names of the presets that come with DistilRec."""
    folder = resources.files("distilrec") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(preset: str) -> Config:
    """Read a preset by name, or a TOML file by path. Relative paths to data and requests are taken from the file's folder.

    Raises:
        ConfigError: no such preset or file, not TOML, or settings with faults (all are listed).
    """
    if preset in preset_names():
        text = (resources.files("distilrec") / "presets" / f"{preset}.toml").read_text(encoding="utf-8")
        return parse_config(text, where=f"preset {preset}", folder=Path())
    path = Path(preset)
    if not path.is_file():
        names = ", ".join(preset_names())
        raise ConfigError(f"found no preset or file {preset!r}, expected one of {names} or the path of a TOML file")
    return parse_config(path.read_text(encoding="utf-8"), where=str(path), folder=path.parent)


def with_export_settings(config: Config, settings: dict[str, Any]) -> Config:
    """The same settings with some of section ``export`` replaced; None leaves one as it is.

    Raises:
        ConfigError: a value that cannot be used.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    try:
        return config.model_copy(update={"export": ExportConfig.model_validate(config.export.model_dump() | given)})
    except ValidationError as error:
        raise ConfigError("options: " + "; ".join(_fault(e).strip() for e in error.errors())) from None


def parse_config(text: str, *, where: str, folder: Path) -> Config:
    """Settings from TOML text; ``where`` names it in errors, ``folder`` is what relative data paths are relative to."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from error
    calibration = values["export"].get("calibration") if isinstance(values.get("export"), dict) else None
    for section, keys in ((values.get("data"), ("interactions", "items")), (calibration, ("requests",))):
        for key in keys:
            if isinstance(section, dict) and isinstance(section.get(key), str):
                section[key] = str(folder / section[key])
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {error.error_count()} fault(s):\n" + "\n".join(_fault(e) for e in error.errors())) from None


def _fault(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "settings"
    unsaid = error["type"] in ("missing", "extra_forbidden") or isinstance(error["input"], dict)
    found = "" if unsaid else f" (found {error['input']!r})"
    message = "no such setting" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return f"  {place}: {message}{found}"
