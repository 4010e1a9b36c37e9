"""Words in the names of signals, and values that carry a check digit.

Matching is by whole tokens, never by parts of words: ``acid_level`` is not "cid", ``decoder_ring`` is not "code". Chinese text has no
blanks, so it is cut by the longest known word at each place (forward maximum matching over the keywords of all rules).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date

__all__ = ["RECOGNISERS", "han_words", "phrases_in", "tokens"]

_PIECES = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[\u4e00-\u9fff]+")
_AXIS = re.compile(r"[xyzabcsuvwf]\d?(?=[a-z]{3,})")


def tokens(text: str) -> list[str]:
    """Lower-case tokens of a name: words, runs of digits and runs of Chinese characters, in order.

    >>> tokens("SpindleSpeed_Cmd[2]")
    ['spindle', 'speed', 'cmd', '2']
    >>> tokens("acid_level")
    ['acid', 'level']
    """
    return [piece.lower() for piece in _PIECES.findall(text[:500])]


def phrases_in(name: list[str], phrases: Iterable[str], *, axes: bool = False) -> list[str]:
    """Those of the phrases that occur as consecutive whole tokens.

    With ``axes`` a token may also be an axis letter before the word, as machine builders write it (``Xload``, ``Sovr``).
    """
    joined = " " + " ".join(name) + " "
    bare = {_AXIS.sub("", token, count=1) for token in name} if axes else set()
    return [phrase for phrase in phrases if f" {phrase} " in joined or (axes and " " not in phrase and phrase in bare)]


def han_words(name: list[str], known: frozenset[str], longest: int) -> list[str]:
    """The Chinese keywords in the tokens, each place cut by the longest known word."""
    found = []
    for token in name:
        if not "\u4e00" <= token[0] <= "\u9fff":
            continue
        place = 0
        while place < len(token):
            for size in range(min(longest, len(token) - place), 0, -1):
                if token[place : place + size] in known:
                    found.append(token[place : place + size])
                    place += size
                    break
            else:
                place += 1
    return found


def is_cn_id(text: str) -> bool:
    """Resident identity number: 17 digits with a real date and the MOD 11-2 check character. Source: GB 11643-1999, 3."""
    if not re.fullmatch(r"\d{17}[\dXx]", text, re.ASCII):
        return False
    try:
        born = date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    if not 1880 <= born.year <= 2100:
        return False
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()


_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def is_uscc(text: str) -> bool:
    """Unified social credit code: 18 characters with the MOD 31-3 check character. Source: GB 32100-2015, 4.5."""
    text = text.upper()
    if len(text) != 18 or any(character not in _USCC for character in text):
        return False
    total = sum(_USCC.index(character) * (3**place % 31) for place, character in enumerate(text[:17]))
    return _USCC[(31 - total % 31) % 31] == text[17]


def is_cn_mobile(text: str) -> bool:
    """Eleven digits that begin like a mobile number of mainland China, with or without ``+86``."""
    return re.fullmatch(r"(?:\+?86[ -]?)?1[3-9]\d{9}", text, re.ASCII) is not None


def is_bank_card(text: str) -> bool:
    """16 to 19 digits, not all alike, with a correct Luhn digit. Source: ISO/IEC 7812-1, Annex B."""
    if not re.fullmatch(r"\d{16,19}", text, re.ASCII) or len(set(text)) < 3:
        return False
    total = 0
    for place, digit in enumerate(reversed(text)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


_VIN = {**{str(n): n for n in range(10)}, **dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))}  # fmt: skip
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def is_vin(text: str) -> bool:
    """Vehicle identification number with the check digit at place nine. Source: GB 16735-2019, 5; 49 CFR 565.15."""
    text = text.upper()
    if len(text) != 17 or any(character not in _VIN for character in text) or text.isdigit():
        return False
    rest = sum(_VIN[character] * weight for character, weight in zip(text, _VIN_WEIGHTS, strict=True)) % 11
    return text[8] == ("X" if rest == 10 else str(rest))


RECOGNISERS: Mapping[str, Callable[[str], bool]] = {
    "bank-card": is_bank_card,
    "cn-id": is_cn_id,
    "cn-mobile": is_cn_mobile,
    "uscc": is_uscc,
    "vin": is_vin,
}
"""Recognisers of values, as rule packs name them."""
