"""Section ``student.domain``: training examples of other domains than the one that is served."""

from typing import Annotated

from pydantic import Field

from distilrec.config.section import Section


class DomainConfig(Section):
    """Weights for training examples where most of the data, and so the teacher, come from elsewhere.

    A small classifier tells histories of the target's users from those of all others. Each example of another user then counts by
    how much likelier its history is in the target than elsewhere (Bickel et al. 2007), and examples of the target count once.
    """

    attribute: str
    """User attribute that says where a user comes from, one of ``data.attributes``, such as the shop or the country."""
    target: str
    """Its value for the users that the student is for."""
    largest_weight: Annotated[float, Field(ge=1)] = 10.0
    """Weights are cut to this and to its inverse, because a few examples with huge weights would be all that is learned from."""
