#!/bin/sh
# release.sh SOURCE REPOSITORY: a Git repository with the chart or the manifests of SOURCE in the folder release, and an empty folder.
set -eu
rm -rf "$2.new"
mkdir -p "$2.new/release" "$2.new/empty"
: > "$2.new/empty/.keep"
case $1 in
*.yaml | *.yml) cp "$1" "$2.new/release/manifests.yaml" ;;
*) if [ -d "$1" ]; then
    cp -R "$1/." "$2.new/release/"
    chmod -R u+w "$2.new/release"
  else
    tar -xzf "$1" -C "$2.new/release" --strip-components=1 --no-same-owner
  fi ;;
esac
# The definition belongs to all controllers of a cluster, so it is a release of its own.
mkdir -p "$2.new/definition"
if [ -d "$2.new/release/crds" ]; then
  find "$2.new/release/crds" -mindepth 1 -maxdepth 1 -exec mv {} "$2.new/definition/" \;
fi
: > "$2.new/definition/.keep"
cd "$2.new"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=nordic.gitops GIT_AUTHOR_EMAIL=nordic@example.invalid GIT_AUTHOR_DATE='2000-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=nordic.gitops GIT_COMMITTER_EMAIL=nordic@example.invalid GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
git init --quiet --initial-branch=main .
git add --all --force .
git commit --quiet --message 'The release of Sealed Secrets'
rm -rf "$2"
mv "$2.new" "$2"
