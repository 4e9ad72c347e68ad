#!/bin/sh
# Signs images with the project's key, and verifies them. Images are named by digest: a tag may come to mean another one.
#
#   sign.sh sign REFERENCE@sha256:... SBOM     COSIGN_PRIVATE_KEY and COSIGN_PASSWORD are set
#   sign.sh verify REFERENCE                   COSIGN_PUBLIC_KEY is set; prints the digest that was signed
#
# A key, not an identity: that works on every GitLab and asks no public service. `cosign generate-key-pair
# gitlab://<group>/<project>` makes it and keeps it in the project's variables.
set -eu
cosign=${COSIGN:-cosign}
action=${1:-} reference=${2:-}

case $action in
  sign)
    : "${COSIGN_PRIVATE_KEY:?is not set: cosign generate-key-pair gitlab://<group>/<project> makes the key}"
    case $reference in *@sha256:*) ;; *) echo "sign.sh: $reference has no digest" >&2; exit 2 ;; esac
    $cosign sign --yes --tlog-upload=false --key env://COSIGN_PRIVATE_KEY "$reference"
    $cosign attest --yes --tlog-upload=false --key env://COSIGN_PRIVATE_KEY --type cyclonedx \
      --predicate "${3:?is the bill of materials}" "$reference"
    ;;
  verify)
    : "${COSIGN_PUBLIC_KEY:?is not set: the public half of the key that images are signed with}"
    if ! said=$($cosign verify --insecure-ignore-tlog=true --key env://COSIGN_PUBLIC_KEY --output json "$reference"); then
      echo "$reference isn't signed by this project: was it built, tested and signed by the pipeline of main?" >&2
      exit 1
    fi
    digest=$(echo "$said" | sed -n 's/.*"docker-manifest-digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' | head -n 1)
    case $digest in sha256:*) ;; *) echo "cosign named no digest of $reference" >&2; exit 1 ;; esac
    echo "$digest"
    ;;
  *)
    echo "sign.sh: sign or verify, not '$action'" >&2
    exit 2
    ;;
esac
