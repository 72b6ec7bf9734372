"""What is known to go wrong in releases of tritonserver, by the version that a server reports."""

import json
import re
from http import HTTPStatus

from distilrec.serving.process.loopback import call

FIRST_MENDED = (2, 53)
"""Server version of release 24.12, the first with the mend of triton-inference-server/server#7368 (pull request #7840)."""
_TIMEOUT_S = 2.0


def risk(version: str) -> str | None:
    """The risk of running a server of this version, as one line for people; None where none is known.

    Args:
        version: Version as the server reports it, for example "2.51.0".
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        return f"tritonserver reports version {version!r}, expected numbers; from 2.53 (release 24.12) clients cannot end it"
    if (int(found[1]), int(found[2])) >= FIRST_MENDED:
        return None
    return (
        f"tritonserver {version} can be ended by any client: expired gRPC deadlines and cancelled calls crash it"
        " (triton-inference-server/server#7368). Mended from 2.53 (release 24.12); see OPERATIONS.md, Releases of tritonserver"
    )


def version_of(http_url: str) -> str | None:
    """Version that the server at this loopback HTTP endpoint reports; None without an answer."""
    try:
        reply = call(http_url, "GET", "/v2", timeout_s=_TIMEOUT_S)
        return str(json.loads(reply.body)["version"]) if reply.status == HTTPStatus.OK else None
    except (OSError, ValueError, KeyError):
        return None
