"""Which requests a set of rules needs, decided without asking."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncd.github.listing import folders_to_query, listed_paths
from syncd.models import PathRule
from syncd.tree_names import has_ancestor_in, parent_of

folder_paths = st.lists(st.sampled_from("abc"), max_size=4).map("/".join)
rules = st.lists(
    st.builds(
        lambda path, directory: PathRule(path, "/" + path, directory or not path),
        folder_paths,
        st.booleans(),
    ),
    max_size=8,
)


@given(rules)
def test_every_rule_is_read_from_a_place(given_rules: list[PathRule]) -> None:
    found = listed_paths(given_rules)
    for rule in given_rules:
        read = rule.source in found.whole or has_ancestor_in(rule.source, found.whole)
        assert read or (not rule.directory and rule.source in found.parents[parent_of(rule.source)])


@given(rules)
def test_nothing_is_read_twice(given_rules: list[PathRule]) -> None:
    found = listed_paths(given_rules)
    assert not any(has_ancestor_in(folder, found.whole) for folder in found.whole)
    assert not any(
        has_ancestor_in(path, found.whole) for files in found.parents.values() for path in files
    )


@given(st.frozensets(folder_paths, max_size=10))
def test_every_wanted_folder_is_asked_for_or_learnt_from_its_parent(wanted: frozenset[str]) -> None:
    asked = folders_to_query(wanted)
    assert all(folder in asked or parent_of(folder) in asked for folder in wanted)
    assert len(asked) <= len(wanted)


def test_a_lone_folder_is_asked_for_itself_however_deep_it_lies() -> None:
    assert folders_to_query(frozenset({"a/b/c"})) == {"a/b/c"}
    assert folders_to_query(frozenset({"a/x", "b/y"})) == {"a/x", "b/y"}


def test_siblings_are_learnt_from_their_parent() -> None:
    assert folders_to_query(frozenset({"conf/a", "conf/b", "conf/c"})) == {"conf"}
    assert folders_to_query(frozenset({"a", "b", ""})) == {""}


def test_the_root_is_asked_for_itself() -> None:
    assert folders_to_query(frozenset({""})) == {""}
    assert listed_paths([PathRule("", "/srv", True), PathRule("a", "/a", False)]).all == {""}
