"""What is known to go wrong in releases of tritonserver, by the version that a server reports."""

import re

FIRST_MENDED = (2, 53)
"""Server version of release 24.12, the first with the mend of triton-inference-server/server#7368 (pull request #7840)."""


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


def http_risk(version: str) -> str:
    """The risk of open HTTP, as one line for people.

    Args:
        version: Version as the server reports it.
    """
    return (
        f"--http: every account of this machine can end tritonserver {version} with one small HTTP request, or make it take all"
        " memory, as it believes the shapes and brackets of the JSON that it gets. Let only programs use it whose requests you"
        " know; see OPERATIONS.md, Security"
    )
