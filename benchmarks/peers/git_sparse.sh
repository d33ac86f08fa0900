#!/bin/sh
# A shallow, blobless clone with a sparse checkout of the wanted folders. JOBS STATE: see bench.py.
set -e
export GIT_TERMINAL_PROMPT=0 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.extraHeader GIT_CONFIG_VALUE_0="Authorization: Basic $(printf 'x:%s' "$HUB_TOKEN" | base64)"
while IFS="$(printf '\t')" read -r repo dest paths; do
    if [ -d "$dest/.git" ]; then
        git -C "$dest" fetch -q --depth 1 origin main
        git -C "$dest" reset -q --hard FETCH_HEAD
    else
        git clone -q --depth 1 --filter=blob:none --no-checkout --branch main "$HUB_URL/$repo.git" "$dest"
        # shellcheck disable=SC2086
        git -C "$dest" sparse-checkout set --no-cone $paths
        git -C "$dest" checkout -q main
    fi
done <"$1"
