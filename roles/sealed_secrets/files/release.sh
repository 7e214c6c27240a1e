#!/bin/sh
# release.sh SOURCE REPOSITORY: a Git repository with the chart or the manifests of SOURCE in the folder release, and an empty folder.
set -eu
manifests=
rm -rf "$2.new"
mkdir -p "$2.new/release" "$2.new/empty"
: > "$2.new/empty/.keep"
case $1 in
*.yaml | *.yml) manifests=$1 ;;
*) if [ -d "$1" ]; then
    cp -R "$1/." "$2.new/release/"
    chmod -R u+w "$2.new/release"
  else
    tar -xzf "$1" -C "$2.new/release" --strip-components=1 --no-same-owner
  fi ;;
esac
# The definition belongs to all controllers of a cluster, and it stays when they go, so it is a release of its own.
mkdir -p "$2.new/definition"
if [ "$manifests" ]; then
  # Each document stays on the lines that it has in the file, as messages name them.
  awk -v release="$2.new/release/manifests.yaml" -v definition="$2.new/definition/manifests.yaml" '
    function flush() {
      defined = defined (is_definition ? text : blank)
      rest = rest (is_definition ? blank : text)
      found += is_definition
      text = blank = ""
      is_definition = 0
    }
    /^---/ { flush() }
    /^kind:[ \t]*["\047]?CustomResourceDefinition["\047 \t\r]*(#.*)?$/ { is_definition = 1 }
    { text = text $0 "\n"; blank = blank "\n" }
    END {
      flush()
      printf "%s", rest > release
      if (found) printf "%s", defined > definition
    }' < "$manifests"
elif [ -d "$2.new/release/crds" ]; then
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
