"""Stage ``refreshed-data``: the data of a run with its catalogue as it is now."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import item_filters
from distilrec.data.content import ItemContent
from distilrec.data.refresh import CatalogueChange
from distilrec.data.vocabulary import FILE_NAME


def run(change: CatalogueChange, inputs: Inputs, out_dir: Path, *, listed: Mapping[str, str], seed: int) -> Manifest:
    """Write the folder, which later stages read as that of stage ``data``.

    Args:
        change: The catalogue, and what is different in it.
        inputs: The folder of stage ``data``, and ``former``: that of an earlier refresh, where the change is one to its catalogue.
        out_dir: Folder of the finished stage; it may be that of the earlier refresh.
        listed: Digests of the files that the change was read from, by what they hold.
        seed: Random seed of the run.
    """

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        vocabulary, schema, content = change.catalogue.vocabulary, change.catalogue.schema, change.catalogue.content
        for path in inputs["data"].iterdir():
            if path.name in read_manifest(inputs["data"]).files:
                shutil.copyfile(path, folder / path.name)
        vocabulary.save(folder / FILE_NAME)
        if change.filters is not None:
            change.filters.save(folder / item_filters.FILE_NAME)
        if schema is not None and isinstance(content, ItemContent):
            content.save(folder)
        return {
            "items": len(vocabulary),
            "vocabulary_sha256": vocabulary.sha256,
            "new": len(change.new),
            "changed": len(change.changed),
            "retired": len(change.retired),
            "returned": len(change.returned),
            **({} if change.filters is None else {"refiltered": change.refiltered}),
            "retired_in_all": len(vocabulary.retired),
        }

    return run_stage("refreshed-data", settings=dict(listed), seed=seed, inputs=inputs, out_dir=out_dir, work=work)
