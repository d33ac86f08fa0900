"""Hooks as text: what a shell would split is split, what only a shell understands is a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from syncd.config.commands import as_scalar, hook
from syncd.config.load import load_config
from syncd.errors import ConfigError

# text -> the arguments that the program gets
TAKEN: dict[str, tuple[str, ...]] = {
    "nginx -t -c {staged}/etc/nginx/nginx.conf": (
        "nginx",
        "-t",
        "-c",
        "{staged}/etc/nginx/nginx.conf",
    ),
    "sh -c 'nginx -t && echo ok'": ("sh", "-c", "nginx -t && echo ok"),
    'sh -c "test -s $SYNCD_STAGED/a | cat > /dev/null; `id`"': (
        "sh",
        "-c",
        "test -s $SYNCD_STAGED/a | cat > /dev/null; `id`",
    ),
    "sh -c 'a \\\n b\nc'": ("sh", "-c", "a \\\n b\nc"),
    "find /srv -name *.conf -exec touch {} \\;": (
        "find",
        "/srv",
        "-name",
        "*.conf",
        "-exec",
        "touch",
        "{}",
        ";",
    ),
    "find /srv -path '/srv/*' -exec touch {} +": (
        "find",
        "/srv",
        "-path",
        "/srv/*",
        "-exec",
        "touch",
        "{}",
        "+",
    ),
    "systemctl restart php*-fpm": ("systemctl", "restart", "php*-fpm"),
    "[ -s {staged}/etc/motd ]": ("[", "-s", "{staged}/etc/motd", "]"),
    "awk '{print $1}' /etc/motd": ("awk", "{print $1}", "/etc/motd"),
    "curl -sf -w %{http_code} http://127.0.0.1/?a=1&b=2": (
        "curl",
        "-sf",
        "-w",
        "%{http_code}",
        "http://127.0.0.1/?a=1&b=2",
    ),
    "docker inspect --format {{.Id}} web": ("docker", "inspect", "--format", "{{.Id}}", "web"),
    "jinja {{name}} HEAD@{upstream}": ("jinja", "{{name}}", "HEAD@{upstream}"),
    "echo '{job}' \"{job}\" \\{job}": ("echo", "{job}", "{job}", "{job}"),
    "git -C /srv show HEAD~1 host:~/x": ("git", "-C", "/srv", "show", "HEAD~1", "host:~/x"),
    "grep -c a# /etc/motd": ("grep", "-c", "a#", "/etc/motd"),
    "grep -q end$ /etc/motd": ("grep", "-q", "end$", "/etc/motd"),
    "env LANG=C nginx -t": ("env", "LANG=C", "nginx", "-t"),
    "echo it\\'s \\&\\& \\$HOME \\~": ("echo", "it's", "&&", "$HOME", "~"),
    "  nginx -t  \n": ("nginx", "-t"),
}

# text -> how the message begins
SHELL: dict[str, str] = {
    "nginx -t && echo ok": "'&&' means",
    "nginx -t&&echo ok": "'&&' means",
    "nginx -t || true": "'||' means",
    "nginx -T | grep -q server": "'|' means",
    "nginx -t; echo ok": "';' means",
    "nginx -T > /tmp/out": "'>' means",
    "nginx -t 2>&1": "'>&' means",
    "nginx -t >> /tmp/out": "'>>' means",
    "cat < /etc/motd": "'<' means",
    "sleep 5 &": "'&' means",
    "sleep 5& true": "'&' means",
    "nginx -t &> /dev/null": "'&>' means",
    "echo $(hostname)": "'$(' means",
    "echo `hostname`": "'`' means",
    "test -s $SYNCD_STAGED/etc/motd": "'$SYNCD_STAGED' means",
    "test -s ${SYNCD_STAGED}/etc/motd": "'${SYNCD_STAGED}' means",
    "kill $$": "'$$' means",
    "cat {staged}/etc/nginx/*.conf": "'{staged}/etc/nginx/*.conf' means",
    "ls /dev/sd?": "'/dev/sd?' means",
    "cp {staged}/etc/motd ~/motd": "'~/motd' means",
    "ls ~www-data": "'~www-data' means",
    "nginx -t # every file": "'#' (a comment) means",
    "LANG=C nginx -t": "'LANG=' (a variable for one command) means",
    "cd /srv": "'cd' means",
    "! grep -q x /etc/motd": "'!' means",
    "(nginx -t)": "'(nginx' means",
    "nginx -t\necho ok": "a line break means",
    "nginx \\\n -t": "a line break means",
    "echo 'a' && echo \"$B\" > $C | d": "'&&', '>', '|', … mean",
}


@pytest.mark.parametrize("text", TAKEN)
def test_text_without_a_shell_is_split_as_a_shell_splits_it(text: str) -> None:
    assert hook(text).argv == TAKEN[text] and not hook(text).shell


@pytest.mark.parametrize("text", SHELL)
def test_what_only_a_shell_understands_is_a_mistake_with_the_shell_form_to_paste(text: str) -> None:
    with pytest.raises(ValueError, match="no shell runs this text") as caught:
        hook(text)
    said = str(caught.value)
    assert said.startswith(SHELL[text])
    pasted = yaml.safe_load(said[said.index("{shell: ") :])
    assert pasted == {"shell": text}
    assert hook(pasted).argv == ("/bin/sh", "-c", text)


def test_the_mistake_stands_at_its_value_and_a_long_command_is_pasted_whole(tmp_path: Path) -> None:
    command = f"nginx -t -c {{staged}}/{'long/' * 100}nginx.conf && echo ok"
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\ngithub: {ops: {anonymous: true}}\ndefaults:\n  on_change: reload | cat\n"
        "jobs:\n"
        "  web:\n    repo: acme/infra\n    every: 5m\n    paths: [{from: a/, to: /srv/a/}]\n"
        f"    validate: {as_scalar(command)}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    found = [(one.line, one.column, one.key) for one in caught.value.problems]
    assert found == [(4, 14, "jobs.web.on_change"), (10, 15, "jobs.web.validate")]
    assert caught.value.problems[1].text.endswith(f"write {{shell: {as_scalar(command)}}}")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("cat {stagd}/x", "{stagd} means nothing, only {staged} is filled in"),
        ("cat {job}/x && true", "{job} means nothing"),
        ("", "the command is empty"),
        ("  ", "the command is empty"),
        ("'' x", "the command is empty"),
        ([], "needs the program"),
        ([" "], "needs the program"),
        (["a", "b\0"], "needs the program"),
        ({"shell": " "}, "the command is empty"),
        ({"shell": "a", "check": "json"}, "write text, a list, or {shell: text}"),
        ({"shell": "a\0"}, "NUL"),
        ("echo 'open", "a quote is not closed"),
        ("echo \\", "it ends in a backslash"),
        (True, "true is not a command"),
        (None, "nothing is not a command"),
    ],
)
def test_what_is_no_command_says_why(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        hook(value)
    assert said in str(caught.value)


def test_every_mistake_of_one_command_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="means nothing") as caught:
        hook("cat {stagd}/x && true")
    assert "'&&' means something" in str(caught.value)


def test_a_list_is_taken_as_it_is() -> None:
    argv = ("echo", "a && b", "$HOME", "{job}", "*.conf", "~", "")
    assert hook(list(argv)).argv == argv


@pytest.mark.parametrize("text", ["it's", "a: b # c", '"q"', "two\nlines\t\\", "naïve {x}"])
def test_a_pasted_scalar_reads_as_the_text(text: str) -> None:
    assert yaml.safe_load(f"{{shell: {as_scalar(text)}}}") == {"shell": text}
