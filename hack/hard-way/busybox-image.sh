#!/bin/sh
# Writes an OCI image layout of busybox, for the pods of the hard way: every applet, and a web page at
# /cgi-bin/who that says which pod answers and from which address the question came.
# Usage: hack/hard-way/busybox-image.sh DIRECTORY
set -eu

layout=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/bin" "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/www/cgi-bin" "$layout/blobs/sha256"
cp /bin/busybox "$root/bin/busybox"
busybox --list | while read -r applet; do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' > "$root/etc/passwd"
cp "$(dirname "$0")/who.cgi" "$root/www/cgi-bin/who"
chmod 755 "$root/www/cgi-bin/who"

# A blob is named by its digest; every step up the tree names the one below by digest and size.
blob() { # FILE MEDIA_TYPE: keeps the file, prints its descriptor's fields
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  size=$(wc -c < "$1")
  mv "$1" "$layout/blobs/sha256/$digest"
  printf '"mediaType":"%s","digest":"sha256:%s","size":%d' "$2" "$digest" "$size"
}
tar -C "$root" --sort=name --owner=0 --group=0 --mtime=@0 -cf "$work/layer" .
layer=$(blob "$work/layer" application/vnd.oci.image.layer.v1.tar)
diff_id=$(printf '%s' "$layer" | sed 's/.*"digest":"\([^"]*\)".*/\1/')
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["httpd","-f","-p","80","-h","/www"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
  "$arch" "$diff_id" > "$work/config"
config=$(blob "$work/config" application/vnd.oci.image.config.v1+json)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{%s},"layers":[{%s}]}' \
  "$config" "$layer" > "$work/manifest"
manifest=$(blob "$work/manifest" application/vnd.oci.image.manifest.v1+json)
printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"io.containerd.image.name":"localhost/busybox:latest"}}]}' \
  "$manifest" > "$layout/index.json"
echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
