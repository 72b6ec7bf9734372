"""Settings: one frozen section a stage, read from a preset or a TOML file."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distilrec.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]


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


class TextConfig(Section):
    """Embeddings of item titles, made once for all models that take text in."""

    use: Literal["auto", "on", "off"] = "auto"
    """``auto``: when the extra [text] is installed."""
    model: Path | None = None
    """Folder of a BERT model and tokenizer; the default is the one that comes with the extra [text]."""


class Ramp(Section):
    """A value that moves from ``start`` to ``end`` over the epochs."""

    start: Annotated[float, Field(ge=0)]
    end: Annotated[float, Field(ge=0)]
    shape: Literal["linear", "cosine"] = "linear"


Scheduled = Annotated[float, Field(ge=0)] | Ramp


class TrainingConfig(Section):
    """How a model is fitted; shared by teachers and students."""

    epochs: Positive = 50
    """At most so many passes over the data."""
    patience: Positive = 5
    """Stop after so many epochs without a better validation NDCG@10."""
    batch_size: Positive = 64
    """Sequences a step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """``sgd`` has a momentum of 0.9."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    """``cosine``: the learning rate falls to 0 over ``epochs``."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs over which the learning rate rises from 0, step by step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Decoupled from the gradient for ``adamw`` (Loshchilov and Hutter 2019), L2 for the others; not for biases and norms."""
    ema_decay: Fraction = 0.995
    """Validate and keep an exponential moving average of the weights with this decay a step; 0 keeps the weights themselves."""
    negatives: Positive | None = None
    """Items drawn for each batch that the true items are held against; None for the whole catalogue (up to some 50,000 items)."""


class NeuralTeacherConfig(TrainingConfig):
    """A teacher that is fitted."""

    asked_prefixes_per_window: Positive | None = None
    """Ask only about the newest so many prefixes of each training window (of ``history_length``). None for all, which takes a pass
    for each with kind ``text`` or objective ``masked``. Where a teacher was not asked, others and true items are learned from."""


class SequenceTeacherConfig(NeuralTeacherConfig):
    """A BERT body that reads item sequences."""

    kind: Literal["sequence"] = "sequence"
    objective: Literal["causal", "masked"] = "causal"
    """``causal``: each position predicts the next item (SASRec); ``masked``: hidden items are guessed from both sides (BERT4Rec)."""
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """``masked``: share of the items of a window that are hidden."""
    embedding_size: Positive = 128
    """Size of item vectors and of the transformer's hidden state."""
    layers: Positive = 2
    heads: Positive = 4
    dropout: Fraction = 0.3
    text: bool = True
    """Add projected title embeddings to the item vectors, where there are any (section ``text``)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        return self


class TextTeacherConfig(NeuralTeacherConfig):
    """A pretrained BERT that reads the titles of a history as text, and is fine-tuned."""

    kind: Literal["text"] = "text"
    model: str | Path | None = None
    """Folder of a model of the BERT family with its tokenizer, or a name on the Hugging Face hub; None for the model that embeds
    titles (section ``text``)."""
    revision: str = "main"
    """Branch, tag or commit of a model on the hub."""
    freeze: Literal["none", "gradual"] | Annotated[int, Field(ge=0, strict=True)] = "none"
    """What of the model stays as it is: nothing, or the embeddings and the first so many layers, or (``gradual``) at first all, and
    then one more layer learns at a time, from the top (Howard and Ruder 2018)."""
    unfreeze_every: Positive = 1
    """``gradual``: epochs until one more layer learns."""
    body_learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Of the pretrained model; ``learning_rate`` is that of the head and the item vectors."""
    max_titles: Positive = 20
    """Newest titles of a history that are read."""
    max_tokens: Annotated[int, Field(ge=3)] = 256
    """Tokens that are read, the two at the ends included; the oldest are left out."""
    prefixes_per_window: Positive = 4
    """Prefixes of each window that a step learns from, drawn anew each epoch."""
    embedding_size: Annotated[int, Field(ge=2)] = 128
    dropout: Fraction = 0.1
    text: bool = True
    """Add projected title embeddings to the item vectors that candidates are scored with (section ``text``)."""
    epochs: Positive = 10
    batch_size: Positive = 16
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class EaseTeacherConfig(Section):
    """A linear item-item model in closed form (Steck 2019): one inversion of an N x N matrix."""

    kind: Literal["ease"] = "ease"
    l2: Annotated[float, Field(gt=0)] = 100.0
    """Regularisation: what is added to the diagonal of the co-occurrence matrix."""
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of an item of the history relative to the one after it."""
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Logits are scores times this, since EASE's scores are no log-probabilities."""


class TargetsConfig(Section):
    """What is kept of a teacher's opinion of each training prefix, and of how teachers are mixed."""

    top_n: Positive = 100
    """Items and logits kept for each prefix."""
    temperatures: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(1.0, 2.0, 4.0), min_length=1)
    """T for which the mass outside the top n is kept (Hinton 2015); a student may use any temperature between them."""
    perturbed_copies: Annotated[int, Field(ge=0)] = 0
    """Copies of the training sequences with items left out at random that the teachers are asked about, too. On what it was trained on
    a teacher repeats the true items; on these it says what it thinks (cf. Yue et al. 2021)."""
    drop_fraction: Fraction = 0.3
    """Share of items left out of a copy."""
    features: bool = False
    """Keep the teacher's user vectors, too; the losses ``hint`` and ``relation`` need them."""
    batch_size: Positive = 64
    weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(default=None, min_length=1)
    """The ensemble: teachers by name, and how much the log-probabilities of each count. Default: all teachers that no assistant
    learns from, equally."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.temperatures) != sorted(set(self.temperatures)) or 1.0 not in self.temperatures:
            raise ValueError(f"temperatures must rise and hold 1.0, at which teachers are mixed (found {self.temperatures})")
        return self


class DistillationConfig(Section):
    """How a student learns from soft targets: what each loss counts, and when. A number, or a ramp over the epochs."""

    hard: Scheduled = 0.5
    """Cross-entropy with the true next item."""
    soft: Scheduled = 0.5
    """Softened KL (Hinton 2015)."""
    mse: Scheduled = 0.0
    """Squared difference of logits (Ba and Caruana 2014)."""
    ranking: Scheduled = 0.0
    """Listwise ranking of the teacher's best items (DE-RRD, Kang et al. 2020)."""
    stratified: Scheduled = 0.0
    """Pairs of items of similar popularity (UnKD, Chen et al. 2023)."""
    hint: Scheduled = 0.0
    """The teacher's user vectors through a projection (FitNets, Romero et al. 2014); needs a teacher with user vectors."""
    relation: Scheduled = 0.0
    """Distances and angles between the teacher's user vectors (RKD, Park et al. 2019); needs a teacher with user vectors."""
    temperature: Annotated[float, Field(gt=0)] | Ramp = 1.0
    """T of the softened distributions; within ``targets.temperatures``."""
    confidence: bool = False
    """Adaptive: trust the teacher more where it ranks the true item high (cf. DLLM2Rec, Cui et al. 2024)."""


class StudentConfig(TrainingConfig):
    """The small model that is exported."""

    embedding_size: Annotated[int, Field(ge=2)] = 64
    hidden_size: Positive = 128
    dropout: Fraction = 0.4
    decays: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(1.0, 0.9, 0.6), min_length=1)
    """One decayed average of the history for each; the last one is the base the MLP corrects."""
    text: bool = True
    """Add projected title embeddings to the item vectors, where there are any; nothing of it is left at inference."""
    distillation: DistillationConfig = DistillationConfig()
    """Not used by a student that is trained without a teacher."""


class AssistantTeacherConfig(Section):
    """A larger student that teaches the smaller one (teacher assistant, Mirzadeh et al. 2019)."""

    kind: Literal["assistant"] = "assistant"
    student: StudentConfig = StudentConfig(embedding_size=128, hidden_size=512)
    taught_by: tuple[str, ...] = ()
    """Names of the teachers it learns from; none for a large model that is trained alone."""


Teacher = Annotated[
    SequenceTeacherConfig | TextTeacherConfig | EaseTeacherConfig | AssistantTeacherConfig, Field(discriminator="kind")
]


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

    name: Name
    """The run's folder below ``runs/``."""
    seed: int = 0
    history_length: Positive = 50
    """L: newest items of a history that teacher and student read."""
    processes: Positive = 1
    """Processes that share a training (PyTorch's DDP): as many GPUs where there are any, else CPU processes."""
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"
    """Where losses and validation metrics of trainings go, besides the progress bar."""
    data: DataConfig
    text: TextConfig = TextConfig()
    teachers: dict[Name, Teacher] = Field(default={"sequence": SequenceTeacherConfig()}, min_length=1)
    """By name; several are mixed as ``targets.weights`` says."""
    targets: TargetsConfig = TargetsConfig()
    student: StudentConfig = StudentConfig()
    qad: QadConfig = QadConfig()
    export: ExportConfig = ExportConfig()

    @property
    def student_teachers(self) -> dict[str, float]:
        """Names and weights of the teachers the student learns from."""
        if self.targets.weights is not None:
            return self.targets.weights
        used = {name for teacher in self._assistants.values() for name in teacher.taught_by}
        return {name: 1.0 for name in self.teachers if name not in used}

    @property
    def _assistants(self) -> dict[str, AssistantTeacherConfig]:
        return {name: teacher for name, teacher in self.teachers.items() if isinstance(teacher, AssistantTeacherConfig)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = ", ".join(self.teachers)
        for name in self.targets.weights or ():
            if name not in self.teachers:
                raise ValueError(f"targets.weights: found {name!r}, expected names of teachers ({known})")
        earlier: list[str] = []
        for name, teacher in self.teachers.items():
            for other in teacher.taught_by if isinstance(teacher, AssistantTeacherConfig) else ():
                if other not in earlier:
                    raise ValueError(f"teachers.{name}.taught_by: found {other!r}, expected teachers that stand before it")
            earlier.append(name)
        self._check_learner("student", self.student, tuple(self.student_teachers))
        for name, assistant in self._assistants.items():
            self._check_learner(f"teachers.{name}.student", assistant.student, assistant.taught_by)
        return self

    def _check_learner(self, place: str, student: StudentConfig, teachers: tuple[str, ...]) -> None:
        settings, grid = student.distillation, self.targets.temperatures
        temperature = settings.temperature
        for value in (temperature.start, temperature.end) if isinstance(temperature, Ramp) else (temperature,):
            if not min(grid) <= value <= max(grid):
                raise ValueError(
                    f"{place}.distillation.temperature: found {value}, expected one within targets.temperatures"
                    f" ({min(grid)} to {max(grid)})"
                )
        if settings.hint == 0 and settings.relation == 0:
            return
        vectors = [name for name in teachers if not isinstance(self.teachers[name], EaseTeacherConfig)]
        if teachers and (not self.targets.features or len(teachers) > 1 or not vectors):
            raise ValueError(
                f"{place}.distillation: hint and relation learn from user vectors; they need targets.features = true and one"
                " teacher that has such (a mixture and 'ease' have none)"
            )


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
    paths = ((values.get("data"), ("interactions", "items")), (values.get("text"), ("model",)), (calibration, ("requests",)))
    for section, keys in paths:
        for key in keys:
            if isinstance(section, dict) and isinstance(section.get(key), str):
                section[key] = str(folder / section[key])
    for teacher in values["teachers"].values() if isinstance(values.get("teachers"), dict) else ():
        name = teacher.get("model") if isinstance(teacher, dict) else None
        if isinstance(name, str) and (folder / name).is_dir():  # else a name on the hub
            teacher["model"] = str(folder / name)
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
