"""The compact form of a token: a token has exactly one text, and a text has exactly one meaning."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextarget.tokens.compact import read_compact
from tests.tokens.forging import segment

HEADER, CLAIMS = {"alg": "HS256", "kid": "k"}, {"sub": "ada", "aud": ["x"], "n": 1.5}
SIGNATURE = segment(bytes(range(32)))
GOOD = f"{segment(HEADER)}.{segment(CLAIMS)}.{SIGNATURE}"


def refused(token: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_compact(token)


def test_header_and_claims_are_read() -> None:
    """A token has three segments. The first two are JSON objects."""
    assert read_compact(GOOD) == (HEADER, CLAIMS)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize(
    "form", ["{}=", "{}==", "{}===", " {}", "{} ", "{}\n", "\n{}", "{}!", "\x00{}", "{}\u200b", "é{}"]
)
def test_what_base64_decoders_pass_over_is_refused(where: int, form: str) -> None:
    """RFC 7515, 2: base64url has no padding, line breaks, white space or other additional characters."""
    segments = GOOD.split(".")
    segments[where] = form.format(segments[where])
    refused(".".join(segments))


@pytest.mark.parametrize("where", [0, 1, 2])
def test_bits_that_are_left_over_are_none_of_the_token(where: int) -> None:
    """RFC 4648, 3.5: a last character with stray bits is refused. It would be a second text of the same token."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for filling in ("", "x", "xx"):
        header, claims = HEADER | {"f": filling}, CLAIMS | {"f": filling}
        signature = segment(bytes(range(32 + len(filling))))
        segments = f"{segment(header)}.{segment(claims)}.{signature}".split(".")
        right = segments[where]
        octets = base64.urlsafe_b64decode(right + "=" * (-len(right) % 4))
        same = [
            right[:-1] + last
            for last in alphabet
            if base64.urlsafe_b64decode(right[:-1] + last + "=" * (-len(right) % 4)) == octets
        ]
        assert right in same
        for other in same:
            segments[where] = other
            if other == right:
                assert read_compact(".".join(segments)) == (header, claims)
            else:
                refused(".".join(segments))


def test_the_alphabet_of_plain_base64_is_refused() -> None:
    """The characters + and / belong to plain base64, not to base64url."""
    header = segment({"x": "???>>>~~~"})
    assert read_compact(f"{header}.{segment(CLAIMS)}.{SIGNATURE}")[0] == {"x": "???>>>~~~"}
    plain = header.replace("-", "+").replace("_", "/")
    assert plain != header
    refused(f"{plain}.{segment(CLAIMS)}.{SIGNATURE}")


@pytest.mark.parametrize(
    "text",
    [
        '{"aud": "evil", "aud": "ours"}',
        '{"aud": "ours", "aud": "ours"}',
        '{"aud": "evil", "\\u0061ud": "ours"}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": [{"b": 1, "b": 1}]}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": Infinity}',
        '{"a": 1}{"a": 2}',
        '{"a": 1},',
        "{'a': 1}",
        "[]",
        '"text"',
        "null",
        "1",
        "",
        "\ufeff{}",
    ],
)
@pytest.mark.parametrize("where", [0, 1])
def test_json_that_two_parsers_may_read_in_two_ways_is_refused(where: int, text: str) -> None:
    """RFC 7515, 4, and RFC 7519, 4: names must be unique at every depth, also when one is escaped. Other ambiguous JSON
    is refused too."""
    segments = GOOD.split(".")
    segments[where] = segment(text.encode())
    refused(".".join(segments))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_json_is_utf_8(encoding: str) -> None:
    """RFC 7515, 3: only UTF-8 is read, although Python's parser detects other encodings of Unicode."""
    refused(f"{segment(json.dumps({'a': 'é'}, ensure_ascii=False).encode(encoding))}.{segment(CLAIMS)}.{SIGNATURE}")


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c", f"{GOOD}.", f".{GOOD}", f"{GOOD}.{SIGNATURE}", "é.é.é"]
)
def test_another_number_of_segments_is_no_token(token: str) -> None:
    """A token has exactly three segments. The signature may be empty here: the caller must refuse a token without
    one."""
    refused(token)
    assert read_compact(GOOD.removesuffix(SIGNATURE)) == (HEADER, CLAIMS)


def test_deeply_nested_json_ends_in_an_error_of_these_two() -> None:
    """JSON that is nested too deeply raises ValueError or RecursionError, which callers catch."""
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    refused(f"{segment(deep)}.{segment(CLAIMS)}.{SIGNATURE}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), json_values, max_size=5)


@given(header=objects, claims=objects, signature=st.binary(min_size=1, max_size=70))
def test_whatever_is_encoded_is_read_back(header: dict[str, Any], claims: dict[str, Any], signature: bytes) -> None:
    """Any JSON objects, with a signature of any length, are read as they were encoded."""
    assert read_compact(f"{segment(header)}.{segment(claims)}.{segment(signature)}") == (header, claims)


@given(st.text(max_size=200) | st.lists(st.binary(max_size=30).map(segment), min_size=1, max_size=4).map(".".join))
def test_no_text_raises_anything_else(token: str) -> None:
    """Any text is either read as two JSON objects, or raises ValueError or RecursionError."""
    try:
        header, claims = read_compact(token)
    except (ValueError, RecursionError):
        return
    assert isinstance(header, dict)
    assert isinstance(claims, dict)
