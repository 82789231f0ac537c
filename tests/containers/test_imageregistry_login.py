"""What registries ask for is read as they write it, and tokens are used as long as they are good."""

from __future__ import annotations

import math

import pytest

from trionode.containers.engine import Credentials
from trionode.containers.images.login import (
    DEFAULT_LIFETIME_S,
    MOST_TOKENS,
    Authorizations,
    Challenge,
    Login,
    basic,
    read_challenge,
    read_token,
)
from trionode.containers.images.logins import Logins
from trionode.containers.install.workbench import NoSecrets
from trionode.plans.parts import Part
from trionode.plans.problem import PlanError

ANNA = Login("https://registry.example", "owner/app", Credentials("anna", "word of anna"))


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (['Basic realm="x"'], Challenge(False)),
        (["basic"], Challenge(False)),
        (
            [
                'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull"'
            ],
            Challenge(True, "https://auth.example/token", "registry.example"),
        ),
        (
            ['bearer  Service="a, b=c" , REALM=https://auth.example/t'],
            Challenge(True, "https://auth.example/t", "a, b=c"),
        ),
        (['Bearer realm="https://auth.example/t"'], Challenge(True, "https://auth.example/t")),
        (["Negotiate abc", 'Digest realm="x"', 'Basic realm="y"'], Challenge(False)),
        (['Bearer service="no realm"'], None),
        (['Bearer realm=""'], None),
        (["Bearerrealm=x"], None),
        ([""], None),
        ([], None),
    ],
)
def test_challenges(headers: list[str], wanted: Challenge | None) -> None:
    assert read_challenge(headers) == wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b'{"token":"t","expires_in":300}', ("t", 300.0)),
        (b'{"access_token":"t","expires_in":1.5}', ("t", 1.5)),
        (b'{"token":"t","access_token":"u"}', ("t", DEFAULT_LIFETIME_S)),
        (b'{"token":"t","expires_in":0}', ("t", DEFAULT_LIFETIME_S)),
        (b'{"token":"t","expires_in":-5}', ("t", DEFAULT_LIFETIME_S)),
        (b'{"token":"t","expires_in":null}', ("t", DEFAULT_LIFETIME_S)),
        (b'{"token":""}', None),
        (b'{"token":"a\\r\\nHost: b"}', None),
        ('{"token":"ä"}'.encode(), None),
        (b'{"token":7}', None),
        (b"[]", None),
        (b"nonsense", None),
    ],
)
def test_tokens(content: bytes, wanted: tuple[str, float] | None) -> None:
    assert read_token(content) == wanted


@pytest.mark.parametrize(
    ("lifetime_s", "good_s"),
    [(43_200.0, 42_300.0), (1000.0, 500.0), (300.0, 150.0), (math.inf, 1e12)],
)
def test_a_token_is_renewed_before_it_ends(lifetime_s: float, good_s: float) -> None:
    known = Authorizations(margin_s=900.0)
    known.keep(ANNA, "Bearer t", lifetime_s, now_s=50.0)
    assert known.find(ANNA, 50.0 + good_s - 1) == "Bearer t"
    if math.isfinite(lifetime_s):
        assert known.find(ANNA, 50.0 + good_s) is None


def test_a_token_is_for_one_repository_and_one_login() -> None:
    known = Authorizations(margin_s=0.0)
    known.keep(ANNA, "Bearer t", 100.0, now_s=0.0)
    others = [
        Login(ANNA.origin, "owner/other", ANNA.credentials),
        Login("https://other.example", ANNA.repository, ANNA.credentials),
        Login(ANNA.origin, ANNA.repository, None),
        Login(ANNA.origin, ANNA.repository, Credentials("anna", "another word")),
    ]
    assert [known.find(login, 1.0) for login in others] == [None] * 4
    known.forget(ANNA)
    assert known.find(ANNA, 1.0) is None


def test_not_more_tokens_are_kept_than_allowed() -> None:
    known = Authorizations(margin_s=0.0)
    logins = [Login("https://registry.example", f"app{n}", None) for n in range(MOST_TOKENS + 1)]
    for login in logins:
        known.keep(login, "Bearer t", 100.0, now_s=0.0)
    assert known.find(logins[0], 1.0) is None
    assert all(known.find(login, 1.0) for login in logins[1:])


def test_no_printed_value_shows_a_word_or_a_token() -> None:
    known = Authorizations(margin_s=0.0)
    known.keep(ANNA, basic(Credentials("anna", "word of anna")), 100.0, now_s=0.0)
    shown = f"{known!r} {ANNA!r} {known}"
    assert "word" not in shown
    assert "Basic" not in shown


@pytest.mark.trio
@pytest.mark.parametrize("odd", ["anna:word\ud800", "anna:word\0"])
async def test_a_login_no_header_can_hold_is_refused_without_its_text(odd: str) -> None:
    part = Part("shop", "db", "db_shop", credentials=odd)
    with pytest.raises(PlanError, match="db_shop") as caught:
        await Logins(NoSecrets(), lambda app: 8).of(part)
    assert "word" not in caught.value.message
