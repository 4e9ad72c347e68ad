#!/bin/sh
# Takes the package managers, their interpreters and the documentation out of the base image's file system. What an
# attacker can't find can't help him, and what isn't there needs no patches. The list of installed packages stays,
# so that scanners see the rest.
set -eu

for package in apt libapt-pkg7.0 sqv perl-base debconf adduser e2fsprogs openssl util-linux mount login passwd \
  libpam-modules libpam-modules-bin libpam-runtime libpam0g libdb5.3t64 ncurses-bin diffutils sysvinit-utils \
  libsystemd0 libudev1 libsemanage2 libsepol2 libblkid1 libmount1 libsmartcols1; do
  dpkg --purge --force-all --no-triggers "$package" >/dev/null 2>&1 || true
done
rm -rf /var/lib/apt /var/cache/* /var/log/* /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/zoneinfo \
  /usr/share/perl* /usr/share/python-wheels /usr/lib/x86_64-linux-gnu/perl* /usr/lib/*-linux-gnu/gconv /var/lib/dpkg/info/*.md5sums
library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
for folder in ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo site-packages dist-packages; do
  rm -rf "${library:?}/$folder"
done
rm -rf "$library"/config-* /usr/local/include /usr/local/share/man /root/.cache /tmp/*
mkdir -p "$library/site-packages"
rm -f /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/2to3* /usr/local/bin/pydoc* /usr/local/bin/*-config
