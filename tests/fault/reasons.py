"""Where a failing call does not make a run fail, and why that is right.

A place that is not listed here is a finding.
"""

from __future__ import annotations

from tests.fault.points import Tally

WHY: dict[str, str] = {
    "blob_files.has": "a cached blob that can't be looked at counts as absent and is fetched again",
    "blobs.open": "a cached blob that can't be read counts as absent and is fetched again",
    "blob_files.open": (
        "a cached blob that can't be opened counts as absent and is fetched again; its age is "
        "asked for its keeping alone"
    ),
    "small_blobs._open_table": (
        "asked whether the cache's table was found damaged before; one that is, is found damaged "
        "again"
    ),
    "small_blobs._current_identity": (
        "the cache's table is asked for again before each use; what can't be looked at counts as "
        "absent and is fetched again"
    ),
    "blobs._acquire": "asked whether the folder stands; making it answers too",
    "blob_files._make_directory": "asked whether a folder stands that is made next anyway",
    "location.refuse_network_filesystem": (
        "whether the state lies on a network file system is a warning's question; not knowing is "
        "no reason to stop"
    ),
    "location.make_private": "asked whether the folder stands; making it answers too",
    "lock.job_lock": "asked whether the folder stands; making it answers too",
    "lock._held": "asked whether the folder stands; making it answers too",
    "location.open_nofollow": (
        "a cached blob that can't be opened counts as absent; where the accepted commit's file "
        "can't be opened, the store's own record counts"
    ),
    "accepted_commits.load": (
        "a second record of what was accepted, for a store that is lost: where it can't be read, "
        "the store's own record counts"
    ),
    "accepted_commits.save": (
        "asked whether that second memory was begun: where this can't be told, the store alone "
        "remembers until the next run keeps it"
    ),
    "store.open": "asked whether the folder stands; making it answers too",
    "free_space.nearest_existing_dir": (
        "a folder that can't be looked at is judged by the one above it; the writes themselves "
        "find out the rest"
    ),
    "destination_directories.open_or_make": "asked whether the root stands; opening it answers too",
    "stat in make_directories.make_parents": (
        "asked whether a folder stands that is made next anyway"
    ),
    "stat in dirfd.broken_link_reason": (
        "asked for the message alone: the folder is known to be missing, and making it says the "
        "rest"
    ),
    "lstat in dirfd.broken_link_reason": (
        "asked for the message alone: the folder is known to be missing, and making it says the "
        "rest"
    ),
    "scan.scan_entry": (
        "at a removal: the file counts as changed underneath, and the run plans anew"
    ),
    "scan.scan_directory": (
        "at a change of its mode: the folder counts as changed underneath, and the run plans anew"
    ),
    "tree_copy.shares_blocks": (
        "whether copies can share their blocks is asked by trying; not knowing means that room "
        "for them is asked for"
    ),
    "sparse._copy_range": (
        "where the kernel does not copy by itself, the bytes are read and written"
    ),
    "close in file_lock.release": "the kernel releases the lock whatever close(2) reports",
    "close in filesystem_sync.close": (
        "a folder that was held open is let go whatever close(2) says of it: nothing was written "
        "through it"
    ),
    "ahead": (
        "what was looked at while GitHub was asked counts only if the same places are asked for "
        "afterwards, and is looked at again otherwise"
    ),
    "rmdir in cleanup.remove_if_empty": (
        "a folder that holds something stays, whatever the kernel says first; an empty one too "
        "many stays ours and goes at the next run"
    ),
    "access.share": (
        "what can be shared only later stays private: the next run of the state's owner shares it"
    ),
    "published_trees.is_gone": (
        "a folder of the tree that can't be looked at counts as standing; the next switch asks "
        "again"
    ),
    "trash.is_whole": (
        "a kept content that can't be read again counts as damaged, and is copied anew"
    ),
    "trash.entries": "an entry of the trash that can't be read is left out; its content stays",
    "age._last": (
        "counted time that can't be read goes on from the newest entry: things are kept longer"
    ),
    "age.boot_id": "in a boot that can't be told apart no time is counted: things are kept longer",
    "dirfd.open_subdirectory": (
        "in tidying up: an empty folder too many stays ours and goes at the next run"
    ),
}

AGAIN = "an interrupted call is made again, by Python (PEP 475) and by SQLite"
CLOSING = (
    "at closing SQLite copies its journal into the store; when that fails the journal stays, "
    "holds everything, and is played at the next opening"
)
LOCKS = "a lock of SQLite's that is refused counts as held by another, and is asked for again"
ASKED = (
    "asked whether something stands; making or opening it answers too (by function: the family "
    "`calls`)"
)
ABSENT = "a cached blob that can't be looked at or read counts as absent and is fetched again"
MOUNTED = (
    "whether the state lies on a network file system is a warning's question; not knowing is no "
    "reason to stop"
)
FOLDER_SYNC = (
    "SQLite syncs the folder of a new journal when it can; the store itself was made and synced "
    "before"
)

# the same at system calls, where not the function is known but what it is about
WHY |= {
    "EINTR": AGAIN,
    "fcntl in db": LOCKS,
    "fcntl in db-shm": LOCKS,
    "fchown in db-wal": (
        "SQLite gives its journal the owner of the store, and works with it whoever owns it"
    ),
    "fchown in db-shm": (
        "SQLite gives its memory the owner of the store, and works with it whoever owns it"
    ),
    "fdatasync in db": CLOSING,
    "fsync in db": CLOSING,
    "ftruncate in db": CLOSING,
    "pread64 in db": CLOSING + "; at opening a store that can't be read is opened once more",
    "pread64 in db-wal": CLOSING + "; at opening a store that can't be read is opened once more",
    "pwrite64 in db": CLOSING,
    "fdatasync in db-wal": CLOSING,
    "ftruncate in db-wal": CLOSING,
    "unlink in db-wal": CLOSING,
    "unlink in db-shm": "SQLite's shared memory, which means nothing once it is closed",
    "newfstatat in db": "SQLite asks whether its file was moved away; our own question is another",
    "newfstatat in db-wal": (
        "SQLite asks whether there is a journal; what it holds is found by reading it"
    ),
    "newfstatat in db-journal": (
        "SQLite asks whether there is a journal of the older kind, which syncd's stores never have"
    ),
    "newfstatat in db-shm": "SQLite asks how large its shared memory is, and makes it anew",
    "openat in state": FOLDER_SYNC,
    "fdatasync in state": FOLDER_SYNC,
    "fsync in state": FOLDER_SYNC,
    "cache.db": (
        "what the cache's table can't give is fetched again; a content that it can't take fails "
        "the run by name, and what is only closed may be lost"
    ),
    "ioctl in blobs": ABSENT,
    "lseek in blobs": ABSENT,
    "getdents64 in blobs": ABSENT,
    "newfstatat in blobs": ABSENT,
    "openat in blobs": ABSENT,
    "pread64 in blobs": ABSENT,
    "read in blobs": ABSENT,
    "mkdir in blobs": ASKED,
    "mkdir in state": ASKED,
    "newfstatat in state": ASKED,
    "newfstatat in destination": ASKED,
    "newfstatat in elsewhere": ASKED,
    "openat in elsewhere": MOUNTED,
    "close in elsewhere": (
        "what was only read from, the list of mounts or the kernel's random numbers, is let go "
        "whatever close(2) says"
    ),
    "write in elsewhere": "a line of the log that can't be said stops nobody's work",
    "read in elsewhere": MOUNTED,
    "lseek in elsewhere": MOUNTED,
    "ioctl in elsewhere": MOUNTED,
    "fstatfs in destination": (
        "which file system it is can't be told, so each file on it is synced by itself"
    ),
    "getdents64 in destination": (
        "a directory that may not be listed: whether it ignores case is asked by its own name "
        "instead"
    ),
    "openat in destination": (
        "in tidying up: an empty folder too many stays ours and goes at the next run; what we may "
        "not read back is synced with its file system"
    ),
    "rmdir in destination": (
        "a folder that holds something stays, whatever the kernel says first; an empty one too "
        "many stays ours and goes at the next run"
    ),
    "lseek in destination": (
        "Python asks where it stands in a file it has just opened, and reads from the start if "
        "that can't be told"
    ),
    "close in destination": (
        "a folder that was held open is let go whatever close(2) says of it (which close it is: "
        "by function, the family `calls`)"
    ),
    "close in db": CLOSING,
    "close in db-wal": CLOSING,
    "close in db-shm": CLOSING,
    "close in state": (
        "a lock's file, or a folder that SQLite has synced: let go whatever close(2) says"
    ),
}


def unexplained(tally: Tally) -> list[str]:
    """The points at which a run reported success in spite of a fault, and nobody has said why."""
    return sorted(where for where in tally.passed_by if not _why(where))


def _why(where: str) -> str:
    """The reason for `CALL ERROR in PLACE`: of the place, of the call there,
    or of the error whatever was called.
    """
    left, _, place = where.rpartition(" in ")
    call, _, error = left.partition(" ")
    return next(
        (
            WHY[key]
            for key in (place, f"{call} in {place}", f"{error} in {place}", error)
            if key in WHY
        ),
        "",
    )
