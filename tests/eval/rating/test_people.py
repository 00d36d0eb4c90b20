"""Links open once, codes reopen, sign-ins end, and a copy of the database holds no usable secret."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine

from eval.errors import NotAllowed
from eval.rating.people import invite, new_api_token, redeem, scopes_of, sign_out, who_is, whose_link
from eval.rating.store import open_studies
from tests.support.eval.studies import launched


def test_links_open_once_and_codes_open_again(studies: Engine) -> None:
    study = launched(studies)
    name, token = invite(studies, study_id=study, now=0.0)
    assert (name, whose_link(studies, token, now=1)) == ("R1", ("R1", False))
    first = redeem(studies, token, now=1)
    assert first.resume_code is not None
    for wrong in ("", "aaaa-bbbb-cccc"):
        with pytest.raises(NotAllowed, match="used before"):
            redeem(studies, token, code=wrong, now=2)
    second = redeem(studies, token, code=first.resume_code.upper(), now=2)
    assert second.who == first.who
    assert second.resume_code is None
    assert who_is(studies, second.secret, now=3) == first.who
    sign_out(studies, second.secret)
    assert who_is(studies, second.secret, now=3) is None
    assert who_is(studies, first.secret, now=40 * 86400) is None, "sign-ins end"
    _, fresh = invite(studies, study_id=study, name="R1", now=4)
    assert who_is(studies, first.secret, now=5) is None, "a new link ends everything old"
    with pytest.raises(NotAllowed, match="not valid"):
        redeem(studies, token, code=first.resume_code, now=5)
    assert redeem(studies, fresh, now=5).who == first.who
    with pytest.raises(NotAllowed, match="not valid"):
        redeem(studies, fresh, now=61 * 86400)


def test_a_dump_of_the_database_holds_nothing_usable(tmp_path: Path) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    study = launched(engine)
    _, token = invite(engine, study_id=study)
    got = redeem(engine, token)
    api = new_api_token(engine, name="ci", scopes=("read",))
    engine.dispose()
    dump = "\n".join(sqlite3.connect(tmp_path / "s.sqlite").iterdump())
    raw = (tmp_path / "s.sqlite").read_bytes()
    code = (got.resume_code or "").replace("-", "")
    for secret in (token, got.secret, got.resume_code or "", code, api):
        assert secret not in dump
        assert secret.encode() not in raw


def test_api_tokens_have_scopes_and_end(studies: Engine) -> None:
    token = new_api_token(studies, name="ci", scopes=("read", "export"), days=1, now=0)
    assert scopes_of(studies, token, now=5) == {"read", "export"}
    assert scopes_of(studies, token, now=90000) is None
    assert scopes_of(studies, "hs_nothing") is None
    for bad in ((), ("root",)):
        with pytest.raises(NotAllowed, match="unknown scope"):
            new_api_token(studies, name="x", scopes=bad)
