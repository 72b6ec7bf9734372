"""Stage ``teacher``: train a sequence teacher and keep what inference needs."""

import logging
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from distill.card import Description, write_card
from distill.fit import fit
from distill.item_table import ItemTable, popularity_prior
from distill.teachers import SequenceTeacher
from distill.text import embed_titles, find_text_model
from distill.weights import load_weights, save_weights
from distilrec.config import Config
from distilrec.data import stage as data_stage
from distilrec.manifest import Manifest, sha256_of_file
from distilrec.specs import RecommenderSpec
from distilrec.stage import Inputs, run_stage

logger = logging.getLogger(__name__)

_SUMMARY = """A sequence teacher: a BERT body that reads item histories causally and recommends the next item. The student learns
from it; it is not served."""


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train the teacher. Inputs: data."""
    text_model = find_text_model(config.teacher)
    settings = config.teacher.model_dump(mode="json", exclude={"text", "text_model"})
    settings["history_length"] = config.history_length
    settings["text_model_sha256"] = _text_model_digest(text_model)

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, vocabulary = data_stage.load(inputs["data"])
        text = embed_titles(vocabulary.titles, text_model) if text_model else None
        if text is None:
            logger.info('teacher: item vectors without title texts (extra [text] not installed, or teacher.text = "off")')
        lightning.seed_everything(config.seed, verbose=False)
        teacher = build_teacher(config, dataset.item_count, text, popularity_prior(dataset))
        spec = RecommenderSpec(dataset.item_count, config.history_length, config.export.exclude_length, min(10, dataset.item_count))
        result = fit(teacher, dataset, spec, config.teacher, seed=config.seed, scratch=scratch)
        save_weights(teacher, folder)
        description = Description("DistilRec teacher", _SUMMARY, settings)
        write_card(folder, teacher, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        return {
            "validation_ndcg@10": result.validation_ndcg,
            "epochs": result.epochs,
            "parameters": teacher.parameter_count(),
            "text_embeddings": text is not None,
        }

    return run_stage("teacher", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def build_teacher(config: Config, item_count: int, text: Tensor | None = None, popularity: Tensor | None = None) -> SequenceTeacher:
    """An untrained teacher; ``text`` is float32 [N, d_text], ``popularity`` float32 [N]."""
    settings = config.teacher
    items = ItemTable(item_count, settings.embedding_size, text, popularity)
    return SequenceTeacher(items, config.history_length, settings.layers, settings.heads, settings.dropout)


def load_teacher(config: Config, folder: Path, item_count: int) -> SequenceTeacher:
    """The trained teacher, ready for inference."""
    teacher = build_teacher(config, item_count)
    load_weights(teacher, folder)
    return teacher


def _text_model_digest(folder: Path | None) -> str | None:
    if folder is None:
        return None
    return sha256_of_file(folder / "model.safetensors")
