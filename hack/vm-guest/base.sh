# Makes the VM's root disk of Debian's packages, with a kernel and an initramfs beside it. Sourced by hack/vm.
guest=hack/vm-guest
suite=trixie
mirror=${CRI_TS_VM_MIRROR:-http://deb.debian.org/debian}
root_size=8G

# What the base is made of: it is made anew when one of these changes.
base_inputs="$guest/base.sh $guest/packages $guest/init $guest/cri-ts-vm $guest/cri-ts-vm.service"

# An ext4 disk of a directory, never mounted here: make_disk FILE DIRECTORY LABEL [SIZE]
make_disk() {
  size=${4:-$(du -sm "$2" | awk '{ print int($1 * 1.3) + 64 "M" }')}
  mke2fs -q -t ext4 -d "$2" -L "$3" -i 8192 -E root_owner=0:0 "$1" "$size" >/dev/null || die "no disk could be made of $2"
}

# Debian, as a kernel, an initramfs and a root disk.
make_base() {
  say "making the root disk of the VM: Debian $suite from $mirror"
  packages=$(grep -v '^#' "$guest/packages" | paste -sd,)
  excluded=()
  for directory in doc info man locale; do excluded+=("--dpkgopt=path-exclude=/usr/share/$directory/*"); done
  # The VM brings an initramfs of its own.
  if ! INITRD=No mmdebstrap --variant=minbase --include="$packages" "${excluded[@]}" "$suite" "$1/root" "$mirror" >"$1/mmdebstrap.log" 2>&1; then
    tail -n 20 "$1/mmdebstrap.log" >&2
    die 'mmdebstrap failed'
  fi
  set_up_base "$1/root"
  make_initramfs "$1"
  cp "$1"/root/boot/vmlinuz-* "$1/vmlinuz"
  rm "$1"/root/boot/*
  make_disk "$1/root.img" "$1/root" root "$root_size"
  rm -rf "$1/root"
}

set_up_base() {
  install -m 755 "$guest/cri-ts-vm" "$1/usr/local/sbin/cri-ts-vm"
  install -m 644 "$guest/cri-ts-vm.service" "$1/etc/systemd/system/cri-ts-vm.service"
  systemctl --quiet --root "$1" enable cri-ts-vm.service
  # Nothing of a machine that lives for minutes; and no container registry but the tests' own.
  systemctl --quiet --root "$1" disable docker-registry.service
  systemctl --quiet --root "$1" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@.service serial-getty@.service systemd-logind.service \
    systemd-hostnamed.socket systemd-networkd.service
  # Profiles of a hundred programs that are not there; compiling them would take longer than all else of the boot.
  find "$1/etc/apparmor.d" -maxdepth 1 -type f ! -name runc ! -name crun -delete
  echo cri-ts-vm >"$1/etc/hostname"
  echo '127.0.0.1 localhost cri-ts-vm' >"$1/etc/hosts"
  echo 'nameserver 10.0.2.3' >"$1/etc/resolv.conf"
  # Says that what is made once after an installation is there: the linker's cache and the like.
  touch "$1/etc/.updated" "$1/var/.updated"
  # One that is not there makes systemd take each boot for the first.
  tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
}

make_initramfs() {
  tree=$1/initramfs
  mkdir -p "$tree/bin" "$tree/modules" "$tree/dev" "$tree/root"
  cp "$1/root/bin/busybox" "$tree/bin/busybox"
  install -m 755 "$guest/init" "$tree/init"
  release=$(basename "$1"/root/lib/modules/*)
  for module in virtio_pci virtio_blk ext4; do
    modprobe --dirname "$1/root" --set-version "$release" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$1/modules"
  number=100
  while read -r file; do
    case $file in
      *.xz) xz -dc "$file" ;;
      *) cat "$file" ;;
    esac >"$tree/modules/$((number++))-$(basename "${file%.xz}")"
  done <"$1/modules"
  (cd "$tree" && find . | cpio --quiet --create --format newc) | gzip -1 >"$1/initramfs.gz"
  rm -rf "$tree"
}

