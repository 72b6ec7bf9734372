"""Settings: one immutable section for each stage, read from a preset or a TOML file."""

from distilrec.config.data import (
    DataConfig,
    FeatureConfig,
    FilterColumn,
    ImageConfig,
    InteractionColumns,
    ItemColumns,
    TextConfig,
    UserColumns,
    VectorConfig,
)
from distilrec.config.distillation import DistillationConfig, LossConfig
from distilrec.config.domain import DomainConfig
from distilrec.config.export import CalibrationConfig, EngineConfig, ExportConfig
from distilrec.config.item_vectors import ItemVectorConfig
from distilrec.config.reading import (
    ServingSettings,
    as_cold,
    load_config,
    load_serving_config,
    parse_config,
    parse_settings,
    preset_names,
    with_export_settings,
    with_seed,
)
from distilrec.config.rollout import Approval, RolloutConfig
from distilrec.config.run import Config
from distilrec.config.section import Section
from distilrec.config.spec import choice_sizes, judged_with, spec_of_artefact, spec_of_run
from distilrec.config.student import QadConfig, StudentConfig, StudentName, UndistilledConfig
from distilrec.config.teachers import TargetsConfig, TeacherConfig
from distilrec.config.training import Ramp, TrainingConfig
from distilrec.config.tune import TuneConfig
from distilrec.config.update import UpdateConfig

__all__ = [
    "Approval",
    "CalibrationConfig",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "DomainConfig",
    "EngineConfig",
    "ExportConfig",
    "FeatureConfig",
    "FilterColumn",
    "ImageConfig",
    "InteractionColumns",
    "ItemColumns",
    "ItemVectorConfig",
    "LossConfig",
    "QadConfig",
    "Ramp",
    "RolloutConfig",
    "Section",
    "ServingSettings",
    "StudentConfig",
    "StudentName",
    "TargetsConfig",
    "TeacherConfig",
    "TextConfig",
    "TrainingConfig",
    "TuneConfig",
    "UndistilledConfig",
    "UpdateConfig",
    "UserColumns",
    "VectorConfig",
    "as_cold",
    "choice_sizes",
    "judged_with",
    "load_config",
    "load_serving_config",
    "parse_config",
    "parse_settings",
    "preset_names",
    "spec_of_artefact",
    "spec_of_run",
    "with_export_settings",
    "with_seed",
]
