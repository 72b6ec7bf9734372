"""The tiny shop's student, exported so that requests can choose: filters, lists of allowed items, repeats and similar items."""

from pathlib import Path

import pytest

from distilrec.config import Config
from distilrec.core.errors import DataWarning
from distilrec.serving.process.server import TritonServer, free_ports

COLOURS = ("red", "blue", "grün")


def write_catalogue(path: Path, count: int) -> Path:
    """A catalogue with a genre for every item, a colour for some, and several tags; one item alone has the genre "rare"."""
    lines = ["item_id,title,genre,colour,tags"]
    for item in range(count):
        genre = "rare" if item == 7 else f"genre {item % 6}"
        colour = COLOURS[item % 3] if item % 4 else ""
        lines.append(f"item-{item},title {item},{genre},{colour},{'|'.join(f'tag {tag}' for tag in range(item % 3))}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def choosing_config(shop_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("choosing")
    filters = {"genre": {}, "colour": {}, "tag": {"column": "tags", "separator": "|"}}
    settings = shop_config.model_dump()
    settings["data"] |= {"items": write_catalogue(folder / "items.csv", 90), "filters": filters}
    settings["export"] |= {"filter_length": 4, "allow_length": 5, "repeats": "allow", "similar": True}
    settings["export"] |= {"repository": folder / "triton_repo"}
    return Config.model_validate(settings)


@pytest.fixture(scope="session")
def choosing_run(choosing_config: Config, shop_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the stages ``data`` and ``export``; the student is that of the shop."""
    from distilrec.data import stage as data_stage
    from export import stage as export_stage

    folder = tmp_path_factory.mktemp("choosing") / "run"
    with pytest.warns(DataWarning, match="23 without colour, 30 without tag"):
        data_stage.run(choosing_config, {}, folder / "data")
    inputs = {"data": folder / "data", "student": shop_run / "student", "verdict": shop_run / "student-verdict"}
    export_stage.run(choosing_config, inputs, folder / "export")
    return folder


@pytest.fixture(scope="session")
def choosing_server(choosing_run: Path, choosing_config: Config):
    from export.repository.fill import fill_repository

    fill_repository(choosing_run / "export", choosing_config.export)
    with TritonServer(choosing_config.export.repository, free_ports(), choosing_run / "tritonserver.log", http=True) as server:
        yield server
