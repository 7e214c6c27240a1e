#!/bin/sh
# render.sh CHART VALUES NAMESPACE OUTPUT: what the chart makes of the values, with its definitions.
set -eu
output=$4
HELM_PLUGINS=/nonexistent
export HELM_PLUGINS
for number in 1 2; do
  helm template argocd "$1" --namespace "$3" --include-crds --skip-tests --values "$2" > "$4.$number"
done
fail() {
  rm -f "$output.1" "$output.2"
  echo "$@" >&2
  exit 1
}
if ! cmp -s "$4.1" "$4.2"; then
  # Names alone: what is drawn may be a password.
  keys=$(diff "$4.1" "$4.2" | sed -n 's/^> *\([A-Za-z0-9_.-]*\):.*/\1/p' | sort -u | tr '\n' ' ')
  fail "The chart draws something at random or writes the time, so each run would change it. Set it in argocd_values. It is in: $keys"
fi
if grep -Eq '^ +"?helm\.sh/hook"?:' "$4.1"; then
  files=$(awk '/^# Source: / { file = $3 } /^ +"?helm\.sh\/hook"?:/ { print file }' "$4.1" | sort -u | tr '\n' ' ')
  fail "The chart has hooks, which are not run. Switch them off in argocd_values (for the chart argo-cd: redisSecretInit.enabled: false). They are in: $files"
fi
rm -f "$4.2"
chmod 600 "$4.1"
mv "$4.1" "$4"
