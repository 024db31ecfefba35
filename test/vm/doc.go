// SPDX-License-Identifier: Apache-2.0

// Command vm runs the module's kernel tests on other kernels than the host's.
//
// In flow Go packages and names of Debian kernels; out flows one verdict a kernel and package. For each
// kernel it fetches Debian's image into the user's cache folder (nothing is installed), builds the test
// binaries of the packages statically, packs them with busybox into an initramfs, boots that under QEMU
// in software emulation, and reads the verdicts from the serial console. Emulation answers whether
// something works, never how fast.
//
// There are two guests: busybox, which starts in seconds and has nothing but the kernel, and with -guest debian a server with
// systemd and Debian's packages, whose root file system mmdebstrap makes once from the machine's own apt sources.
package main
