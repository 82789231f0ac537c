"""One question to an image registry: with its login, redirects followed, the answer bounded (registry.md §6).

A login goes to the registry and to the token giver it names; a place that a redirect leads to gets none.
What went wrong comes out as ImageError.
"""

from __future__ import annotations

import math
import ssl
from typing import NoReturn

import httpx
import msgspec
import trio

from trionode.containers.images.documents import bad_answer
from trionode.containers.images.login import (
    Authorizations,
    Challenge,
    Login,
    basic,
    read_challenge,
    read_token,
)
from trionode.containers.images.names import ImageName
from trionode.containers.images.registry import ImageError, ImageFault

TOKEN_BYTES = 1 << 18
MOST_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REFUSALS = frozenset({401, 403})


class Reply(msgspec.Struct, frozen=True):
    """An answer, read to its end. `at_home`: it came from the place that was asked, not from elsewhere."""

    status: int
    headers: httpx.Headers
    content: bytes
    at_home: bool = True

    def __repr__(self) -> str:
        # The content may be a token.
        return f"Reply({self.status}, {len(self.content)} bytes)"


class RegistryFetch:
    """Asks registries over an open client; remembers the tokens they gave."""

    def __init__(self, client: httpx.AsyncClient, token_margin_s: float) -> None:
        self._client = client
        self._authorizations = Authorizations(token_margin_s)

    async def ask(
        self,
        name: ImageName,
        login: Login,
        path: str,
        *,
        accept: str,
        at_most_bytes: int,
        method: str = "GET",
    ) -> Reply:
        """The answer with status 200 for a path of this image's repository; raises ImageError."""
        url = _url(f"{name.origin}/v2/{name.repository}/{path}")
        if url is None:
            raise ImageError(
                ImageFault.BAD_NAME, f"the registry {name.authority} is no host that can be asked"
            )
        header = self._authorizations.find(login, trio.current_time())
        reply = await self._send(name, method, url, _headers(accept, header), at_most_bytes)
        if reply.status == httpx.codes.UNAUTHORIZED and reply.at_home:
            challenge = read_challenge(reply.headers.get_list("www-authenticate"))
            if challenge is None:
                _refused(name, login)
            header = await self._authorization(name, login, challenge)
            reply = await self._send(name, method, url, _headers(accept, header), at_most_bytes)
            if reply.status == httpx.codes.UNAUTHORIZED:
                self._authorizations.forget(login)
        _check(name, login, reply.status, f"the registry {name.authority}")
        return reply

    async def _authorization(self, name: ImageName, login: Login, challenge: Challenge) -> str:
        """The header for what the registry wants; kept for the next question."""
        now_s = trio.current_time()
        if not challenge.bearer:
            if login.credentials is None:
                _refused(name, login)
            header, lifetime_s = basic(login.credentials), math.inf
        else:
            token, lifetime_s = await self._token(name, login, challenge)
            header = f"Bearer {token}"
        self._authorizations.keep(login, header, lifetime_s, now_s)
        return header

    async def _token(self, name: ImageName, login: Login, challenge: Challenge) -> tuple[str, float]:
        realm = _url(challenge.realm)
        if realm is None:
            raise bad_answer(name, "an unusable address of its token giver")
        if not realm.host or realm.scheme not in _schemes(name.plain):
            raise bad_answer(name, f"an address of its token giver that is not safe ({realm.scheme})")
        wanted = {"scope": f"repository:{name.repository}:pull"}
        if challenge.service:
            wanted["service"] = challenge.service
        credentials = login.credentials
        header = basic(credentials) if credentials is not None else None
        url = realm.copy_merge_params(wanted)
        reply = await self._send(name, "GET", url, _headers("", header), TOKEN_BYTES)
        _check(name, login, reply.status, f"the token giver {realm.host} of {name.authority}")
        given = read_token(reply.content)
        if given is None:
            raise bad_answer(name, "no usable token")
        return given

    async def _send(
        self, name: ImageName, method: str, url: httpx.URL, headers: dict[str, str], at_most_bytes: int
    ) -> Reply:
        home = _origin(url)
        for _ in range(MOST_REDIRECTS + 1):
            reply = await self._once(name, method, url, headers, at_most_bytes)
            if reply.status not in REDIRECTS:
                return msgspec.structs.replace(reply, at_home=_origin(url) == home)
            target = _url(reply.headers.get("location", ""), url)
            if target is None:
                raise bad_answer(name, "a redirect to nowhere")
            if target.scheme not in _schemes(plain=url.scheme == "http"):
                raise bad_answer(name, "a redirect to a place without TLS")
            if _origin(target) != home:
                headers = {key: value for key, value in headers.items() if key != "Authorization"}
            url = target
        raise bad_answer(name, "more redirects than can be followed")

    async def _once(
        self, name: ImageName, method: str, url: httpx.URL, headers: dict[str, str], at_most_bytes: int
    ) -> Reply:
        try:
            request = self._client.build_request(method, url, headers=headers)
            response = await self._client.send(request, stream=True)
            try:
                content = await _read(name, response, at_most_bytes)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise ImageError(
                ImageFault.UNREACHABLE, f"{url.host} cannot be reached for {name}: {_reason(error)}"
            ) from error
        except (ValueError, httpx.InvalidURL) as error:
            # a host that cannot even be looked up, a header that is none: somebody sent us there
            raise bad_answer(name, "an address or a header that cannot be used") from error
        return Reply(response.status_code, response.headers, content)


def _url(text: str, base: httpx.URL | None = None) -> httpx.URL | None:
    """An address, None when the text is none: whoever wrote it may have written anything."""
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        url.host.encode("idna")
    except (ValueError, TypeError, httpx.InvalidURL):
        return None
    return url


def _reason(error: httpx.HTTPError) -> str:
    """What a person can use: httpx keeps the words of TLS and of sockets at the far end of a chain."""
    found: BaseException | None = error
    words = ""
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted here ({found.verify_message})"
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]  # one for each address that was tried
            continue
        words = str(found) or words
        found = found.__cause__ or found.__context__
    return words or type(error).__name__


async def _read(name: ImageName, response: httpx.Response, at_most_bytes: int) -> bytes:
    # Compressed answers are not asked for: they could hold more than their size says.
    if response.headers.get("content-encoding", "identity") != "identity":
        raise bad_answer(name, "a compressed answer that was not asked for")
    content = bytearray()
    # To leave the loop early would leave httpx's own generators behind, unclosed; being cancelled inside of
    # them ends them all.
    with trio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > at_most_bytes:
                enough.cancel()
    if len(content) > at_most_bytes:
        raise bad_answer(name, f"more than {at_most_bytes} bytes")
    return bytes(content)


def _headers(accept: str, authorization: str | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}
    if accept:
        headers["Accept"] = accept
    if authorization is not None:
        headers["Authorization"] = authorization
    return headers


def _schemes(plain: bool) -> tuple[str, ...]:
    return ("https", "http") if plain else ("https",)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _check(name: ImageName, login: Login, status: int, who: str) -> None:
    """Raises ImageError for everything but success."""
    if status == httpx.codes.OK:
        return
    if status in REFUSALS:
        _refused(name, login)
    if status == httpx.codes.NOT_FOUND:
        raise ImageError(ImageFault.MISSING, f"{who} has no image {name}")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise ImageError(ImageFault.RATE_LIMITED, f"{who} does not want to be asked so often (about {name})")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise ImageError(ImageFault.UNREACHABLE, f"{who} answered {status} when asked for {name}")
    raise bad_answer(name, f"the status {status}")


def _refused(name: ImageName, login: Login) -> NoReturn:
    if login.credentials is None:
        why = "it does not exist, or wants a login"
    else:
        why = "its login was refused, or does not cover this image"
    raise ImageError(
        ImageFault.UNAUTHORIZED, f"the registry {name.authority} does not give out {name}: {why}"
    )
