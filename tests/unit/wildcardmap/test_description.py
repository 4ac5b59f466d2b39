# SPDX-License-Identifier: Apache-2.0
"""Descriptions of keys."""

from __future__ import annotations

import errno

import pytest

from wildcard_operator.wildcardmap import Description, Field, InvalidArgument, Kind


def test_text_and_fields_say_the_same() -> None:
    description = Description.parse("prefix4, range2,match1,any16")

    assert description.fields == (
        Field("f0", Kind.PREFIX, 4),
        Field("f1", Kind.RANGE, 2),
        Field("f2", Kind.MATCH, 1),
        Field("f3", Kind.WILDCARD_MATCH, 16),
    )
    assert str(description) == "prefix4,range2,match1,any16"


def test_a_key_is_packed_and_padded_to_words_of_eight_bytes() -> None:
    description = Description.parse("prefix4,range2,match1,any16")

    assert description.offsets == (0, 4, 6, 7)
    assert (description.key_size, description.words) == (23, 3)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_kind_has_the_sizes_of_the_table(kind: Kind) -> None:
    allowed = []
    for size in range(-1, 33):
        try:
            Field("x", kind, size)
        except InvalidArgument:
            continue
        allowed.append(size)

    assert allowed == ([1, 2, 4, 8] if kind is Kind.RANGE else [1, 2, 4, 8, 16])


def test_nine_fields_are_the_most() -> None:
    assert len(Description.parse(",".join(["match1"] * 9)).fields) == 9
    with pytest.raises(InvalidArgument, match="a key has 1 to 9 fields, not 10"):
        Description.parse(",".join(["match1"] * 10))
    with pytest.raises(InvalidArgument, match="a key has 1 to 9 fields, not 0"):
        Description(())


def test_a_key_of_128_bytes_is_the_largest() -> None:
    assert Description.parse(",".join(["match16"] * 8)).key_size == 128
    with pytest.raises(InvalidArgument, match="a key has at most 128 bytes, not 144"):
        Description.parse(",".join(["match16"] * 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f0: '' is not a kind"),
        ("prefix4,", "f1: '' is not a kind"),
        ("prefix", "f0: 'prefix' is not a kind"),
        ("4", "f0: '4' is not a kind"),
        ("prefix3", "f0: a prefix field has 1, 2, 4, 8, 16 bytes, not 3"),
        ("match1,range16", "f1: a range field has 1, 2, 4, 8 bytes, not 16"),
        ("match0", "f0: a match field has 1, 2, 4, 8, 16 bytes, not 0"),
        ("ternary4", "f0: 'ternary4' is not a kind (prefix, range, match, any) and a size in bytes"),
        ("prefix-4", "f0: 'prefix-4' is not a kind"),
    ],
)
def test_a_description_that_cannot_be_names_its_field(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Description.parse(text)

    assert caught.value.errno == errno.EINVAL
    assert caught.value.strerror.startswith(message)


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Description((Field("port", Kind.RANGE, 2), Field("port", Kind.RANGE, 2)))

    assert caught.value.field == "port"


def test_names_do_not_change_the_layout() -> None:
    named = Description((Field("address", Kind.PREFIX, 4), Field("port", Kind.RANGE, 2)))

    assert named.same_layout(Description.parse("prefix4,range2"))
    assert not named.same_layout(Description.parse("prefix4,any2"))
