#!/usr/bin/env bash
# Pack what YARN containers need: environment.tar.gz (the locked packages of all stages and Horovod)
# and spark-jars.zip (Spark's and Delta's jars). What is already built from the same inputs stays.
#
# There is no interpreter inside: nodes need the one of PYTHON at the same path.
# Bytecode is inside: without it every container would spend 8 s compiling TensorFlow's modules.
#
# usage: archive.sh PYTHON DIRECTORY
set -euo pipefail
python=$(realpath -s "$1") out=$(realpath -m "$2") here=$(cd "$(dirname "$0")" && pwd)
build=$here/../build locks=("$here/lock/train.txt" "$here/lock/report.txt")
spark=$("$python" -c 'import os, pyspark; print(os.path.dirname(pyspark.__file__))')
interpreter=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)')

current() { # FILE STAMP: is FILE already built from the inputs that STAMP digests?
    [ -f "$1" ] && [ "$(cat "$1.inputs" 2> /dev/null)" = "$2" ]
}
publish() { # PARTIAL FILE STAMP: FILE is never there half-written
    rm -f "$2.inputs" && mv "$1" "$2" && echo "$3" > "$2.inputs"
    echo "$2: $(du -h --apparent-size "$2" | cut -f1)"
}

pack_environment() { # FILE
    local environment=$work/environment uv
    uv=$(dirname "$python")/uv
    "$uv" venv --quiet --relocatable --python "$python" "$environment"
    "$uv" pip install --quiet --python "$environment/bin/python" --require-hashes "${locks[@]/#/--requirements=}"
    "$uv" pip install --quiet --python "$environment/bin/python" --no-deps "$build"/wheels/horovod-*.whl
    (
        cd "$environment"/lib/python3.*/site-packages
        rm -rf pyspark/jars pyspark/examples tensorflow/include clang
        find . -type d -name tests -prune -exec rm -rf {} +
    )
    "$environment/bin/python" -I -m compileall -q -j 0 --invalidation-mode unchecked-hash "$environment/lib" > /dev/null
    TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 "$environment/bin/python" -I -c \
        'import delta, deltalake, hdfs_native, horovod.spark, horovod.tensorflow, jinja2, keras, lifelines, optuna, sklearn, tensorflow'
    tar -C "$environment" --owner=0 --group=0 --numeric-owner -cf - . \
        | "$environment/bin/python" -I -m isal.igzip -3 --no-name > "$1"
}

pack_jars() { # FILE
    "$python" -I - "$1" "$spark"/jars/*.jar "$build"/jars/spark/*.jar <<- 'END'
	import pathlib, sys, zipfile
	jars = {path.name: path for path in map(pathlib.Path, sys.argv[2:])}
	with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_STORED) as archive:
	    for name, path in sorted(jars.items()):
	        archive.write(path, name)
	END
}

"$here/horovod/build.sh" "$python" "$build/wheels"
"$here/jars/fetch.sh" "$python" spark "$build/jars/spark"
mkdir -p "$out"
work=$(mktemp -d "$out/.partial.XXXXXX")
trap 'rm -rf "$work"' EXIT

stamp=$(cat "$0" "${locks[@]}" "$build/wheels/SHA256SUMS" - <<< "$interpreter" | sha256sum | cut -d' ' -f1)
if ! current "$out/environment.tar.gz" "$stamp"; then
    pack_environment "$work/environment.tar.gz"
    publish "$work/environment.tar.gz" "$out/environment.tar.gz" "$stamp"
fi

stamp=$(cat "$spark"/jars/*.jar "$build"/jars/spark/*.jar | sha256sum | cut -d' ' -f1)
if ! current "$out/spark-jars.zip" "$stamp"; then
    pack_jars "$work/spark-jars.zip"
    publish "$work/spark-jars.zip" "$out/spark-jars.zip" "$stamp"
fi
