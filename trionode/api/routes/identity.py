"""Sign-in: phrases, sessions, pending signatures (docs/spec/api.md §2.2, §2.4)."""

from __future__ import annotations

from typing import Any

from trionode.api.answers import Answer, ApiFailure, data, message, success
from trionode.api.appcall import in_time
from trionode.api.auth import Credentials, is_flux_id, phrase_time_ms, signed_by
from trionode.api.call import Call
from trionode.api.dates import iso
from trionode.api.levels import Level
from trionode.api.route import MESSAGE, STRING, Field, Route, list_of, object_of
from trionode.api.sessions import Session

MIN_PHRASE_CHARS = 40
IDENTIFIER_TAIL_CHARS = 13

SESSION = object_of(zelid=STRING, loginPhrase=STRING, createdAt=STRING, expireAt=STRING)
PHRASE = object_of(loginPhrase=STRING, createdAt=STRING, expireAt=STRING)
ENGINE_S = 10.0
LOGIN = {
    "type": "object",
    "required": ["message", "zelid", "loginPhrase", "signature", "privilage", "createdAt", "expireAt"],
}


async def login_phrase(call: Call) -> Answer:
    """A phrase to sign; refused while the engine does not answer, or the node is in a penalty state."""
    if call.context.containers is not None:
        await in_time(call.context.containers.engine.info(), ENGINE_S)
    dos = call.context.dos
    if dos.refuses_sign_in():
        raise ApiFailure(dos.message or "Unknown error", name=dos.name, number=_whole(dos.state))
    return data(call.sessions.new_phrase())


def _whole(number: float) -> int | str:
    return int(number) if number == int(number) else str(number)


async def emergency_phrase(call: Call) -> Answer:
    return data(call.sessions.new_phrase())


async def verify_login(call: Call) -> Answer:
    """Open a session for whoever signed a phrase of this node."""
    flux_id = call.body_text("zelid", "address")
    phrase = call.body_text("loginPhrase", "message")
    signature = call.body_text("signature")
    _check_form(flux_id, phrase, signature)
    _check_age(call, phrase)
    if not call.sessions.knows_phrase(phrase):
        raise ApiFailure("Signed message is no longer valid. Please request a new one.")
    if not signed_by(phrase, flux_id, signature):
        raise ApiFailure("Invalid signature")
    session = call.sessions.open(flux_id, phrase, phrase_time_ms(phrase) or 0)
    call.context.counters.add("api.sign_ins")
    return data(
        {
            "message": "Successfully logged in",
            "zelid": flux_id,
            "loginPhrase": phrase,
            "signature": signature,
            "privilage": call.authority.privilege_at_login(flux_id),
            "createdAt": iso(session.created_ms),
            "expireAt": iso(session.expires_ms),
        }
    )


def _check_form(flux_id: str, phrase: str, signature: str) -> None:
    if not flux_id:
        raise ApiFailure("No ZelID is specified")
    if not is_flux_id(flux_id):
        raise ApiFailure("ZelID is not valid")
    if not phrase:
        raise ApiFailure("No message is specified")
    if len(phrase) < MIN_PHRASE_CHARS:
        raise ApiFailure("Signed message is not valid")
    if not signature:
        raise ApiFailure("No signature is specified")


def _check_age(call: Call, phrase: str) -> None:
    made = phrase_time_ms(phrase)
    if made is None:
        raise ApiFailure("Signed message is not valid")
    if not 0 <= call.context.clock.now_ms() - made <= call.sessions.phrase_ttl_ms:
        raise ApiFailure("Signed message is no longer valid. Please request a new one.")


async def check_privilege(call: Call) -> Answer:
    """The level of the identity in the body: the one route that does not ask the header."""
    parts = [call.body_text(name) for name in ("zelid", "loginPhrase", "signature")]
    credentials = Credentials(*parts) if all(parts) else None
    for name, level in (("admin", Level.ADMIN), ("fluxteam", Level.TEAM), ("user", Level.USER)):
        if call.authority.allows(level, credentials):
            return success(name)
    return Answer("error", message("none"))


async def provide_signature(call: Call) -> Answer:
    """Leave a signature for a program that waits for it; it is not verified here."""
    address = call.body_text("zelid", "address")
    text = call.body_text("message", "loginPhrase")
    signature = call.body_text("signature")
    _check_form(address, text, signature)
    pending = call.sessions.leave_signature(address + text[-IDENTIFIER_TAIL_CHARS:], signature)
    return data({"identifier": pending.identifier, "signature": pending.signature})


async def own_sessions(call: Call) -> Answer:
    return data([_session(session) for session in call.sessions.all(_caller(call).flux_id)])


async def all_sessions(call: Call) -> Answer:
    return data([_session(session) for session in call.sessions.all()])


async def active_phrases(call: Call) -> Answer:
    return data(
        [
            {"loginPhrase": phrase, "createdAt": iso(made), "expireAt": iso(ends)}
            for phrase, made, ends in call.sessions.phrases()
        ]
    )


async def log_out(call: Call) -> Answer:
    caller = _caller(call)
    call.sessions.close(caller.flux_id, caller.login_phrase)
    return success("Successfully logged out")


async def log_out_one(call: Call) -> Answer:
    phrase = call.body_text("loginPhrase")
    if not phrase:
        raise ApiFailure("No loginPhrase is specified")
    if not call.sessions.close(_caller(call).flux_id, phrase):
        raise ApiFailure("Specified session was already logged out")
    return success("Session successfully logged out")


async def log_out_all(call: Call) -> Answer:
    call.sessions.close_all(_caller(call).flux_id)
    return success("Successfully logged out all sessions")


async def log_out_everybody(call: Call) -> Answer:
    call.sessions.close_all()
    return success("Successfully logged out all users")


def _caller(call: Call) -> Credentials:
    """The caller's credentials; the level check before the handler has verified them."""
    if call.credentials is None:
        raise ApiFailure("Unauthorized. Access denied.", name="Unauthorized", number=401)
    return call.credentials


def _session(session: Session) -> dict[str, Any]:
    return {
        "zelid": session.flux_id,
        "loginPhrase": session.login_phrase,
        "createdAt": iso(session.created_ms),
        "expireAt": iso(session.expires_ms),
    }


_SIGNED = (
    Field("zelid", "string", "Flux ID; `address` is accepted too"),
    Field("loginPhrase", "string", "The phrase; `message` is accepted too"),
    Field("signature", "string", "Signature of the phrase"),
)


def _route(name: str, handler: Any, about: str, **more: Any) -> Route:
    return Route(f"/id/{name}", handler, about, "sign-in", aliases=(f"/zelid/{name}",), **more)


ROUTES = (
    _route("loginphrase", login_phrase, "A phrase to sign", result=STRING),
    _route("emergencyphrase", emergency_phrase, "A phrase to sign, unchecked", result=STRING),
    _route("verifylogin", verify_login, "Open a session", method="POST", body=_SIGNED, result=LOGIN),
    _route(
        "checkprivilege",
        check_privilege,
        "Level of an identity at this node",
        method="POST",
        body=_SIGNED,
        result=MESSAGE,
    ),
    _route(
        "providesign",
        provide_signature,
        "Leave a signature for a waiting program",
        method="POST",
        body=(
            Field("zelid", "string", "Flux ID; `address` is accepted too"),
            Field("message", "string", "The signed text"),
            Field("signature", "string"),
        ),
        result=object_of(identifier=STRING, signature=STRING),
    ),
    _route(
        "loggedsessions", own_sessions, "Own sessions at this node", level=Level.USER, result=list_of(SESSION)
    ),
    _route("logoutcurrentsession", log_out, "End this session", level=Level.USER, result=MESSAGE),
    _route("logoutallsessions", log_out_all, "End all own sessions", level=Level.USER, result=MESSAGE),
    _route(
        "logoutspecificsession",
        log_out_one,
        "End one own session",
        method="POST",
        level=Level.USER,
        body=(Field("loginPhrase", "string", "Phrase of the session to end"),),
        result=MESSAGE,
    ),
    _route("loggedusers", all_sessions, "All sessions", level=Level.ADMIN, result=list_of(SESSION)),
    _route("activeloginphrases", active_phrases, "Live phrases", level=Level.ADMIN, result=list_of(PHRASE)),
    _route("logoutallusers", log_out_everybody, "End all sessions", level=Level.ADMIN, result=MESSAGE),
)
