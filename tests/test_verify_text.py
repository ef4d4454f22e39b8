"""Every character is normalised by Unicode's own tables: whole categories, not examples."""

import sys
import unicodedata

from dagrpo.verify.text import characters, clean, same_text


def of_category(*categories: str) -> list[str]:
    return [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in categories]


def test_digits_of_every_script_are_decimal_digits() -> None:
    assert [c for c in of_category("Nd") if characters(c) != str(unicodedata.decimal(c))] == []


def test_every_dash_is_a_minus() -> None:
    assert [c for c in of_category("Pd") if characters(f"{c}5") != "-5"] == []


def test_what_has_no_width_is_nothing_and_every_space_is_a_space() -> None:
    assert [c for c in of_category("Cf") if characters(f"1{c}5") != "15"] == []
    assert [c for c in of_category("Zs") if clean(f"x{c}+ 5") != "x + 5"] == []


def test_fullwidth_forms_are_plain_ones() -> None:
    plain = "".join(map(chr, range(0x21, 0x7F)))
    assert characters("".join(chr(ord(c) + 0xFEE0) for c in plain)) == characters(plain)


def test_currencies_differ_from_each_other() -> None:
    texts = [f"5{c}" for c in "€£¥₹₩"]
    assert not any(same_text(left, right) for left in texts for right in texts if left != right)
