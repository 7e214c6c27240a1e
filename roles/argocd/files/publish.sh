#!/bin/sh
# publish.sh URL BRANCH FOLDER FILES WORK check|push: the files in a folder of a branch, by one commit where they differ. Says whether they did, and the commit.
set -eu
export GIT_TERMINAL_PROMPT=0
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
say() { echo "$@" >&2; }
for try in 1 2 3 4 5; do
  rm -rf "$5"
  git clone --quiet --no-tags --depth 1 -- "$1" "$5"
  if git -C "$5" fetch --quiet --depth 1 origin "refs/heads/$2"; then
    git -C "$5" checkout --quiet -B "$2" FETCH_HEAD
  elif git -C "$5" ls-remote --exit-code --heads origin > /dev/null; then
    say "$1 has no branch $2."
    exit 1
  else
    git -C "$5" symbolic-ref HEAD "refs/heads/$2" # the repository is empty
  fi
  there="$5/$3/kustomization.yaml"
  if [ -e "$there" ] && ! grep -q '^# Written by the role nordic.gitops.argocd\.$' "$there"; then
    say "The folder $3 of $1 has a kustomization.yaml that this role has not written. Name another folder in argocd_manifests_path."
    exit 1
  fi
  mkdir -p "$5/$3"
  cp "$4"/*.yaml "$5/$3/"
  git -C "$5" add --force -- "$3"
  if git -C "$5" diff --cached --quiet; then
    echo "unchanged $(git -C "$5" rev-parse HEAD)"
    exit 0
  fi
  if [ "$6" = check ]; then
    echo "changed $(git -C "$5" rev-parse --verify --quiet HEAD || echo none)"
    exit 0
  fi
  git -C "$5" config user.name > /dev/null || git -C "$5" config user.name nordic.gitops
  git -C "$5" config user.email > /dev/null || git -C "$5" config user.email nordic@example.invalid
  git -C "$5" commit --quiet --message "Argo CD, written by the role nordic.gitops.argocd"
  if git -C "$5" push --quiet origin "HEAD:refs/heads/$2"; then
    echo "changed $(git -C "$5" rev-parse HEAD)"
    exit 0
  fi
  sleep "$try" # somebody else pushed meanwhile
done
say "Nothing could be pushed to the branch $2 of $1."
exit 1
