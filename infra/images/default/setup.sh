#!/bin/sh
# Make a Debian root with the packages of apt.txt the default image: setup.sh PARTS, run inside that root,
# PARTS being what gather.sh fetched. Needs no network.
set -eu
parts=$1
export HOME=/root LC_ALL=C.UTF-8

# pip belongs to whoever uses the sandbox: it is a machine of one's own, so PEP 668's guard has nothing to protect.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
printf '[global]\nbreak-system-packages = true\nroot-user-action = ignore\ndisable-pip-version-check = true\n' >/etc/pip.conf
python3 -m pip install --quiet --no-index --no-deps --no-cache-dir --no-compile "$parts"/wheels/*.whl
# Their own tests are a fifth of the size and of no use here.
find /usr/local/lib/python3*/dist-packages \( -name tests -o -name test \) -type d \
    -not -path '*/jedi/*' -not -path '*/parso/*' -prune -exec rm -r {} +
# Whoever boots this image has a later clock than these files, so their age may vouch for what is compiled; a hash, the
# choice of reproducible builds, would be computed again at every import (pandas: 0.6 s instead of 0.45).
find /usr/local/lib/python3*/dist-packages -name '*.py' -exec touch -d "@${SOURCE_DATE_EPOCH:-1704067200}" {} +
python3 -m compileall -q -f -j 0 --invalidation-mode timestamp /usr/local/lib/python3*/dist-packages /usr/lib/python3.11

install -m 755 "$parts/node/bin/node" /usr/local/bin/node
mkdir -p /usr/local/lib/node_modules
cp -R "$parts/node/lib/node_modules/npm" "$parts"/npm/node_modules/* /usr/local/lib/node_modules
rm -rf /usr/local/lib/node_modules/npm/docs /usr/local/lib/node_modules/npm/man
chmod 755 /usr/local/lib/node_modules/npm/bin/*
ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
for link in "$parts"/npm/node_modules/.bin/*; do
    ln -s "../lib/node_modules/$(readlink "$link" | sed 's|^\.\./||')" "/usr/local/bin/$(basename "$link")"
done
# For logins, which forget the image's environment. NODE_PATH: a script anywhere may require a global package.
printf 'LANG=C.UTF-8\nNODE_PATH=/usr/local/lib/node_modules\n' >/etc/environment

# Without the capability that the package gives it, which no sandbox has, and with which it would not even start.
cp /usr/bin/ping /usr/bin/ping.plain && mv /usr/bin/ping.plain /usr/bin/ping

groupadd --gid 1000 daytona
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash daytona
printf 'daytona ALL=(ALL) NOPASSWD:ALL\nDefaults !fqdn\n' >/etc/sudoers.d/daytona
chmod 440 /etc/sudoers.d/daytona
# pip and npm -g install for everybody, without sudo: whoever has sudo anyway is kept from nothing.
chown -R daytona:daytona /usr/local
install -d -o daytona -g daytona /home/daytona/.local /home/daytona/.local/bin

# matplotlib looks for fonts at its first import, which takes seconds: have it found them already.
for user in daytona root; do
    su "$user" -c 'MPLBACKEND=Agg python3 -c "import matplotlib.font_manager"' >/dev/null
done

printf 'LANG=C.UTF-8\n' >/etc/default/locale
# What the builder told apt (proxies, for one) is the builder's own affair.
rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/apt/sources.list.d/debian.sources
printf 'Acquire::Languages "none";\n' >/etc/apt/apt.conf.d/99-no-translations
printf '%s\n' \
    'deb http://deb.debian.org/debian bookworm main' \
    'deb http://deb.debian.org/debian bookworm-updates main' \
    'deb http://deb.debian.org/debian-security bookworm-security main' >/etc/apt/sources.list
# Not all of /tmp: the builder's own configuration of apt lies there, and without it apt would tidy the builder's machine.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt /tmp/node-compile-cache
