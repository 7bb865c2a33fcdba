#!/bin/sh
# Run facewright. Secrets come from files, so that `docker inspect` does not show them:
#   FACEWRIGHT_TOKEN_FILE    the server's token       (default: /run/secrets/facewright_token, if it is there)
#   PGPASSWORD_FILE          the database's password  (default: /run/secrets/database_password, if it is there)
set -eu

# read_secret VARIABLE DEFAULT_FILE: export VARIABLE with the content of the file that VARIABLE_FILE names.
read_secret() {
    eval "named=\${$1_FILE:-}"
    file=${named:-$2}
    if [ -r "$file" ]; then
        value=$(cat "$file")
        export "$1=$value"
    elif [ -n "$named" ]; then
        echo "error: $1_FILE=$file: no such file, or not readable" >&2
        exit 1
    fi
}

read_secret FACEWRIGHT_TOKEN /run/secrets/facewright_token
read_secret PGPASSWORD /run/secrets/database_password
exec facewright "$@"
