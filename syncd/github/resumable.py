"""Downloads that continue where they broke off, from hosts that support it.

A download is continued only if its answer came with a strong ETag and `Accept-Ranges: bytes` (RFC
9110, 8.8.3 and 14.3): with If-Range the host sends everything where it has other content by now.
The storage of Git LFS does so. GitHub documents no ranges for the API or for archives, its ETags
there do not distinguish the JSON form of a file from its bytes, and a file from there has 100 MB at
most: those start again.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, RemoteUnavailableError, TimedOutError
from syncd.github.attempts import Attempts
from syncd.github.protocol import Request, Response, Transport
from syncd.github.request import stream
from syncd.ports import PartialDownload

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})\Z")
STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"\Z')  # RFC 9110, 8.8.3; printable


def download_resumable(
    transport: Transport, request: Request, deadline: Deadline, download: PartialDownload, size: int
) -> str:
    """Complete the download and return the git id of the content.

    The request is repeated when it breaks off. A part that turns out wrong is discarded, and the
    whole content requested once. Raises as `stream` does.
    """
    attempts, may_restart = Attempts(), True
    request = replace(request, attempts=attempts)
    while True:
        was_continued = bool(download.etag)
        try:
            return _download_once(transport, request, deadline, download, size)
        except TimedOutError:
            raise
        except BadResponseError as error:
            if not (was_continued and may_restart):
                raise _with_subject(request, error) from error
            may_restart = False
            download.restart("")
            continue
        except RemoteUnavailableError:
            pause = attempts.next_delay_seconds(deadline, answered=True)
            if pause is None:
                raise
        deadline.wait(pause)


def _download_once(
    transport: Transport, request: Request, deadline: Deadline, download: PartialDownload, size: int
) -> str:
    if download.etag:
        more = {"Range": f"bytes={download.received_bytes}-", "If-Range": download.etag}
        request = replace(request, headers={**request.headers, **more})

    def take(response: Response) -> str:
        if response.status == 206:
            _check_part(response, download, size)
        else:
            download.restart(_resume_etag(response))
        return download.complete(response.chunks())

    return stream(transport, request, deadline, take, again=False)


def _check_part(response: Response, download: PartialDownload, size: int) -> None:
    """Check that this is the part that was asked for. Raises BadResponseError for any other."""
    said = response.headers.get("content-range", "")
    found = CONTENT_RANGE.match(said)
    wanted = (download.received_bytes, size - 1, size)
    etag = response.headers.get("etag", download.etag)
    if found is None or tuple(map(int, found.groups())) != wanted or etag != download.etag:
        raise BadResponseError(f"another part than was asked for ({said[:60]!r})", status=206)


def _resume_etag(response: Response) -> str:
    """Return the strong ETag of an answer that can be continued later; empty for any other."""
    headers = response.headers
    has_ranges = headers.get("accept-ranges", "").strip().lower() == "bytes"
    is_encoded = headers.get("content-encoding", "identity").strip().lower() != "identity"
    etag = headers.get("etag", "")
    return etag if has_ranges and not is_encoded and STRONG_ETAG.match(etag) else ""


def _with_subject(request: Request, error: BadResponseError) -> BadResponseError:
    if request.subject in error.message:
        return error
    return BadResponseError(
        f"GitHub answered the request for {request.subject} with {error.message}",
        id=error.id,
        hint="nothing was changed; the next run asks again",
    )
