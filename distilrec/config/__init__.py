"""Settings: one frozen section a stage, read from a preset or a TOML file."""

from distilrec.config.data import DataConfig, InteractionColumns, ItemColumns, TextConfig, UserColumns
from distilrec.config.export import CalibrationConfig, EngineConfig, ExportConfig
from distilrec.config.reading import load_config, load_export_config, parse_config, preset_names, with_export_settings, with_seed
from distilrec.config.run import Config
from distilrec.config.section import Section
from distilrec.config.student import DistillationConfig, QadConfig, StudentConfig, UndistilledConfig
from distilrec.config.teachers import (
    AssistantTeacherConfig,
    EaseTeacherConfig,
    NeuralTeacherConfig,
    SequenceTeacherConfig,
    TargetsConfig,
    Teacher,
    TextTeacherConfig,
)
from distilrec.config.training import Ramp, TrainingConfig
from distilrec.config.tune import TuneConfig

__all__ = [
    "AssistantTeacherConfig",
    "CalibrationConfig",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "EaseTeacherConfig",
    "EngineConfig",
    "ExportConfig",
    "InteractionColumns",
    "ItemColumns",
    "NeuralTeacherConfig",
    "QadConfig",
    "Ramp",
    "Section",
    "SequenceTeacherConfig",
    "StudentConfig",
    "TargetsConfig",
    "Teacher",
    "TextConfig",
    "TextTeacherConfig",
    "TrainingConfig",
    "TuneConfig",
    "UndistilledConfig",
    "UserColumns",
    "load_config",
    "load_export_config",
    "parse_config",
    "preset_names",
    "with_export_settings",
    "with_seed",
]
