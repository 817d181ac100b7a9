#!/usr/bin/env bash
# Fetch one pinned set of jars with the Ivy that Spark ships, and check each against its SHA-256.
#
# usage: fetch.sh PYTHON SET DIRECTORY      (SET: spark or hadoop)
set -euo pipefail
python=$1 set=$2 directory=$3 here=$(cd "$(dirname "$0")" && pwd)

mkdir -p "$directory"
if (cd "$directory" && sha256sum --quiet --strict --check "$here/$set.sha256" > /dev/null 2>&1); then
    exit 0
fi
ivy=$("$python" -c 'import glob, os, pyspark; print(glob.glob(os.path.join(os.path.dirname(pyspark.__file__), "jars", "ivy-*.jar"))[0])')
log=$directory/fetch.log
java -jar "$ivy" -settings "$here/ivysettings.xml" -ivy "$here/$set.xml" -cache "$directory/.ivy" \
    -retrieve "$directory/[artifact]-[revision].[ext]" > "$log" 2>&1 || { tail -30 "$log" >&2; exit 1; }
(cd "$directory" && sha256sum --quiet --strict --check "$here/$set.sha256")
rm -rf "$directory/.ivy"
