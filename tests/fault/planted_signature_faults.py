"""Planted faults in who may sign a commit, and in what is reported of it.

The rows are as in `planted_faults.py`.
"""

from __future__ import annotations

from tests.fault.planted import Fault

VERIFY = "tests/unit/signatures/test_verify.py"
OPTIONS = f"{VERIFY}::test_options_of_a_line_decide_whether_its_key_counts"
FORGED = "tests/unit/signatures/test_forged.py::test_a_thousand_forged_signatures_are_refused"
TOKENS = "tests/unit/signatures/test_security_keys.py"
STORY = "tests/story/test_signed_commits.py"
RUNS = "tests/unit/notifications/test_run_events.py"
STATUS = "tests/story/test_commit_status.py"
STATUS_LINES = "tests/unit/signatures/test_openpgp.py::test_status_lines_decide"

SIGNATURE_FAULTS = [
    Fault(name, f"syncd.{module}", old, new, test)
    for module, rows in {
        "signatures.ssh_signature": {
            "a signature for another purpose counts": (
                "if namespace != NAMESPACE:",
                "if False:",
                FORGED,
            ),
        },
        "signatures.ssh_keys": {
            "a security key's signature holds for each application": (
                "return hashlib.sha256(name).digest() + flags_and_counter",
                "return hashlib.sha256(b'ssh:').digest() + flags_and_counter",
                TOKENS,
            ),
            "an algorithm of another kind of key counts": (
                "if algorithm not in RSA_HASHES if key.kind == RSA else algorithm != key.kind:",
                "if algorithm not in RSA_HASHES if key.kind == RSA else False:",
                TOKENS,
            ),
        },
        "signatures.verify": {
            "the content is not looked at": (
                "if not found.is_over(signed.payload):",
                "if False:",
                FORGED,
            ),
            "an expired key counts": (
                "if signer.valid_before is not None and signed_at > signer.valid_before:",
                "if False:",
                FORGED,
            ),
            "any key counts": (
                "if signer.is_authority or signer.key != key:",
                "if signer.is_authority:",
                FORGED,
            ),
            "a key for other purposes counts": (
                "not matches_list(NAMESPACE, signer.namespaces)",
                "not signer.namespaces",
                OPTIONS,
            ),
        },
        "signatures.signed_object": {
            "of two signatures the first counts": (
                "or len(signatures) > 1:",
                "or False:",
                FORGED,
            ),
        },
        "signatures.openpgp": {
            "a revoked key counts": (
                '    "REVKEYSIG": "the key {key} is revoked",\n',
                "",
                STATUS_LINES,
            ),
            "a signature of text counts": (
                "if valid[0][9] != BINARY_SIGNATURE:",
                "if False:",
                STATUS_LINES,
            ),
        },
        "github.git_object": {
            "an object is believed without its id": (
                'if object_id("commit", candidate) == identity:',
                "if candidate:",
                f"{STORY}::test_a_signature_of_another_commit_is_not_believed",
            ),
        },
        "github.listing": {
            "the tree of the signed commit is not compared": (
                "if self._trees.find_tree_id(folder) != answer.sha:",
                "if False:",
                f"{STORY}::test_the_files_of_another_tree_are_not_taken_for_those_of_the_signed_commit",
            ),
        },
        "engine.signature_policy": {
            "a tag under another name counts": (
                'or (names["tag"], names["object"]) != named:',
                "or False:",
                f"{STORY}::test_a_signed_tag_under_another_name_is_refused",
            ),
            "since: lets in what comes after": (
                "return commit in reached",
                "return True",
                f"{STORY}::test_unsigned_history_up_to_a_named_commit_is_allowed",
            ),
        },
        "engine.rejection": {
            "a signer that is added later does not count": (
                'if known.config_digest != judged_by(job, signers if known.by_policy else ""):',
                "if known.by_policy is None:",
                f"{STORY}::test_a_refused_commit_is_not_asked_about_again_until_the_file_changes",
            ),
        },
        "wiring.connections": {
            "the token that reads writes statuses": (
                "if not isinstance(identity, AppIdentity):\n            # no job",
                "if True:\n            # no job",
                f"{STATUS}::test_one_app_may_do_both_with_two_tokens",
            ),
        },
        "notifications.sender": {
            "statuses are written without a pause": (
                "spacing = next_write_at(one.paused_until, now)",
                "spacing = None",
                f"{STATUS}::test_the_limits_of_github_hold_for_many_commits",
            ),
        },
        "notifications.run_events": {
            "a rejected commit is reported with every run": (
                'if before.marks.get("rejected") == rejected:',
                "if False:",
                f"{RUNS}::test_each_run_has_its_events_once",
            ),
        },
    }.items()
    for name, (old, new, test) in rows.items()
]
