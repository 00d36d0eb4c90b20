"""Operations of form: each holds where it should, not where it should not, and makes what it accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.words.forms import FORM_BY_NAME, FORMS
from agent.words.spelling import plurals, script, stem, with_suffix
from agent.words.token_classes import CLASSES

HOLDS = [
    ("copying", " Bol", "bol"),
    ("exact copying", " Bol", " Bol"),
    ("copying with case variants", " Bol", "BOL"),
    ("copying with spacing variants", " Bol", "Bol"),
    ("word to upper case", " red", " RED"),
    ("word to lower case", " Red", "red"),
    ("word to capitalised word", " red", " Red"),
    ("word to first letter", " dur", " D"),
    ("word to last letter", " dur", "r"),
    ("word to its beginning", " station", " sta"),
    ("word to its ending", " station", "tion"),
    ("fragments of the word", " station", "tat"),
    ("completion of the beginning of a word", " Pyth", " Python"),
    ("words that begin alike", " station", " stable"),
    ("words that end alike", " station", " nation"),
    ("singular to plural", " city", " cities"),
    ("singular to plural", " box", "boxes"),
    ("plural to singular", " dogs", " dog"),
    ("word to its -ing form", " run", " running"),
    ("word to its -ing form", " make", " making"),
    ("word to its -ed form", " try", " tried"),
    ("word to its -er form", " big", " bigger"),
    ("word to its -est form", " happy", " happiest"),
    ("word to its -ly form", " quick", " quickly"),
    ("word to its -ness form", " happy", " happiness"),
    ("-ing form to its base word", " making", " make"),
    ("-ed form to its base word", " walked", " walk"),
    ("-ly form to its base word", " quickly", " quick"),
    ("word to its un- form", " happy", " unhappy"),
    ("word to its re- form", " write", " rewrite"),
    ("word to other forms of the same word", " walking", " walked"),
    ("number to following number", " 1998", " 1999"),
    ("number to preceding number", "10", "9"),
    ("number to nearby number", "10", "12"),
    ("opening to closing bracket", " (", ")"),
    ("opening to closing bracket", "([", "]"),
    ("word to another script", " Moscow", "Москва"),
]
FAILS = [
    ("copying", " Bol", " Bolt"),
    ("copying", " ", " "),
    ("word to first letter", " d", "d"),
    ("word to first letter", " dur", " r"),
    ("word to first letter", " 1st", "1"),
    ("word to its beginning", " station", " station"),
    ("completion of the beginning of a word", " Pyth", " Pyths"),
    ("singular to plural", " bus", " bu"),
    ("number to following number", " 9", " 11"),
    ("number to following number", " ²", "3"),
    ("opening to closing bracket", " (", "]"),
    ("word to another script", " Moscow", " Moskva"),
    ("words that begin alike", " station", " station"),
    ("word to other forms of the same word", " red", " blue"),
    ("word to its un- form", " un", " unun"),
]


@pytest.mark.parametrize(("name", "source", "target"), HOLDS)
def test_holds(name, source, target):
    assert FORM_BY_NAME[name].holds(source, target)


@pytest.mark.parametrize(("name", "source", "target"), FAILS)
def test_fails(name, source, target):
    assert not FORM_BY_NAME[name].holds(source, target)


@pytest.mark.parametrize("source", [" house", " happy", " Paris", " make", " 1999", "word", " big", " walked", " dogs"])
def test_what_a_form_makes_it_also_accepts(source):
    for form in FORMS:
        for target in form.targets_for(source):
            assert form.holds(source, target), (form.name, source, target)


@pytest.mark.parametrize(
    ("name", "source", "made"),
    [
        ("copying", " red", (" red",)),
        ("copying with case variants", " red", (" RED", " Red")),
        ("copying with spacing variants", "red", (" red",)),
        ("word to lower case", " red", ()),
        ("word to first letter", " red", (" r", "r", " R", "R")),
        ("singular to plural", " city", (" cities",)),
        ("plural to singular", " dogs", (" dog",)),
        ("-ing form to its base word", " making", (" make", " mak")),
        ("word to its un- form", " happy", (" unhappy",)),
        ("number to following number", " 1999", (" 2000", "2000")),
        ("word to its ending", " red", ("ed",)),
        ("opening to closing bracket", " (", ()),
    ],
)
def test_targets_for_a_new_source(name, source, made):
    assert set(FORM_BY_NAME[name].targets_for(source)) == set(made)


def test_names_are_unique_and_generals_exist():
    assert len(FORM_BY_NAME) == len(FORMS)
    known = {*FORM_BY_NAME, "fragments of the word", ""}
    assert {form.general for form in FORMS} <= known


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_text_breaks_a_form(source, target):
    for form in FORMS:
        assert form.holds(source, target) in (True, False)
        assert all(form.holds(source, made) for made in form.targets_for(source))


@given(st.text(max_size=12))
def test_no_text_breaks_a_class(text):
    for one in CLASSES:
        assert one.holds(text) in (True, False)


@pytest.mark.parametrize(
    ("label", "yes", "no"),
    [
        ("single letters", " d", " do"),
        ("numbers", " 1,998", " x1"),
        ("punctuation and code marks", ")):", " a)"),
        ("blank space and line breaks", "\n   ", ""),
        ("fragments of words", "isition", " isition"),
        ("capitalised words", " Paris", " paris"),
        ("words in capitals", "NATO", "Nato"),
        ("code identifiers", "setLevel", "level"),
        ("tokens in other scripts", "ска", "ska"),
        ("bytes that are no text", "<0xE4>", "0xE4"),
    ],
)
def test_classes(label, yes, no):
    found = next(one for one in CLASSES if one.label == label)
    assert found.holds(yes)
    assert not found.holds(no)


def test_spelling_rules():
    assert plurals("city") == ("cities",)
    assert plurals("day") == ("days",)
    assert plurals("wish") == ("wishes",)
    assert "stopping" in with_suffix("stop", "ing")
    assert with_suffix("happy", "ly") == ("happily",)
    assert with_suffix("make", "ed") == ("maked",)  # irregular verbs are the catalogue's part


def test_stems_join_a_family():
    assert stem("walking") == stem("walked") == stem("walks") == stem("walk")
    assert stem("cities") == stem("city")
    assert stem("red") != stem("reduce")


def test_script_of_the_first_letter():
    assert script("1 Москва") == "CYRILLIC"
    assert script("123") == ""
