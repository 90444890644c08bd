# Python with the SDKs of other people, in the user's cache: made once. Source it, then venv_ready.
# shellcheck shell=bash
venv=${XDG_CACHE_HOME:-$HOME/.cache}/enclii/events-venv
venv_packages="cloudevents==1.12.0 kafka-python==2.0.6 lz4==4.3.3 protobuf==5.29.5"

venv_ready() { # false: it cannot be installed here
    [ "$(cat "$venv/packages" 2> /dev/null)" = "$venv_packages" ] && return 0
    rm -rf "$venv"
    # shellcheck disable=SC2086 # a list of words
    python3 -m venv "$venv" && "$venv/bin/pip" install -q $venv_packages && echo "$venv_packages" > "$venv/packages"
}
