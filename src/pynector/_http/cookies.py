"""The cookies of one client (RFC 6265), in the cookie jar of the standard library through httpx."""

from collections.abc import Mapping

from .url import Target


class CookieStore:
    """Keeps what servers set and says what to send back. Safe for threads: the jar has a lock of its own.

    Args:
        cookies: Given by the user; sent to every host a request is addressed to, never to one it is redirected to.
    """

    __slots__ = ("_active", "_given", "_jar", "_seeded")

    def __init__(self, cookies: Mapping[str, str] | None = None) -> None:
        import httpx

        self._jar = httpx.Cookies()
        self._given = dict(cookies or {})
        self._seeded: set[str] = set()
        # Most clients never see a cookie: they pay for one attribute look-up per request.
        self._active = bool(self._given)

    def header(self, method: str, target: Target, *, redirected: bool = False) -> bytes | None:
        """The value of the `Cookie` header for a request, or None."""
        if not self._active:
            return None
        import httpx

        if self._given and not redirected:
            self._seed(target.origin.host.decode("ascii"))
        request = httpx.Request(method, str(target))
        self._jar.set_cookie_header(request)
        value = request.headers.get("cookie")
        return None if value is None else value.encode("latin-1")

    def store(self, method: str, target: Target, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep the cookies of a response."""
        if not any(name.lower() == b"set-cookie" for name, _ in headers):
            return
        import httpx

        request = httpx.Request(method, str(target))
        self._jar.extract_cookies(httpx.Response(200, headers=headers, request=request))
        self._active = True

    def _seed(self, host: str) -> None:
        if host not in self._seeded:
            # The jar gives dotless hosts this suffix when it compares domains (RFC 2965).
            domain = host if "." in host else f"{host}.local"
            for name, value in self._given.items():
                self._jar.set(name, value, domain=domain)
            # Last: another thread must not take the jar for ready before it is.
            self._seeded.add(host)
