#!/bin/sh
# Fetch wheels for the images' Python, whatever Python runs here: fetch.sh REQUIREMENTS INTO [PYTHON].
# Exactly the listed ones, as pip is told here about indexes, proxies and certificates.
set -eu
exec "${3:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --requirement "$1" --dest "$2" \
    --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --platform linux_x86_64 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_24_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64
