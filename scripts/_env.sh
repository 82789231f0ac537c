# Shared by scripts/run and scripts/test: finds a Python, makes .venv, installs trionode into it.
# Usage: prepare_environment EXTRAS   (EXTRAS is "" or "[dev]"); sets $VENV.

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "trionode needs Python 3.11, 3.12 or 3.13 with the venv module; set PYTHON=/path/to/python" >&2
    return 1
}

prepare_environment() {
    local extras="$1" python stamp wanted
    VENV="${VENV:-$ROOT/.venv}"
    if [ ! -x "$VENV/bin/python" ]; then
        python="$(find_python)" || return 1
        echo "creating $(basename "$VENV") with $("$python" --version)" >&2
        "$python" -m venv "$VENV" || return 1
    fi
    # Install again only when the declared requirements changed.
    stamp="$VENV/.installed${extras//[^a-z]/}"
    wanted="$(cksum "$ROOT/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "installing trionode$extras" >&2
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e "$ROOT$extras" || return 1
        echo "$wanted" >"$stamp"
    fi
}
