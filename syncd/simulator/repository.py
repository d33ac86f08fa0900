"""Repositories in memory: objects by id, refs by name. Ids are git's, computed from the bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.git_objects import (
    EXECUTABLE,
    FILE,
    LINK,
    SUBMODULE,
    TREE,
    blob_id,
    object_id,
    tree_content,
)

Sign = Callable[[bytes], str]  # returns the armored signature of a payload
RawTree = tuple[tuple[int, bytes, str], ...]


class File(Struct, frozen=True):
    """A file with its content."""

    content: bytes
    executable: bool = False


class Link(Struct, frozen=True):
    """A symbolic link."""

    target: str


class Submodule(Struct, frozen=True):
    """A submodule at a commit of another repository."""

    commit: str
    url: str = "https://github.com/acme/elsewhere"


class Declared(Struct, frozen=True):
    """A file that is listed but has no content, for repositories too large to create."""

    id: str
    size: int


Node = bytes | str | File | Link | Submodule | Declared


class Commit(Struct, frozen=True):
    """A commit. `at` is in epoch seconds; `verification` is GitHub's reason.

    `payload` is what `signature` was made over, as GitHub shows them; `person` is the author and
    the committer.
    """

    id: str
    tree: str
    parents: tuple[str, ...]
    message: str
    at: int
    verification: str = "unsigned"
    payload: str | None = None
    signature: str | None = None
    person: tuple[str, str] = ("Ada", "ada@example.org")


class Tag(Struct, frozen=True):
    """An annotated tag. `payload` and `signature` are as in a commit."""

    name: str
    commit: str
    payload: str = ""
    signature: str | None = None


class Repository(Struct):
    """One repository. `files_of` a commit is path -> node; every commit keeps all its objects."""

    full_name: str
    id: int
    private: bool = True
    default_branch: str = "main"
    blobs: dict[str, bytes] = field(default_factory=dict)
    trees: dict[str, RawTree] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, Tag] = field(default_factory=dict)  # annotated tags by id
    sizes: dict[str, int] = field(default_factory=dict)
    # commit -> what was set on it, the oldest first
    statuses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    blocked: tuple[int, str, str] | None = None  # (status, reason, address) of a block by GitHub
    declared_kilobytes: int = 0  # the size that the API reports; GitHub reports 0 for a new one
    lagging: dict[str, str] = field(default_factory=dict)  # ref -> what the replicas still say
    files_of: dict[str, dict[str, Node]] = field(default_factory=dict)
    export_ignore: set[str] = field(default_factory=set)
    export_subst: set[str] = field(default_factory=set)
    submodules: dict[str, str] = field(default_factory=dict)
    lfs_objects: dict[str, bytes] = field(
        default_factory=dict
    )  # what Git LFS holds: sha256 -> content

    @property
    def owner(self) -> str:
        """Return the account that owns the repository."""
        return self.full_name.partition("/")[0]

    @property
    def name(self) -> str:
        """Return the name without the owner."""
        return self.full_name.partition("/")[2]

    def head(self, branch: str | None = None) -> str:
        """Return the commit of a branch, of the default one where none is named."""
        return self.refs[f"refs/heads/{branch or self.default_branch}"]

    def commit(
        self,
        changes: Mapping[str, Node | None],
        message: str = "change",
        branch: str | None = None,
        parents: Iterable[str] | None = None,
        whole: bool = False,
        verification: str = "unsigned",
        sign: Sign | None = None,
    ) -> str:
        """Commit `changes` to a branch and return the commit's id; None for a path removes it.

        With `whole` the changes are all that the commit holds. There are seven parameters, because
        tests name the few that they need.
        """
        ref = f"refs/heads/{branch or self.default_branch}"
        before = self.refs.get(ref)
        files = {} if whole or before is None else dict(self.files_of[before])
        for path, node in changes.items():
            if node is None:
                files.pop(path, None)
            else:
                files[path] = node
        tree = self.add_files(files)
        made = self.add_commit(
            tree,
            tuple(parents) if parents is not None else ((before,) if before else ()),
            message,
            verification,
            sign,
        )
        self.files_of[made] = files
        self.refs[ref] = made
        return made

    def add_commit(
        self,
        tree: str,
        parents: tuple[str, ...] = (),
        message: str = "change",
        verification: str = "unsigned",
        sign: Sign | None = None,
    ) -> str:
        """Add a commit object and return its id; no ref moves. `sign` signs it."""
        at = 1_700_000_000 + len(self.commits)
        person = f"Ada <ada@example.org> {at} +0000"
        lines = [
            f"tree {tree}",
            *(f"parent {parent}" for parent in parents),
            f"author {person}",
            f"committer {person}",
            "",
            message,
            "",
        ]
        payload = "\n".join(lines)
        signature = None if sign is None else sign(payload.encode())
        identity = object_id("commit", signed_commit(payload, signature).encode())
        made = Commit(identity, tree, parents, message, at, verification)
        if signature is not None:
            made = replace(made, payload=payload, signature=signature)
        self.commits[identity] = made
        return identity

    def add_files(self, files: Mapping[str, Node]) -> str:
        """Add the objects of these files and return the id of their tree."""
        nested: dict[str, object] = {}
        for path, node in files.items():
            folder = nested
            *above, name = path.split("/")
            for part in above:
                inner = folder.setdefault(part, {})
                if not isinstance(inner, dict):
                    raise ValueError(f"{path}: {part} is a file")
                folder = inner
            folder[name] = node
        return self._add_folder(nested, "")

    def _add_folder(self, folder: Mapping[str, object], at: str) -> str:
        entries = []
        for name, node in folder.items():
            raw = name.encode("utf-8", "surrogateescape")
            if isinstance(node, dict):
                entries.append((TREE, raw, self._add_folder(node, f"{at}{name}/")))
            elif isinstance(node, Submodule):
                self.submodules[f"{at}{name}"] = node.url
                entries.append((SUBMODULE, raw, node.commit))
            else:
                entries.append((_mode(node), raw, self.add_blob(node)))
        return self.add_tree(entries)

    def add_tree(self, entries: Iterable[tuple[int, bytes, str]]) -> str:
        """Add a raw tree, in git's order; hostile and duplicate names are kept as they are."""
        given = tuple(
            sorted(entries, key=lambda entry: entry[1] + (b"/" if entry[0] == TREE else b""))
        )
        identity = object_id("tree", tree_content(given))
        self.trees[identity] = given
        return identity

    def add_blob(self, node: object) -> str:
        """Add the content of a node and return its blob id."""
        if isinstance(node, Declared):
            self.sizes[node.id] = node.size
            return node.id
        content = _content(node)
        identity = blob_id(content)
        self.blobs[identity] = content
        return identity

    def lfs_pointer(self, content: bytes) -> bytes:
        """Keep the content in Git LFS and return the pointer to commit for it.

        Source: git-lfs docs/spec.md.
        """
        oid = hashlib.sha256(content).hexdigest()
        self.lfs_objects[oid] = content
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{oid}",
            f"size {len(content)}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def tag(
        self, name: str, commit: str, annotated: bool = False, sign: Sign | None = None
    ) -> None:
        """Tag a commit. `sign` signs an annotated tag."""
        target = commit
        if annotated:
            tagger = "tagger Ada <ada@example.org> 1700000000 +0000"
            text = f"object {commit}\ntype commit\ntag {name}\n{tagger}\n\n{name}\n"
            signature = None if sign is None else sign(text.encode())
            target = object_id("tag", (text + (signature or "")).encode())
            self.tags[target] = Tag(name, commit, text, signature)
        self.refs[f"refs/tags/{name}"] = target

    def add_git_objects(self, objects: Mapping[str, tuple[str, bytes]]) -> None:
        """Add objects of git's own, given as id -> (kind, content); no ref moves."""
        for identity, (kind, content) in objects.items():
            if kind == "blob":
                self.blobs[identity] = content
            elif kind == "tree":
                self.trees[identity] = tuple(_tree_entries(content))
            elif kind == "commit":
                self.commits[identity] = _parsed_commit(identity, content.decode())

    # --- reading ----------------------------------------------------------------------------------

    def size_of(self, blob: str) -> int:
        """Return the size of a blob in bytes, declared or real."""
        return self.sizes[blob] if blob in self.sizes else len(self.blobs[blob])

    def resolve(self, name: str) -> Commit | None:
        """Return the commit of a ref, short name or id, as the (possibly lagging) API sees it."""
        refs = {**self.refs, **self.lagging}
        if name == "HEAD":
            name = self.default_branch
        for candidate in (name, f"refs/{name}", f"refs/heads/{name}", f"refs/tags/{name}"):
            if candidate in refs:
                target = refs[candidate]
                return self.commits[self.tags[target].commit if target in self.tags else target]
        return self.commits.get(name)

    def entry(self, tree: str, path: str) -> tuple[int, str] | None:
        """Return (mode, id) of a path below a tree; of the tree itself for the empty path."""
        mode, identity = TREE, tree
        for name in path.split("/") if path else ():
            if mode != TREE:
                return None
            raw = name.encode("utf-8", "surrogateescape")
            found = next((entry for entry in self.trees[identity] if entry[1] == raw), None)
            if found is None:
                return None
            mode, _, identity = found
        return mode, identity

    def walk(
        self, tree: str, prefix: str = "", recursive: bool = True
    ) -> Iterable[tuple[str, int, str]]:
        """Yield (path, mode, id) below a tree, in the order of the API, however deep it is."""
        open_folders = [(prefix, iter(self.trees[tree]))]
        while open_folders:
            above, rest = open_folders[-1]
            for mode, raw, identity in rest:
                path = above + raw.decode("utf-8", "replace")
                yield path, mode, identity
                if recursive and mode == TREE:
                    open_folders.append((path + "/", iter(self.trees[identity])))
                    break
            else:
                open_folders.pop()


def signed_commit(payload: str, signature: str | None) -> str:
    """Return the commit object: git puts the signature after all other headers."""
    if signature is None:
        return payload
    head, blank, body = payload.partition("\n\n")
    header = "gpgsig " + signature.rstrip("\n").replace("\n", "\n ")
    return f"{head}\n{header}{blank}{body}"


def _tree_entries(content: bytes) -> Iterator[tuple[int, bytes, str]]:
    while content:
        mode, _, rest = content.partition(b" ")
        name, _, rest = rest.partition(b"\0")
        yield int(mode, 8), name, rest[:20].hex()
        content = rest[20:]


def _parsed_commit(identity: str, content: str) -> Commit:
    """Return a commit of git's own as the API describes it: without the offsets of its times."""
    head, _, body = content.partition("\n\n")
    lines = head.replace("\n ", "\0").split("\n")
    headers = [(name, value) for name, _, value in (line.partition(" ") for line in lines)]
    signature = dict(headers).get("gpgsig", "").replace("\0", "\n")
    kept = [line for line in lines if not line.startswith("gpgsig ")]
    payload = "\n".join(kept).replace("\0", "\n ") + f"\n\n{body}"
    return Commit(
        identity,
        dict(headers)["tree"],
        tuple(value for name, value in headers if name == "parent"),
        body.removesuffix("\n"),
        int(dict(headers)["committer"].split()[-2]),
        payload=payload if signature else None,
        signature=signature or None,
    )


def _mode(node: object) -> int:
    if isinstance(node, Link):
        return LINK
    return EXECUTABLE if isinstance(node, File) and node.executable else FILE


def _content(node: object) -> bytes:
    if isinstance(node, File):
        return node.content
    if isinstance(node, Link):
        return node.target.encode()
    if isinstance(node, str):
        return node.encode()
    if not isinstance(node, bytes):
        raise TypeError(f"no content: {node!r}")
    return node
