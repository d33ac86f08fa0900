"""A job with the listing that its source has of a commit.

On GitHub the commit alone decides what a listing holds. The controllers of a fleet may publish
another listing of the same commit, because their `include` or `paths` changed. To the engine that
is another configuration of the job, so that it is planned, validated and checked like one.
"""

from __future__ import annotations

from msgspec.structs import replace

from syncd.engine.context import RunContext
from syncd.models import Job
from syncd.ports import Head, Source


def with_listing_of(job: Job, source: Source, head: Head | None) -> Job:
    """Return the job as the listing of this head makes it; as it is where the commit decides."""
    version = None if head is None else source.listing_version(head)
    return job if version == job.listing_version else replace(job, listing_version=version)


def with_known_listing(job: Job, ctx: RunContext) -> Job:
    """Return the job as the listing of its stored head makes it."""
    return with_listing_of(job, ctx.source, ctx.store.head(ctx.scope, job.repo, job.ref))


__all__ = ["with_known_listing", "with_listing_of"]
