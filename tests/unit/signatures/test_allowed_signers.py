"""What each line of a file of allowed signers means, and what is wrong with it."""

from __future__ import annotations

import pytest

from syncd.signatures.allowed_signers import matches, matches_list, parse_allowed_signers
from tests.support.signing import SshKey

KEY = SshKey().public
BLOCK = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEZV
=abcd
-----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ada", "write PRINCIPALS"),
        ("ada ssh-ed25519", "no public key after the options"),
        ("ada cert-authority,namespaces=git KEY", "is no option"),
        ("ada valid-after=20200101 KEY", "is no option"),
        ('ada valid-after="2020" KEY', "is no time"),
        ('ada valid-after="20201301" KEY', "is no time"),
        ('ada valid-after="20210101",valid-before="20200101" KEY', "not later than"),
        ('ada namespaces="git",namespaces="file" KEY', "given twice"),
        ("ada cert-authority, KEY", "end with a comma"),
        ('ada namespaces="git"x KEY', "without a comma"),
        ("ada no-such-option KEY", "'no-such-option' is no option"),
        ("ada ssh-ed25519 AAAA*", "can't be read"),
        ("ada ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "can't be read"),
        ("ada ssh-rsa DATA", "the line says ssh-rsa"),
        ("ada ssh-dss AAAAB3NzaC1kc3M=", "no public key after the options"),
        ("ada ssh-dss AAAAB3NzaC1kc3M= comment", "can't be read"),
    ],
)
def test_a_line_that_ssh_keygen_would_pass_over_is_a_problem(line: str, problem: str) -> None:
    line = line.replace("KEY", KEY).replace("DATA", KEY.split()[1])
    found = parse_allowed_signers(f"# a comment\n\n{line}\nbob {KEY}\n")
    assert [number for number, _ in found.problems] == [3] and problem in found.problems[0][1]
    assert [signer.principals for signer in found.signers] == ["bob"]


def test_a_line_has_principals_options_and_a_key() -> None:
    text = f'\t"Ada L,*@example.org"  cert-authority,valid-before="20300101120000Z" {KEY} comment\n'
    [signer] = parse_allowed_signers(text).signers
    assert (signer.principals, signer.is_authority) == ("Ada L,*@example.org", True)
    assert (signer.valid_before, signer.valid_after, signer.namespaces) == (1893499200, None, None)


def test_openpgp_keys_stand_between_lines() -> None:
    found = parse_allowed_signers(f"ada {KEY}\n{BLOCK}bob {KEY}\n{BLOCK}")
    assert found.openpgp_keys == (BLOCK, BLOCK) and len(found.signers) == 2
    cut = parse_allowed_signers(f"ada {KEY}\n{BLOCK[:60]}")
    assert cut.openpgp_keys == () and [line for line, _ in cut.problems] == [2]
    assert parse_allowed_signers("# nothing\n").is_empty


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("ada@example.org", "*@example.org", True),
        ("ada@example.org", "ada@example.or?", True),
        ("ada@example.org", "Ada@example.org", False),
        ("ada@example.org", "[a]da@example.org", False),
        ("adaXexample.org", "ada.example.org", False),
        ("", "*", True),
        ("", "", True),
        ("a", "", False),
        ("abcbd", "a*b?", True),
        ("abcbd", "a*b", False),
        ("a*b", "a*b", True),
        ("a" * 200, "*a" * 20 + "b", False),
    ],
)
def test_patterns(text: str, pattern: str, expected: bool) -> None:
    assert matches(text, pattern) is expected


@pytest.mark.parametrize(
    ("text", "patterns", "expected"),
    [
        ("git", "git", True),
        ("git", "file,git", True),
        ("git", "*,!git", False),
        ("git", "!git,*", False),
        ("git", "!file", False),
        ("git", "", False),
    ],
)
def test_lists_of_patterns(text: str, patterns: str, expected: bool) -> None:
    assert matches_list(text, patterns) is expected
