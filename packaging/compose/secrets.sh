#!/bin/sh
# Makes the secrets of compose.ha.yaml, once: run it in the folder of that file. Existing ones are kept.
set -eu
umask 077
mkdir -p secrets
cd secrets
[ -e postgres-password ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > postgres-password
[ -e secret-key ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > secret-key
[ -e database-url ] ||
    printf 'postgresql://tocsin:%s@postgres:5432/tocsin?sslmode=disable' "$(cat postgres-password)" > database-url
# The users in the containers read the files; nobody else can enter the folder.
chmod 444 postgres-password secret-key database-url
