"""Fault injection: what goes wrong with which request, how often, and how it looks on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace


class Answer(Struct, frozen=True):
    """A response to send. `pieces` is a body that may be slow or endless.

    `end` says what happens to the connection: `keep`, `close` after the response, or `reset`.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: Iterable[bytes] | None = None
    declared_length: int | None = None
    hang_seconds: float = 0.0
    end: str = "keep"
    extra_headers: tuple[tuple[str, str], ...] = ()


FaultEffect = Callable[[Answer], Answer]


class Fault(Struct):
    """A fault of `route` (`*`: of any): it skips `skip` requests, then happens `times` times."""

    route: str
    effect: FaultEffect
    times: int = 1
    skip: int = 0

    def matches(self, route: str) -> bool:
        """Return whether the fault happens to this request, and count it."""
        if self.times <= 0 or self.route not in ("*", route):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


def status(
    code: int, message: str = "Server Error", headers: Mapping[str, str] | None = None
) -> FaultEffect:
    """Answer with a status and GitHub's JSON error."""
    import json

    body = json.dumps(
        {
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": str(code),
        }
    ).encode()
    return lambda answer: replace(
        answer,
        status=code,
        body=body,
        headers={
            **_kept(answer),
            "content-type": "application/json; charset=utf-8",
            **(headers or {}),
        },
    )


def html(code: int = 200) -> FaultEffect:
    """Answer with a web page, as a captive portal does."""
    body = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"
    return lambda answer: Answer(code, {"content-type": "text/html; charset=utf-8"}, body)


def reset() -> FaultEffect:
    """Reset the connection instead of answering."""
    return lambda answer: replace(answer, end="reset", hang_seconds=0, status=0)


def reset_in_body(after: int = 20) -> FaultEffect:
    """Reset the connection after `after` bytes of the body."""
    return lambda answer: replace(
        answer, body=answer.body[:after], declared_length=len(answer.body) + 1000, end="reset"
    )


def cut(after: int = 20) -> FaultEffect:
    """Close the connection before the declared length."""
    return lambda answer: replace(
        answer,
        body=answer.body[: min(after, max(0, len(answer.body) - 1))],
        declared_length=len(answer.body) + 1,
        end="close",
    )


def cut_silently(after: int = 20) -> FaultEffect:
    """Send fewer bytes, with a length that agrees with them."""
    return lambda answer: replace(
        answer, body=answer.body[: min(after, max(0, len(answer.body) - 1))]
    )


def corrupt(at: float = 0.5) -> FaultEffect:
    """Flip one bit of the body, at this share of its length."""

    def effect(answer: Answer) -> Answer:
        body = bytearray(answer.body)
        if body:
            body[min(len(body) - 1, int(len(body) * at))] ^= 0x01
        return replace(answer, body=bytes(body))

    return effect


def other_content(content: bytes = b"something else entirely\n") -> FaultEffect:
    """Answer with another body."""
    return lambda answer: replace(answer, body=content)


def hang(seconds: float = 30.0) -> FaultEffect:
    """Wait before answering, then close the connection."""
    return lambda answer: replace(answer, hang_seconds=seconds, end="close")


def drip(pause_seconds: float = 0.2) -> FaultEffect:
    """Send one byte at a time, with a pause before each."""

    def effect(answer: Answer) -> Answer:
        def slowly() -> Iterator[bytes]:
            import time

            for index in range(len(answer.body)):
                time.sleep(pause_seconds)
                yield answer.body[index : index + 1]

        return replace(answer, pieces=slowly(), declared_length=len(answer.body))

    return effect


def endless() -> FaultEffect:
    """Answer with a body of 4 GiB without a length."""

    def effect(answer: Answer) -> Answer:
        def forever() -> Iterator[bytes]:
            for _ in range(1 << 16):
                yield b"x" * (1 << 16)

        return replace(answer, pieces=forever(), declared_length=None, end="close")

    return effect


def gigantic(length: int = 10 << 30) -> FaultEffect:
    """Declare a length that the body does not have."""
    return lambda answer: replace(answer, declared_length=length, end="close")


def bomb(size: int = 200 << 20) -> FaultEffect:
    """Send a small gzip body that is huge when unpacked."""

    def effect(answer: Answer) -> Answer:
        import gzip

        return replace(
            answer,
            body=gzip.compress(b"\0" * size, 9),
            headers={**answer.headers, "content-encoding": "gzip"},
        )

    return effect


def without_headers(*names: str) -> FaultEffect:
    """Leave out these headers."""
    return lambda answer: replace(
        answer, headers={name: value for name, value in answer.headers.items() if name not in names}
    )


def _kept(answer: Answer) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name in ("date", "x-github-request-id") or name.startswith("x-ratelimit")
    }
