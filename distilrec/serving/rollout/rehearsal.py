"""A version's first start, in a server of its own that no client uses.

A version that fails can take its server with it: tritonserver has been seen to end with a segmentation fault when a warm-up fails.
A version that answers wrongly gives clients wrong answers until the live checks find it.
"""

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format

from distilrec.core.errors import MissingExtraError, ServerError
from distilrec.core.files import write_text
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.process.rehearsal_folder import rehearsal_folder
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.process.wheel import find_tritonserver
from distilrec.serving.rollout.live_checks import LiveChecks
from export.repository.versions import WARMUP, parse_config, version_configs

_EXTRA_START_S = 10.0
"""Seconds that a server takes to start, next to the loads."""


def can_rehearse() -> bool:
    """Whether there is a tritonserver on this machine."""
    try:
        find_tritonserver()
    except (MissingExtraError, ServerError):
        return False
    return True


def rehearse(repository: Path, names: Sequence[str], version: int, load_timeout_s: float) -> None:
    """Start a server with this version alone, one instance of each model, warm-up included, and check its golden answers.

    Args:
        repository: Repository in which the version is staged.
        names: Models that are served together.
        version: Number of the version.
        load_timeout_s: Seconds that the loads may take; the server itself gets some more to start.

    Raises:
        ServerError: the server does not get ready with it; the message has the end of its log.
        ParityError, DataError: it does not give its golden answers.
    """
    with rehearsal_folder(repository) as (folder, pid_file):
        alone, log = folder / "repository", folder / "tritonserver.log"
        configs = version_configs(repository, names, version)
        for name, text in configs.items():
            _link(repository / name, alone / name, text, version)
        max_batch_size = parse_config(configs[MODEL_NAME]).max_batch_size
        with (
            TritonServer(alone, free_ports(), log, start_timeout_s=load_timeout_s + _EXTRA_START_S, pid_file=pid_file) as server,
            LiveChecks(server.url, max_batch_size) as checks,
        ):
            checks.check_version(repository, names, version)


def _link(model: Path, alone: Path, config_text: str, version: int) -> None:
    """Make the folder ``alone``: links to one version of a model and to its first requests, configured for one instance."""
    config = parse_config(config_text)
    for group in config.instance_group:
        group.count = 1
    alone.mkdir(parents=True)
    for linked in (str(version), WARMUP):
        if (model / linked).exists():
            (alone / linked).symlink_to((model / linked).absolute(), target_is_directory=True)
    write_text(alone / "config.pbtxt", str(text_format.MessageToString(config)))
