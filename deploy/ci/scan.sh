#!/bin/sh
# Looks for known holes: scan.sh image REFERENCE | scan.sh fs PATH. Everything found is in scan.txt and, for GitLab, in
# scan.json; a critical one that has a fix ends it with exit code 1. TRIVY names the program.
set -eu
kind=${1:?image or fs} what=${2:?what to look at}
trivy=${TRIVY:-trivy}
case $kind in image | fs) ;; *) echo "scan.sh: image or fs, not $kind" >&2; exit 2 ;; esac

$trivy "$kind" --quiet --scanners vuln --format json --output found.json "$what"
$trivy convert --quiet --format table --output scan.txt found.json
$trivy convert --quiet --format template --template "@${TRIVY_TEMPLATES:-/contrib}/gitlab.tpl" --output scan.json found.json
if [ "$kind" = fs ]; then
  # One template for both kinds; GitLab takes a report for the kind that it says it is.
  sed -i 's/"type": "container_scanning"/"type": "dependency_scanning"/' scan.json
fi
cat scan.txt
$trivy "$kind" --quiet --scanners vuln --severity CRITICAL --ignore-unfixed --exit-code 1 --format table "$what"
