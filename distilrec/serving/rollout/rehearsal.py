"""A version's first start, in a server of its own.

A version that fails can take its server with it: tritonserver has been seen to end with a segmentation fault when a warm-up fails,
and one that answers wrongly answers somebody before it is found out. Here it does so where nobody asks.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf import text_format

from distilrec.core.errors import MissingExtraError, ServerError
from distilrec.core.files import write_text
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.process.wheel import find_tritonserver
from distilrec.serving.rollout.journal import WARMUP, parse_config
from distilrec.serving.rollout.live import Observer, Server
from distilrec.serving.rollout.staging import version_config

_START_S = 10.0


def can_rehearse() -> bool:
    """Whether there is a tritonserver on this machine."""
    try:
        find_tritonserver()
    except (MissingExtraError, ServerError):
        return False
    return True


def rehearse(repository: Path, names: Sequence[str], version: int, load_timeout_s: float) -> None:
    """Start a server with this version alone, one instance of each model, warm-up included, and ask it the golden requests.

    Args:
        repository: where the version is staged.
        names: of the models that are served together.
        version: number of the version.
        load_timeout_s: seconds the loads may take; a server itself has some more to start.

    Raises:
        ServerError: the server does not get ready with it; the message has the end of its log.
        ParityError, DataError: it does not give its golden answers.
    """
    with TemporaryDirectory(prefix="distilrec-rehearsal-") as folder:
        alone = Path(folder) / "repository"
        largest = {name: _link(repository, alone, name, version) for name in names}[MODEL_NAME]
        log, start_timeout_s = Path(folder) / "tritonserver.log", load_timeout_s + _START_S
        with (
            TritonServer(alone, free_ports(), log, start_timeout_s=start_timeout_s) as server,
            Observer(Server(server.url, ControlSecret()), largest) as observer,
        ):
            observer.check_version(repository, names, version)


def _link(repository: Path, alone: Path, name: str, version: int) -> int:
    """Give a model a place in the repository ``alone``; returns its largest batch."""
    model, config = repository / name, parse_config(version_config(repository, name, version))
    for group in config.instance_group:
        group.count = 1
    (alone / name).mkdir(parents=True)
    for linked in (str(version), WARMUP):
        if (model / linked).exists():
            (alone / name / linked).symlink_to((model / linked).absolute(), target_is_directory=True)
    write_text(alone / name / "config.pbtxt", str(text_format.MessageToString(config)))
    return int(config.max_batch_size)
