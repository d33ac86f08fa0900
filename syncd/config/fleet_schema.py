"""Describes the fleet, `fleet:`, as pydantic models over plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from syncd.config.field_types import AnyDuration, SecretHere, Share, Text, one_of, validated
from syncd.config.model import FleetRole
from syncd.config.strict_model import Strict
from syncd.fleet_labels import LABEL_PART, checked_label

HALT_ON = ("validate", "hook", "health", "drift")
# The one form of an Ed25519 key in OpenSSH's .pub files (RFC 8709): 51 bytes, the first 19 fixed.
PUBLIC_KEY = r"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}( .*)?"


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError("the value must be labels, such as {tier: web}")
    return dict(checked_label(str(name), text) for name, text in value.items())


Labels = Annotated[
    dict[str, str],
    validated(
        _labels,
        type="object",
        minProperties=1,
        propertyNames={"pattern": f"^{LABEL_PART.pattern}$"},
        additionalProperties={"type": ["string", "number"]},
    ),
]


class RolloutModel(Strict):
    """The waves in which a commit reaches the agents, `rollout:`."""

    canary: Share
    then: Share | None = None
    pause: AnyDuration = 300.0
    halt_on: list[Annotated[Text, one_of(*HALT_ON)]] = Field(default=[*HALT_ON])

    @model_validator(mode="after")
    def _grows(self) -> RolloutModel:
        if self.then is not None and self.then <= self.canary:
            raise ValueError("'then' is the second wave, with more agents than 'canary'")
        return self


class FleetModel(Strict):
    """The fleet that this machine belongs to, `fleet:`."""

    database: SecretHere
    role: Annotated[FleetRole, one_of(*FleetRole)]
    name: Text | None = None
    labels: Labels | None = None
    sign: SecretHere | None = None
    trust: list[Text] = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", value):
            raise ValueError(f"'{value[:40]}' is no name; write letters, digits, '-', '_' and '.'")
        return value

    @field_validator("trust")
    @classmethod
    def _trust(cls, value: list[str]) -> list[str]:
        for line in value:
            if not re.fullmatch(PUBLIC_KEY, line):
                raise ValueError(
                    f"'{line[:40]}' is no public key; write the line of the .pub file that"
                    " ssh-keygen -t ed25519 makes"
                )
        return value

    @model_validator(mode="after")
    def _keys(self) -> FleetModel:
        if self.role.controls and self.sign is None:
            raise ValueError("a controller needs 'sign', the private key of its revisions")
        if not self.role.controls and self.sign is not None:
            raise ValueError("'sign' belongs to controllers: an agent must not have the key")
        if self.labels and not self.role.mirrors:
            raise ValueError("'labels' belong to agents: a controller mirrors nothing")
        if self.role.mirrors and not self.trust:
            raise ValueError("an agent needs 'trust', the public keys of the controllers")
        return self
