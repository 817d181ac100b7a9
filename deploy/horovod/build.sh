#!/usr/bin/env bash
# Compile Horovod 0.28.1 against the environment's TensorFlow and keep the wheel.
#
# Horovod has no wheel and its last release predates TensorFlow 2.21. One change makes it
# compile: its optional XLA operation (used only with HOROVOD_ENABLE_XLA_OPS=1) includes
# headers that moved after TensorFlow 2.13, so the guard around that file becomes `#if 0`.
#
# usage: build.sh PYTHON WHEEL_DIRECTORY
set -euo pipefail
python=$(realpath -s "$1") wheels=$(realpath -m "$2") here=$(cd "$(dirname "$0")" && pwd)
work=$(dirname "$wheels")/horovod-build
tools=$work/tools

if [ -f "$wheels/SHA256SUMS" ] && (cd "$wheels" && sha256sum --quiet --check SHA256SUMS); then
    exit 0
fi
command -v g++ > /dev/null || { echo "No C++ compiler: install one, e.g. apt-get install g++" >&2; exit 2; }

rm -rf "$work" && mkdir -p "$work" "$wheels"
uv=$(dirname "$python")/uv
"$uv" pip install --quiet --python "$python" --require-hashes --target "$tools" -r "$here/build-tools.txt"
export PYTHONPATH=$tools PATH=$tools/bin:$PATH
cd "$work"
"$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary horovod --require-hashes -r "$here/horovod.txt"
tar -xzf horovod-0.28.1.tar.gz
cd horovod-0.28.1

guarded=horovod/tensorflow/xla_mpi_ops.cc
[ "$(grep -c '^#if TENSORFLOW_VERSION >= 2006000000$' $guarded)" = 1 ] || { echo "$guarded is not the file this change was written for" >&2; exit 1; }
sed -i 's/^#if TENSORFLOW_VERSION >= 2006000000$/#if 0/' $guarded

echo "Compiling Horovod (about 3 minutes, once); log: $work/build.log"
HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
    MAKEFLAGS=-j$(nproc) "$python" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$wheels" . > "$work/build.log" 2>&1 \
    || { tail -40 "$work/build.log" >&2; exit 1; }
(cd "$wheels" && sha256sum horovod-*.whl > SHA256SUMS)
rm -rf "$work/horovod-0.28.1"
