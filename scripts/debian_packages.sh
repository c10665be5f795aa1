#!/usr/bin/env bash
# Installs Debian packages that tests run for real, where they are missing and this user may:
#   debian_packages.sh prometheus=promtool 'postgresql=/usr/lib/postgresql/*/bin/initdb'
# Behind each name stands what shows that it is there: a program, or a path. Where it cannot be installed, that is said and
# no failure: the tests that need it are skipped, and say why.
set -euo pipefail

is_there() {
  command -v "$1" >/dev/null || compgen -G "$1" >/dev/null
}

missing=()
for argument in "$@"; do
  is_there "${argument#*=}" || missing+=("${argument%%=*}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "not installed, and not to be had by this user: ${missing[*]} (Debian: apt-get install ${missing[*]})"
  exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
