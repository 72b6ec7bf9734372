"""Section ``rollout``: who decides that a new version is served."""

from typing import Literal

from distilrec.config.section import Section

Approval = Literal["none", "required"]
"""Whether a person has to agree before a new version reaches users."""


class RolloutConfig(Section):
    """How a new version gets into a running server."""

    approval: Approval = "none"
    """``required``: ``distilrec promote`` stops after the rehearsal with a page to review, and the version waits for
    ``distilrec approve`` or ``distilrec reject``."""
