"""Origins: who asks in a browser, scheme, host and port, compared as browsers do it."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.net.addresses import Address, WrongAddress, parse_address

PORTS = {"http": 80, "https": 443}
"""The port of each scheme, which browsers leave out."""
ALLOWED = "SCHEME://HOST or SCHEME://HOST:PORT with http or https, such as https://video.example.org, without a path"


class WrongOrigin(ValueError):
    """A text is no origin."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not allowed; allowed: {ALLOWED}")
        self.allowed = ALLOWED


@dataclass(frozen=True, slots=True)
class WebOrigin:
    """Where a page comes from."""

    scheme: str
    """`http` or `https`."""
    place: Address
    """In small letters, with the port, also where it is that of the scheme."""

    def __str__(self) -> str:
        """As browsers write it."""
        place = str(self.place)
        return f"{self.scheme}://{place.removesuffix(f':{PORTS[self.scheme]}')}"


def parse_origin(text: str) -> WebOrigin:
    """The origin in `text`; WrongOrigin for what is none, such as `null`, or has more to it, such as a path."""
    scheme, sign, rest = text.partition("://")
    if not sign or scheme.lower() not in PORTS:
        raise WrongOrigin(text)
    return WebOrigin(scheme.lower(), place_of(rest, scheme.lower()))


def place_of(text: str, scheme: str) -> Address:
    """The address in a URL of `scheme`, or in a Host header; WrongOrigin if it is none."""
    try:
        place = parse_address(text, port=PORTS[scheme])
    except WrongAddress:
        raise WrongOrigin(text) from None
    if not place.port or set(place.host) & set(" ,;*'\"<>\\"):
        raise WrongOrigin(text)
    return Address(host=place.host.lower(), port=place.port)
