#!/bin/sh
# release.sh MANIFESTS KUSTOMIZATION REPOSITORY: a Git repository with the release in the folder release, its CustomResourceDefinitions, which
# stay when Argo CD goes, in the folder definitions, both together in the folder self-managed, and an empty folder.
set -eu
rm -rf "$3.new"
mkdir -p "$3.new/release" "$3.new/definitions" "$3.new/empty"
: > "$3.new/empty/.keep"
cp "$2" "$3.new/release/kustomization.yaml"
namespace=$(sed -n 's/^namespace: "\(.*\)"$/\1/p' "$2")
# The Secrets in it are nobody's to delete.
cat > "$3.new/release/namespace.yaml" <<EOF
apiVersion: v1
kind: Namespace
metadata:
  name: "$namespace"
  annotations:
    nordic.gitops/prune: disabled
EOF
# Each document stays on the lines that it has in the file, as messages name them.
awk -v release="$3.new/release/manifests.yaml" -v definitions="$3.new/definitions/manifests.yaml" '
  function flush() {
    defined = defined (is_definition ? text : blank)
    rest = rest (is_definition ? blank : text)
    text = blank = ""
    is_definition = 0
  }
  /^---/ { flush() }
  /^kind:[ \t]*["\047]?CustomResourceDefinition["\047 \t\r]*(#.*)?$/ { is_definition = 1 }
  { text = text $0 "\n"; blank = blank "\n" }
  END {
    flush()
    printf "%s", rest > release
    printf "%s", defined > definitions
  }' < "$1"
# All of it in one folder, for a repository that others write into too.
mkdir "$3.new/self-managed"
cp "$3.new/release/"*.yaml "$3.new/self-managed/"
cp "$3.new/definitions/manifests.yaml" "$3.new/self-managed/definitions.yaml"
sed -i 's/^  - namespace.yaml$/  - namespace.yaml\n  - definitions.yaml/' "$3.new/self-managed/kustomization.yaml"
cd "$3.new"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=nordic.gitops GIT_AUTHOR_EMAIL=nordic@example.invalid GIT_AUTHOR_DATE='2000-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=nordic.gitops GIT_COMMITTER_EMAIL=nordic@example.invalid GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
git init --quiet --initial-branch=main .
git add --all --force .
git commit --quiet --message 'The release of Argo CD'
rm -rf "$3"
mv "$3.new" "$3"
