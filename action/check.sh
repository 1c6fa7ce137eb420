#!/usr/bin/env bash
# What action.yml runs: `oomph check` with the words of OOMPH_ARGUMENTS. Its exit code is oomph's.
set -euo pipefail

if [[ -n ${OOMPH_BINARY:-} ]]; then
    binary=$OOMPH_BINARY
else
    binary=${CARGO_TARGET_DIR:-$GITHUB_ACTION_PATH/target}/release/oomph
fi
if [[ ! -x $binary ]] && ! command -v "$binary" > /dev/null; then
    echo "::error title=oomph::there is no oomph at $binary"
    exit 2
fi

# xargs takes quotes apart as a shell does, and evaluates nothing: a pull request's title in the
# arguments stays a word.
words=()
while IFS= read -r -d '' word; do
    words+=("$word")
done < <(printf '%s' "${OOMPH_ARGUMENTS:-}" | xargs printf '%s\0')

exec "$binary" check "${words[@]}"
