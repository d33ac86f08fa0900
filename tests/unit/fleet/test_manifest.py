"""What a revision says, and what its signature covers."""

from __future__ import annotations

import hashlib

import pytest

from syncd.fleet.manifest import ManifestEntry, Revision, manifest_digest, roots_of, uncovered
from syncd.models import PathRule

ENTRY = ManifestEntry("nginx/a", 0o100644, "a" * 40, "b" * 64, 3)
OTHER = ManifestEntry("nginx/b", 0o100755, "c" * 40, "d" * 64, 0)


def test_the_signed_text_has_each_field_on_a_line_of_its_own() -> None:
    revision = Revision("nginx", "Acme/infra", "main", "1" * 40, 7, ("nginx/",), "e" * 64)
    assert revision.signed_text.decode() == (
        "syncd fleet revision 1\n"
        "job nginx\n"
        "repo acme/infra\n"
        "ref main\n"
        f"commit {'1' * 40}\n"
        "sequence 7\n"
        f"manifest {'e' * 64}\n"
    )


def test_the_digest_is_of_the_paths_in_order_whatever_the_order_of_the_rows() -> None:
    text = (
        "root nginx/\0"
        f"100644 {'a' * 40} {'b' * 64} 3 nginx/a\0"
        f"100755 {'c' * 40} {'d' * 64} 0 nginx/b\0"
    )
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert manifest_digest(("nginx/",), [ENTRY, OTHER]) == expected
    assert manifest_digest(("nginx/",), [OTHER, ENTRY]) == expected


def test_the_roots_are_the_listed_paths_and_folders_have_a_slash() -> None:
    rules = [PathRule("nginx", "/etc/nginx", True), PathRule("a/b.pem", "/etc/b.pem", False)]
    assert roots_of(rules) == ("a/b.pem", "nginx/")
    assert roots_of([PathRule("", "/srv", True)]) == ("/",)


@pytest.mark.parametrize(
    ("source", "directory", "roots", "expected"),
    [
        ("nginx", True, ("nginx/",), None),
        ("nginx/conf.d", True, ("nginx/",), None),
        ("nginx/a.conf", False, ("nginx/",), None),
        ("a.pem", False, ("a.pem",), None),
        ("", True, ("/",), None),
        ("nginx", True, ("/",), None),
        ("nginx", True, ("nginx/conf.d/",), "nginx/"),
        ("nginx-extra", True, ("nginx/",), "nginx-extra/"),
        ("", True, ("nginx/",), "/"),
        ("a.pem", False, ("b.pem",), "a.pem"),
        ("a.pem/x", False, ("a.pem",), "a.pem/x"),
    ],
)
def test_what_a_revision_covers_of_an_agents_rules(
    source: str, directory: bool, roots: tuple[str, ...], expected: str | None
) -> None:
    assert uncovered([PathRule(source, "/x", directory)], roots) == expected
