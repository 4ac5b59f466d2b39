# SPDX-License-Identifier: Apache-2.0
"""Refusals: each names the object, the field and what would be right, with a reason for machines."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Refusal(enum.StrEnum):
    """Why an object, or a part of it, is refused."""

    NOT_AN_OBJECT = "NotAnObject"
    MISSING_FIELD = "MissingField"
    UNKNOWN_FIELD = "UnknownField"
    WRONG_TYPE = "WrongType"
    INVALID_VALUE = "InvalidValue"
    INVALID_CIDR = "InvalidCIDR"
    INVALID_EXCEPT = "InvalidExcept"
    INVALID_PORT = "InvalidPort"
    INVALID_SELECTOR = "InvalidSelector"
    VOLATILE_LABEL = "VolatileLabel"
    CONTRADICTION = "Contradiction"
    TOO_MANY = "TooMany"
    DUPLICATE = "Duplicate"
    UNKNOWN_FORMAT = "UnknownFormat"
    DEFECT = "Defect"


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """An object's name; `namespace` is "" for cluster-wide kinds."""

    kind: str
    namespace: str
    name: str

    @property
    def text(self) -> str:
        """As people read it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class RefusedError(ValueError):
    """An object can't be taken as it is.

    Attributes:
        reason: For machines.
        ref: The object, as far as it could be read.
        path: The field, such as `spec.ingress[0].from[1].ipBlock.cidr`; "" for the whole object.
        message: What is wrong and what would be right.
    """

    def __init__(self, reason: Refusal, ref: ObjectRef, path: str, message: str) -> None:
        self.reason = reason
        self.ref = ref
        self.path = path
        self.message = message
        super().__init__(": ".join(part for part in (ref.text, path, message) if part))
