"""Stage ``text``: embeddings of all item titles, of further texts and of pictures, made once for all models."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.models.item_content import KnownOfItems
from distill.models.teachers.pretrained import model_identity
from distill.models.text import embed_titles, find_text_model
from distilrec.config import Config, ImageConfig
from distilrec.core.errors import MissingExtraError
from distilrec.core.manifest import Manifest, sha256_of_file, sha256_of_json
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.content import SCHEMA_FILE, ContentSchema, ItemContent, category_bags, dense_blocks, load_content

logger = logging.getLogger(__name__)

TITLES_FILE = "embeddings.npy"


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Write the embeddings, float32 [N, d_text] for each text; nothing of texts without a model or texts. Inputs: data.

    Raises:
        MissingExtraError: There are texts besides the titles, but no model is installed; or there are pictures, but no Pillow.
        ConfigError: A model cannot be loaded.
    """
    model = _text_model(config, inputs["data"])

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        if (found := load_content(inputs["data"])) is not None:
            schema, content = found
            for name in schema.pictures:
                np.save(folder / text_file(name), picture_embedder(config.image)(tuple(content.features[name])).numpy())
            if model is not None:
                for name in schema.texts:
                    np.save(folder / text_file(name), embed_texts(tuple(content.features[name]), model).numpy())
        if model is None:
            return {"text_embeddings": False}
        _, vocabulary = data_stage.load(inputs["data"])
        np.save(folder / TITLES_FILE, embed_titles(vocabulary.titles, model).numpy())
        return {"text_embeddings": True}

    settings = {"model_sha256": sha256_of_file(model / "model.safetensors") if model else None}
    settings |= picture_settings(config, inputs["data"])
    return run_stage("text", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _text_model(config: Config, data: Path) -> Path | None:
    """Folder of the model that embeds titles and other texts; None where there is no model, or nothing to embed."""
    if config.data.features.texts and config.text.use != "off":
        return find_text_model(config.text.model_copy(update={"use": "on"}))
    model = find_text_model(config.text)
    if model is None or _has_titles(data):
        return model
    if config.text.use == "auto":
        logger.info("text: no item has a title, so there is nothing to embed")
        return None
    logger.warning('warning: text: no item has a title, so ids are embedded as titles. use = "off" in section [text] does not')
    return model


def _has_titles(data: Path) -> bool:
    """Whether an item has a title that is not its id, which stands in for a missing one."""
    _, vocabulary = data_stage.load(data)
    return vocabulary.titles != vocabulary.item_ids


def embed_texts(texts: Sequence[str], model_folder: Path) -> Tensor:
    """Embeddings as those of titles; zeros where there is no text. float32 [n, d_text]."""
    embeddings = embed_titles([text or " " for text in texts], model_folder)
    return embeddings * torch.tensor([bool(text) for text in texts])[:, None]


def picture_embedder(config: ImageConfig) -> Callable[[Sequence[str]], Tensor]:
    """Embeddings of picture files by path.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:  # here, because it is an extra of its own
        from distill.models.image import embed_pictures
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "image") from error
    return partial(embed_pictures, config=config)


def picture_settings(config: Config, data: Path) -> dict[str, Any]:
    """What embeddings of pictures depend on: the model, and sizes and times of the files. Nothing where there are none."""
    found = load_content(data) if config.data.features.pictures and (data / SCHEMA_FILE).exists() else None
    if found is None:
        return {}
    model = str(config.image.model)
    stamps = {}
    for path in (path for name in found[0].pictures for path in found[1].features[name]):
        file = Path(path)
        stamps[path] = [file.stat().st_size, file.stat().st_mtime_ns] if path and file.is_file() else None
    identity = model_identity(Path(model) if Path(model).is_dir() else model, config.image.revision)
    return {"image_model": identity, "pictures_sha256": sha256_of_json(stamps)}


def load_known(data: Path, text: Path, *, titles: bool, names: Sequence[str]) -> KnownOfItems | None:
    """What a model reads of the items; None where that is nothing.

    Args:
        data: Folder of the data stage.
        text: Folder of this stage.
        titles: Whether it reads titles.
        names: Names of the other content that it reads.
    """
    embeddings = load_embeddings(text) if titles else None
    found = load_content(data)
    if found is None:
        return KnownOfItems.of(embeddings)
    schema = found[0].selected(names)
    texts = [torch.from_numpy(np.load(text / text_file(name))) for name in schema.embedded if (text / text_file(name)).exists()]
    return known_of_items(schema, found[1], embeddings, texts)


def known_of_items(
    schema: ContentSchema, content: ItemContent, titles: Tensor | None, texts: Sequence[Tensor]
) -> KnownOfItems | None:
    """Content as models read it: titles, texts, numbers and vectors side by side, and categories."""
    blocks = [torch.from_numpy(block) for block in dense_blocks(schema, content)]
    return KnownOfItems.of(titles, [*texts, *blocks], category_bags(schema, content))


def text_file(name: str) -> str:
    """Name of the file with the embeddings of a column of texts."""
    return f"embeddings-{hashlib.sha256(name.encode()).hexdigest()[:16]}.npy"


def load_embeddings(folder: Path) -> Tensor | None:
    """float32 [N, d_text], or None where there are none."""
    path = folder / TITLES_FILE
    return torch.from_numpy(np.load(path)) if path.exists() else None
