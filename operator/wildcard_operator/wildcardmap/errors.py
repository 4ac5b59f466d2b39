# SPDX-License-Identifier: Apache-2.0
"""What the wildcard map refuses, and why.

Every error is an ``OSError`` with the errno that the kernel's own maps would give, names the field that is
wrong (where one is), and leaves the map as it was.
"""

import errno


class WildcardError(OSError):
    """A refusal: ``errno``, a sentence in ``strerror``, and the ``field`` it speaks of (or None)."""

    code = errno.EINVAL

    def __init__(self, message: str, field: str | None = None) -> None:
        text = f"{field}: {message}" if field else message
        super().__init__(self.code, text)
        self.field = field


class InvalidArgument(WildcardError):
    """EINVAL: a value, a description or an option that cannot be."""


class MapFull(WildcardError):
    """E2BIG: more entries, tables or rule ids than the map was created for."""

    code = errno.E2BIG


class EntryExists(WildcardError):
    """EEXIST: NOEXIST was asked for and the entry is there."""

    code = errno.EEXIST


class EntryNotFound(WildcardError):
    """ENOENT: EXIST or a deletion was asked for and there is no such entry."""

    code = errno.ENOENT


class MapBusy(WildcardError):
    """EBUSY: another process holds the writer's lock of this group."""

    code = errno.EBUSY
