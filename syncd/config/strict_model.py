"""The base of all models of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)
