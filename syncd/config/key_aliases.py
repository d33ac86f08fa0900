"""The keys that other programs' words mean: `branch` is `ref` here, `dest` is `to`.

A suggestion for an unknown key looks here first, because these words are not similar in spelling.
An entry names keys of syncd; the first one that the block at hand has is suggested. Data only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# key of syncd -> other words for it
WORDS: dict[str, str] = {
    # jobs, and paths
    "repo": "repository repositories repos project git remote url uri clone_url",
    "ref": "branch tag revision rev commit reference version git_ref target_revision",
    "every": "interval period frequency poll poll_interval refresh sync_interval",
    "cron": "cron_expression crontab cron_schedule",
    "as": "identity auth credentials account",
    "from": "source src path file files folder directory dir repo_path",
    "to": "dest destination dst target out local local_path",
    "paths": "path files file folder folders directory directories dir mappings mounts",
    "include": "pattern patterns glob globs only filter match includes",
    "exclude": "ignore ignored skip excludes",
    "mode": "permissions perms chmod file_mode",
    "owner": "user group chown uid gid user_group",
    "dir_mode": "directory_mode folder_mode",
    "on_change": (
        "hook hooks command cmd exec run script reload restart after post after_sync post_sync"
        " post_hook on_update on_success notify_command handler"
    ),
    "validate": "check test verify before pre pre_hook pre_sync validation",
    "health": "healthcheck health_check probe liveness readiness wait",
    "failures": "retries threshold failure_threshold",
    "for": "window duration",
    "limits": "limit max_delete delete_limit max_files max_size",
    "prune": "delete remove cleanup purge",
    "drift": "on_drift overwrite force",
    "on_push": "webhook push",
    "hook_user": "run_as as_user",
    "hook_timeout": "command_timeout",
    # identities
    "api": "url host hostname server endpoint base_url api_url api_base enterprise_url github_url",
    "app_id": "id appid application_id github_app_id",
    "installation_id": "installation install_id github_app_installation_id",
    "private_key": (
        "key pem key_file pem_file private_key_file private_key_path key_path secret_key"
        " github_app_private_key"
    ),
    "token": "pat access_token personal_access_token github_token password",
    "login": "oauth device_flow",
    "anonymous": "public none unauthenticated",
    "ca_file": "ca cacert ca_cert ca_bundle ca_path cafile ssl_cert certificate",
    # the whole configuration
    "github": "identities identity auth apps app credentials accounts",
    "jobs": "job mirrors mirror syncs sync tasks repos repositories",
    "defaults": "default common global globals",
    "state": "state_dir statedir state_path data data_dir cache cache_dir",
    "workers": "threads concurrency parallel parallelism max_workers",
    "timezone": "tz time_zone",
    "log": "logging logs",
    "web": "http server listener dashboard metrics status_page",
    "notify": "notifications notification alerts alert slack",
    # the listener, notifications, the trash, the log
    "listen": "port bind address host bind_address",
    "users": "user accounts logins",
    "hash": "password_hash password passwd pass",
    "prefix": "path_prefix base_path root_path url_prefix base_url subpath",
    "trusted_proxies": "trusted_proxy proxies proxy forwarded_allow_ips real_ip_from",
    "secret": "token key password webhook_secret",
    "webhook": "url address hook",
    "when": "on events event",
    "keep": "retention max_age days age ttl history",
    "size": "max_size max_bytes limit",
    "level": "log_level verbosity severity",
    "format": "type log_format",
    "verified": "signed signature",
    "signed_by": "allowed_signers signers signing_keys trusted_keys gpg_keys",
    "since": "introduction first_signed",
    "fast_forward": "ff ff_only",
}

PATHS = ("paths", "paths: [{from: ..., to: ...}]")

# a word -> a key that the block has, and what to write there: one key alone would not say it
WRITTEN_OUT: dict[str, tuple[str, str]] = {
    "schedule": ("every", "every' or 'cron"),
    "token_file": ("token", "token: {file: PATH}"),
    "token_path": ("token", "token: {file: PATH}"),
    "token_env": ("token", "token: {env: NAME}"),
    "from": PATHS,
    "source": PATHS,
    "src": PATHS,
    "to": PATHS,
    "dest": PATHS,
    "destination": PATHS,
    "dst": PATHS,
    "target": PATHS,
}


def meant_by(word: str, keys: Iterable[str]) -> str | None:
    """Return the key, or what to write, that an unknown key of a block with `keys` means."""
    known, word = set(keys), word.lower().replace("-", "_")
    return next((text for key, text in _meanings(word) if key in known), None)


def _meanings(word: str) -> Iterator[tuple[str, str]]:
    yield from ((key, key) for key, words in WORDS.items() if word in words.split())
    if word in WRITTEN_OUT:
        yield WRITTEN_OUT[word]
